"""Speed of every degradation: ``python -m degradations.bench [--size N] [--json]``.

One image per call on one thread, severity 3, best of several calls: other work on the machine can
only slow a call down. ``torch.randn`` and a copy of the same tensor are timed beside them.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence


def measure(size: int, repeats: int, device: str) -> list[dict[str, float | str]]:
    """Time every degradation on one gray or colour image.

    Args:
        size: Height and width of the image.
        repeats: Timed calls after one to warm up.
        device: Torch device.

    Returns:
        Rows with ``name``, ``channels``, ``milliseconds`` (best) and ``images_per_second``.
    """
    import torch

    import degradations
    from degradations.random_fields import normal

    def clock(call: Callable[[], object]) -> float:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.accelerator.synchronize()
            times.append(time.perf_counter() - start)
        return min(times[1:])

    rows: list[dict[str, float | str]] = []

    def record(name: str, channels: int, call: Callable[[], object]) -> None:
        seconds = clock(call)
        rows.append(
            {
                "name": name,
                "channels": channels,
                "milliseconds": round(seconds * 1e3, 3),
                "images_per_second": round(1 / seconds, 1),
            }
        )

    key = degradations.Key(0, "bench", "bench")
    for channels in (1, 3):
        image = torch.rand(1, channels, size, size, device=device)
        record("(copy)", channels, image.clone)
        record("(torch.randn)", channels, functools.partial(torch.randn_like, image))
        record(
            "(random_fields.normal)",
            channels,
            functools.partial(normal, key, "bench", image.shape, device),
        )
        for name in degradations.names():
            entry = degradations.get(name)
            if entry.channels not in (None, channels) or (entry.domain == "hu" and channels == 3):
                continue
            pixels = image * 1000.0 - 900.0 if entry.domain == "hu" else image
            record(
                name,
                channels,
                functools.partial(
                    degradations.apply,
                    pixels,
                    f"{name}:3",
                    domain=entry.domain,
                    ids=["bench"],
                    seed=0,
                ),
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or JSON."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="height and width (512)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls (5)")
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = measure(chosen.size, chosen.repeats, chosen.device)
    if chosen.json:
        print(json.dumps({"size": chosen.size, "device": chosen.device, "rows": rows}, indent=2))
        return
    print(f"{'degradation':28s}{'channels':>9s}{'ms':>10s}{'images/s':>10s}")
    for row in rows:
        print(
            f"{row['name']:28s}{row['channels']:>9}{row['milliseconds']:>10.2f}"
            f"{row['images_per_second']:>10.1f}"
        )


if __name__ == "__main__":
    main()
