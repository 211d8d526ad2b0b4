"""Speed of every degradation: ``python -m degradations.bench [--device cpu] [--peers]``.

Images per second at 512 by 512, gray and RGB, one image and sixteen per call, at severity 3. With
``--peers`` each operation is set to the strength that other libraries are given, and timed beside
those of them that are installed: all take turns of 10 ms or one call, so that other work on the
machine slows them alike, and the median of the turns counts, for ratios that of the ratios of turns
side by side. Pictures are uint8 (H, W, C), as files are decoded, unless ``--dtype float32``; a peer
gets the type it wants, and making it is not timed.
"""

from __future__ import annotations

import argparse
import functools
import json
import operator
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Call = Callable[[], object]
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
#: Least duration of a turn.
_TURN_SECONDS = 0.01

#: The strength at which peers are timed; those of their names that say it differently agree.
STRENGTHS: Mapping[str, Mapping[str, float]] = {
    "general/gaussian_noise": {"sigma": 0.18},
    "general/shot_noise": {"photons": 12.0, "linear_light": 0.0},
    "general/speckle_noise": {"sigma": 0.35},
    "general/impulse_noise": {"amount": 0.09},
    "general/gaussian_blur": {"sigma_px": 3.0},
    "general/defocus_blur": {"radius_px": 6.0, "linear_light": 0.0},
    "general/motion_blur": {"length_px": 31.0, "angle_deg": 30.0, "linear_light": 0.0},
    "general/zoom_blur": {"factor": 1.2, "linear_light": 0.0},
    "general/low_resolution": {"scale": 0.4, "interpolated": 0.0, "share": 1.0},
    "general/jpeg": {"quality": 15},
    "ct/low_dose": {"views": 180.0, "photons": 1e5, "electronic": 10.0},
    "ct/sparse_view": {"views": 180.0, "kept": 45.0},
    "general/brightness_up": {"shift": 0.3},
    "general/brightness_down": {"shift": -0.3},
    "general/contrast_up": {"factor": 1.3},
    "general/contrast_down": {"factor": 0.7},
    "general/exposure_up": {"stops": 0.3785},
    "general/exposure_down": {"stops": -0.5146},
    "general/gamma_up": {"gamma": 1.5},
    "general/gamma_down": {"gamma": 0.7},
    "general/bit_depth": {"levels": 16},
    "general/saturation_up": {"factor": 1.4},
    "general/saturation_down": {"factor": 0.6},
    "general/hue": {"angle_deg": 36.0},
    "general/black_corner": {"radius_px": 256.0, "edge_px": 1.0},
    "general/characters": {"count": 11.0, "height_px": 3.15},
    "general/rotation": {"angle_deg": 10.0},
    "general/translation": {"right_px": 51, "down_px": 51},
    "mri/motion": {"shift_px": 10.0, "angle_deg": 3.0},
    "mri/ghosting": {"phase": 0.8, "period_lines": 4.0},
    "mri/spike": {"ratio": 1.0, "across_cycles": 14.0, "down_cycles": 14.0},
    "mri/gibbs": {"cutoff_cycles": 145.0},
    "mri/rician": {"sigma": 0.05},
    "mri/anisotropy": {"thickness": 3.0 / 512.0},
}


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: Degradation, or a primitive in brackets.
        channels: 1 or 3.
        batch: Images per call.
        images_per_second: Median of the turns.
        peers: The same for other libraries.
        ratios: Our speed over each of theirs: the median of turns side by side. Where the machine
            is fast and slow by turns, this is steadier than the ratio of the medians.
    """

    name: str
    channels: int
    batch: int
    images_per_second: float
    peers: Mapping[str, float]
    ratios: Mapping[str, float]

    @property
    def ratio(self) -> float | None:
        """Our speed over that of the fastest peer; None without peers."""
        return min(self.ratios.values()) if self.ratios else None


def measure(
    names: Sequence[str],
    *,
    size: int = 512,
    batches: Sequence[int] = (1, 16),
    rounds: int = 5,
    device: str = "cpu",
    dtype: str = "uint8",
    with_peers: bool = False,
    seconds: float = 0.1,
    clock: str = "wall",
) -> Iterator[Row]:
    """Time degradations.

    Args:
        names: Which.
        size: Height and width of the images.
        batches: Images per call.
        rounds: Least turns of each library; the median of its turns counts.
        device: Torch device.
        dtype: ``uint8`` or ``float32``.
        with_peers: Whether to time other libraries beside.
        seconds: Least time of each library, for each round; what is quick has more turns.
        clock: ``wall``, or ``cpu`` for the time this process was at work, which other work on
            the machine lengthens less.

    Yields:
        A row for each name, number of channels and batch size that fit.
    """
    import torch

    import degradations
    from degradations import peers

    for channels in (1, 3):
        picture = _picture(size, channels)
        for batch in batches:
            pixels = _batch(picture, batch, dtype, device)
            copy = {"": functools.partial(torch.clone, pixels)}
            yield _row("(copy)", channels, batch, copy, rounds, seconds, device, clock)
            for name in names:
                entry = degradations.get(name)
                if entry.channels not in (None, channels) or (entry.domain, channels) == ("hu", 3):
                    continue
                image = pixels
                if entry.domain == "hu":
                    image = _batch(picture, batch, "float32", device) * 1000.0 - 900.0
                calls: dict[str, Call] = {"": _ours(name, image, with_peers)}
                if with_peers:
                    calls |= dict(peers.calls(name, picture, batch))
                yield _row(name, channels, batch, calls, rounds, seconds, device, clock)


def _ours(name: str, pixels: Tensor, equal: bool) -> Call:
    import degradations

    # What takes signals runs on display pixels too.
    domain = "hu" if degradations.get(name).domain == "hu" else "display"
    ids = [str(row) for row in range(len(pixels))]
    spec = f"{name}:3"
    if not equal or name not in STRENGTHS:
        return lambda: degradations.apply(pixels, spec, domain=domain, ids=ids, seed=0)
    told = [degradations.explain(spec, pixels.shape, id=image_id) for image_id in ids]
    for (step,) in told:
        unknown = sorted(set(STRENGTHS[name]) - set(step["numbers"]))
        if unknown:
            raise KeyError(f"{name} has no number {', '.join(unknown)}; see degradations.explain")
        step["numbers"] |= STRENGTHS[name]
    return lambda: degradations.replay(pixels, told, domain=domain)


def _row(
    name: str,
    channels: int,
    batch: int,
    calls: Mapping[str, Call],
    rounds: int,
    seconds: float,
    device: str,
    clock: str,
) -> Row:
    """Time calls that take turns.

    The speed of a shared machine changes within a second; short turns, in an order that is
    reversed each time, let all calls meet the same.
    """
    speeds: dict[str, list[float]] = {who: [] for who in calls}
    spent = dict.fromkeys(calls, 0.0)
    for call in calls.values():
        call()
    waiting = list(calls)
    while waiting:
        for who in waiting:
            count, lasted = _turn(calls[who], device, _CLOCKS[clock])
            speeds[who].append(batch * count / lasted)
            spent[who] += lasted
        waiting = [
            who
            for who in reversed(waiting)
            if len(speeds[who]) < rounds or spent[who] < rounds * seconds
        ]
    medians = {who: round(statistics.median(each), 1) for who, each in speeds.items()}
    ours = speeds.pop("")
    ratios = {
        who: round(statistics.median(map(operator.truediv, ours, theirs)), 4)
        for who, theirs in speeds.items()
    }
    return Row(name, channels, batch, medians.pop(""), medians, ratios)


def _turn(call: Call, device: str, clock: Callable[[], float]) -> tuple[int, float]:
    """Calls that were made, at least one, and the seconds that they took."""
    import torch

    start, count = clock(), 0
    while True:
        call()
        count += 1
        if device != "cpu":
            torch.accelerator.synchronize()
        spent = clock() - start
        if spent >= _TURN_SECONDS:
            return count, spent


def _picture(size: int, channels: int) -> Any:  # noqa: ANN401
    """A smooth picture with fine texture, uint8 (H, W) or (H, W, 3)."""
    import numpy as np

    place = (np.arange(size) + 0.5) / size
    x, y = place[None], place[:, None]
    planes = [
        0.5 + 0.3 * np.sin(7.0 * x + 5.0 * y + phase) + 0.1 * np.sin(250.0 * x) * np.sin(190.0 * y)
        for phase in range(channels)
    ]
    levels = np.rint(np.stack(planes, axis=-1).clip(0, 1) * 255).astype(np.uint8)
    return levels[..., 0] if channels == 1 else levels


def _batch(picture: Any, batch: int, dtype: str, device: str) -> Tensor:  # noqa: ANN401
    """(B, C, H, W) in the memory layout of the picture."""
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.stack([np.atleast_3d(picture)] * batch)).permute(0, 3, 1, 2)
    return (pixels if dtype == "uint8" else pixels.float().div(255.0)).to(device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table as it grows, or JSON at the end."""
    import cv2
    import torch

    import degradations
    from degradations import kernels, peers

    parser = argparse.ArgumentParser(
        prog="python -m degradations.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="degradations (all)")
    parser.add_argument("--size", type=int, default=512, help="height and width (512)")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16], help="(1 16)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="least turns, and tenths of a second (5)"
    )
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    parser.add_argument("--threads", type=int, default=1, help="threads on the CPU (1)")
    parser.add_argument("--dtype", choices=("uint8", "float32"), default="uint8")
    parser.add_argument("--clock", choices=tuple(_CLOCKS), default="wall", help="(wall)")
    parser.add_argument("--peers", action="store_true", help="time other libraries beside")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    if chosen.clock == "cpu" and chosen.device != "cpu":
        parser.error("--clock cpu times a CPU; leave it out for other devices")
    torch.set_num_threads(chosen.threads)
    cv2.setNumThreads(chosen.threads)
    names = [degradations.get(name).name for name in chosen.names] or degradations.names()
    rows = []
    if not chosen.json:
        print(f"{'degradation':28s}{'channels':>9}{'batch':>6}{'images/s':>11}  ", end="")
        print("ratio to the fastest peer" if chosen.peers else "")
    for row in measure(
        names,
        size=chosen.size,
        batches=chosen.batch,
        rounds=chosen.rounds,
        device=chosen.device,
        dtype=chosen.dtype,
        with_peers=chosen.peers,
        clock=chosen.clock,
    ):
        rows.append(row)
        if not chosen.json:
            beside = ", ".join(f"{peer} {speed:,.0f}" for peer, speed in row.peers.items())
            ratio = f"{row.ratio:5.2f}  ({beside})" if row.ratio else ""
            print(f"{row.name:28s}{row.channels:>9}{row.batch:>6}{row.images_per_second:>11,.1f}"
                  f"  {ratio}", flush=True)  # fmt: skip
    ratios = [row.ratio for row in rows if row.ratio is not None]
    facts = {
        "size": chosen.size,
        "device": chosen.device,
        "threads": chosen.threads,
        "clock": chosen.clock,
        "dtype": chosen.dtype,
        "numba": kernels.compiled(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "machine": platform.processor() or platform.machine(),
        "peers": peers.versions() if chosen.peers else {},
        "median_ratio": statistics.median(ratios) if ratios else None,
        "least_ratio": min(ratios) if ratios else None,
    }
    if chosen.json:
        print(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=2))
        return
    if ratios:
        print(f"median ratio {facts['median_ratio']:.2f}, least {facts['least_ratio']:.2f}")
    print({key: value for key, value in facts.items() if "ratio" not in key}, file=sys.stderr)


if __name__ == "__main__":
    main()
