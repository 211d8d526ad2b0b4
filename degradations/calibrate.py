"""Choose severities so that the same level means the same loss of structural similarity.

``python -m degradations.calibrate`` takes every entry whose table names the parameter to
``calibrate``, and finds at each level the value at which the mean SSIM over the reference scenes
meets the target of that level. ``--write`` puts the values into ``severities/*.toml``, and what was
measured, with the hash of the scenes, into ``severities/calibration.toml``; ``--check`` measures
the committed values again.

Where even the strongest sensible value (``strongest`` in the table, or the point from which SSIM
falls no further) does not reach the last target, the targets of that entry are drawn up in
proportion, so that its five levels still share out evenly what damage it can do.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import degradations
from degradations import scenes
from degradations.degradation import Degradation

if TYPE_CHECKING:
    from torch import Tensor

#: Mean SSIM wanted at severities 1 to 5.
TARGETS = (0.93, 0.84, 0.73, 0.62, 0.50)
#: How far a committed value may be from its target, in SSIM.
TOLERANCE = 0.02
#: Side of the reference scenes while calibrating, in pixels.
SIZE = 256
#: Window that CT scenes are taken to have been made with: centre and width in Hounsfield units.
WINDOW = (40.0, 400.0)
FOLDER = Path(__file__).parent / "severities"
RECORD = FOLDER / "calibration.toml"

_DIGITS = 3


@dataclass(frozen=True)
class Picture:
    """A clean picture: name (its image id), modality or None for any, uint8 (C, H, W)."""

    name: str
    modality: str | None
    pixels: Tensor


@dataclass(frozen=True)
class Row:
    """One level of one entry."""

    name: str
    severity: int
    parameter: str
    value: float
    ssim: float
    psnr: float
    target: float


@dataclass(frozen=True)
class Dial:
    """The parameter of an entry that calibration turns.

    Attributes:
        name: Of the parameter.
        strongest: Value beyond which it makes no sense; None where SSIM alone decides.
        whole: Whether only whole numbers differ (a JPEG quality).
    """

    name: str
    strongest: float | None
    whole: bool


def dials() -> dict[str, Dial]:
    """What calibration turns, by entry: those whose table says ``calibrate = "<parameter>"``."""
    found = {}
    for path in sorted(FOLDER.glob("*.toml")):
        if path == RECORD:
            continue
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if "calibrate" in table:
                row = table["parameters"][table["calibrate"]]
                strongest = row.get("strongest")
                found[name] = Dial(
                    name=table["calibrate"],
                    strongest=None if strongest is None else float(strongest),
                    whole=row.get("whole", False),
                )
    return {name: found[name] for name in degradations.names() if name in found}


def reference() -> list[Picture]:
    """The reference scenes, as pictures."""
    return [
        Picture(f"{modality}-{seed}", modality, scenes.draw(modality, SIZE, seed))
        for modality, seed in scenes.REFERENCE
    ]


def suited(entry: Degradation, pictures: Iterable[Picture]) -> list[Picture]:
    """The pictures that an entry is made for."""
    return [
        picture
        for picture in pictures
        if (
            entry.modalities is None
            or picture.modality is None
            or picture.modality in entry.modalities
        )
        and entry.channels in (None, picture.pixels.shape[0])
    ]


def measure(
    name: str, severity: int, value: float, pictures: Sequence[Picture], parameter: str
) -> tuple[float, float]:
    """Mean SSIM and PSNR of an entry with one parameter set by hand.

    Args:
        name: Of the entry.
        severity: Level that the other parameters are taken at.
        value: Of the parameter.
        pictures: What it is measured on.
        parameter: Its name.

    Returns:
        SSIM (Wang et al. 2004) and PSNR in dB, each a mean over the pictures.
    """
    from degradations.similarity import psnr, ssim

    entry = degradations.get(name)
    total = [0.0, 0.0]
    for picture in pictures:
        pixels = picture.pixels[None]
        told = degradations.explain(f"{name}:{severity}", pixels.shape, id=picture.name)[0]
        told["parameters"][parameter] = value
        size = (pixels.shape[-2], pixels.shape[-1])
        key = degradations.Key(told["seed"], picture.name, name, 0)
        told["numbers"] = entry.resolve(told["parameters"], size, None, key)
        window = WINDOW if entry.domain == "hu" else None
        bad = degradations.replay(pixels, [[told]], domain="display", assume_window=window)
        before, after = (batch[0].permute(1, 2, 0).numpy() for batch in (pixels, bad))
        total[0] += ssim(before, after)
        total[1] += min(psnr(before, after), 100.0)
    return total[0] / len(pictures), total[1] / len(pictures)


def solve(
    similarity: Callable[[float], float],
    identity: float,
    start: float,
    strongest: float | None,
    targets: Sequence[float] = TARGETS,
) -> tuple[list[float], list[float]]:
    """Parameter values at which a similarity that falls from 1 meets each target.

    Args:
        similarity: SSIM as a function of the parameter; 1 at ``identity``.
        identity: Value that does nothing; may be infinite.
        start: A value known to do damage; which side of ``identity`` it is on sets the direction.
        strongest: Value beyond which not to go; None for none.
        targets: Falling.

    Returns:
        Values, and the targets that they meet: the given ones, or those drawn up in proportion
        where the last cannot be reached.
    """
    from scipy.optimize import brentq

    similarity = functools.cache(similarity)
    end = start if strongest is None else strongest
    if strongest is None:
        for _ in range(20):
            further = end / 1.5 if end < identity else identity + (end - identity) * 1.5
            if similarity(end) <= targets[-1] or similarity(further) > similarity(end) - 0.003:
                break
            end = further
    floor = similarity(end)
    if floor > targets[-1]:
        share = (1.0 - floor) / (1.0 - targets[-1])
        targets = [1.0 - share * (1.0 - target) for target in targets]

    # Along `place` the parameter runs from identity (0) to the end (1); one over it if it starts
    # at infinity.
    def value(place: float) -> float:
        if math.isinf(identity):
            return math.inf if place == 0.0 else end / place
        return identity + (end - identity) * place

    def excess(place: float, target: float) -> float:
        return 1.0 - target if place == 0.0 else similarity(value(place)) - target

    values, low = [], 0.0
    for target in targets:
        if excess(1.0, target) >= 0.0:
            low = 1.0
        elif excess(low, target) > 0.0:
            low = float(brentq(excess, low, 1.0, args=(target,), xtol=1e-4, rtol=1e-3))
        values.append(value(low))
    return values, list(targets)


def calibrate(name: str, dial: Dial, pictures: Sequence[Picture]) -> list[Row]:
    """Find the five values of one entry.

    Raises:
        ValueError: No picture suits it, or two levels come out alike.
    """
    entry = degradations.get(name)
    shown = suited(entry, pictures)
    if not shown:
        raise ValueError(f"{name}: none of the pictures suits it")
    curve = entry.curves[dial.name]

    # Other parameters that grow with severity are held at their middle level while one turns.
    def similarity(value: float) -> float:
        return measure(name, 3, value, shown, dial.name)[0]

    values, targets = solve(similarity, curve.identity, curve.values[-1], dial.strongest)
    rows: list[Row] = []
    for severity, (value, target) in enumerate(zip(values, targets, strict=True), 1):
        taken = {row.value for row in rows}
        nearest = min(
            (
                choice
                for choice in _rounded(value, curve.identity, dial.whole)
                if choice not in taken
            ),
            key=lambda choice: abs(similarity(choice) - target),
            default=None,
        )
        if nearest is None:
            raise ValueError(f"{name}: levels {severity - 1} and {severity} come out alike")
        found = measure(name, severity, nearest, shown, dial.name)
        rows.append(Row(name, severity, dial.name, nearest, *found, target))
    return rows


def _rounded(value: float, identity: float, whole: bool) -> list[float]:
    """The value as it would be written; both neighbours where only whole numbers differ.

    Three digits are kept of the value and of its distance from the identity.
    """
    if whole:
        return [float(math.floor(value)), float(math.ceil(value))]
    smallest = min(abs(value), abs(value - identity))
    decimals = _DIGITS - 1 - math.floor(math.log10(smallest))
    return [round(value, max(decimals, 0)) if smallest < 1000.0 else float(f"{value:.3g}")]


def rewritten(text: str, name: str, parameter: str, values: Sequence[float]) -> str:
    """A severity table with the values of one parameter of our own scale replaced.

    Nothing else changes, comments included.

    Raises:
        ValueError: The table is not laid out as ``["name".parameters.parameter]``.
    """
    listed = "[" + ", ".join(f"{value:.6g}" for value in values) + "]"
    section = re.compile(
        rf'(^\["{re.escape(name)}"\.parameters\.{re.escape(parameter)}\].*\n(?:(?!\[).*\n)*?'
        r"values = )\[[^\]]*\]",
        re.MULTILINE,
    )
    changed, count = section.subn(rf"\g<1>{listed}", text)
    row = tomllib.loads(changed).get(name, {}).get("parameters", {}).get(parameter, {})
    if count != 1 or [float(f"{value:.6g}") for value in values] != row.get("values"):
        raise ValueError(f'write {parameter} as a section ["{name}".parameters.{parameter}]')
    return changed


def record(rows: Sequence[Row], versions: Mapping[str, str], today: datetime.date) -> str:
    """What ``severities/calibration.toml`` holds."""

    def listed(numbers: Iterable[float]) -> str:
        return "[" + ", ".join(f"{number:.3f}" for number in numbers) + "]"

    lines = [
        "# What `python -m degradations.calibrate --write` measured; `--check` measures it again.",
        "# `target` differs from the common one where an entry cannot do so much damage.",
        "",
        f"date = {today.isoformat()}",
        f"target = {listed(TARGETS)}",
        "",
        "[scenes]",
        f"count = {len(scenes.REFERENCE)}",
        f"size = {SIZE}",
        f'sha256 = "{scenes.digest(SIZE)}"',
        "",
        "[versions]",
        *(f'{library} = "{version}"' for library, version in sorted(versions.items())),
    ]
    for name in dict.fromkeys(row.name for row in rows):
        levels = [row for row in rows if row.name == name]
        lines += [
            "",
            f'["{name}"]',
            f"version = {degradations.get(name).version}",
            f'parameter = "{levels[0].parameter}"',
            f"target = {listed(row.target for row in levels)}",
            f"ssim = {listed(row.ssim for row in levels)}",
            "psnr = [" + ", ".join(f"{row.psnr:.1f}" for row in levels) + "]",
        ]
    return "\n".join(lines) + "\n"


def differences(
    name: str, dial: Dial, pictures: Sequence[Picture], levels: Sequence[int] = (1, 2, 3, 4, 5)
) -> list[str]:
    """What of the committed calibration of one entry no longer holds; empty where all does."""
    committed: dict[str, Any] = tomllib.loads(RECORD.read_text(encoding="utf-8")).get(name, {})
    entry = degradations.get(name)
    if not committed:
        return [f"{name}: not in {RECORD.name}"]
    if (committed["version"], committed["parameter"]) != (entry.version, dial.name):
        return [f"{name}: calibrated as version {committed['version']} {committed['parameter']!r}"]
    wrong = []
    for level in levels:
        value = entry.curves[dial.name].values[level - 1]
        ssim, _ = measure(name, level, value, suited(entry, pictures), dial.name)
        was, target = committed["ssim"][level - 1], committed["target"][level - 1]
        if abs(ssim - was) > 0.002:
            wrong.append(f"{name}:{level}: SSIM is {ssim:.3f}, was {was:.3f}")
        elif abs(ssim - target) > TOLERANCE and not dial.whole:
            wrong.append(f"{name}:{level}: SSIM is {ssim:.3f}, target {target:.3f}")
    return wrong


def scenes_changed() -> str | None:
    """How the scenes differ from those that were calibrated on; None if they do not."""
    committed = tomllib.loads(RECORD.read_text(encoding="utf-8"))["scenes"]
    size = committed["size"]
    if (size, committed["sha256"]) == (SIZE, scenes.digest(SIZE)):
        return None
    return f"the reference scenes at {size} pixels are not those of {RECORD.name}"


def _folder(path: Path) -> list[Picture]:
    """Pictures of a folder, gray or RGB."""
    import numpy as np
    import torch
    from PIL import Image

    kinds = set(Image.registered_extensions())
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in kinds)
    if not files:
        raise ValueError(f"{path}: no pictures in this folder")
    pictures = []
    for file in files:
        with Image.open(file) as image:
            gray = image.mode in ("1", "L", "I", "I;16", "F")
            levels = np.array(image.convert("L" if gray else "RGB"))
        planes = levels[None] if gray else levels.transpose(2, 0, 1)
        pixels = torch.from_numpy(np.ascontiguousarray(planes))
        pictures.append(Picture(file.name, None, pixels))
    return pictures


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "opencv-python-headless", "torch")}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m degradations.calibrate",
        description="Find severities of equal mean SSIM on the reference scenes.",
    )
    parser.add_argument("names", nargs="*", help="entries; all that can be calibrated by default")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put the values into the tables")
    action.add_argument("--check", action="store_true", help="only verify the committed values")
    action.add_argument("--images", type=Path, metavar="FOLDER", help="measure on these instead")
    chosen = parser.parse_args(arguments)
    known = dials()
    for name in chosen.names:
        if name not in known:
            parser.error(f"{name!r} is not calibrated; those that are: {', '.join(known)}")
    if chosen.write and chosen.names:
        parser.error("--write calibrates all entries, so that the record has one date and hash")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    import torch
    from tqdm import tqdm

    chosen = _arguments(arguments)
    torch.set_num_threads(1)
    turned = {name: dial for name, dial in dials().items() if name in (chosen.names or dials())}
    pictures = _folder(chosen.images) if chosen.images else reference()
    if chosen.check:
        changed = scenes_changed()
        wrong = [changed] if changed else []
        for name, dial in tqdm(turned.items(), unit="entry"):
            wrong += differences(name, dial, pictures)
        print("\n".join(wrong) or f"{len(turned)} entries hold their targets")
        return 1 if wrong else 0
    rows: list[Row] = []
    for name, dial in tqdm(turned.items(), unit="entry"):
        rows += calibrate(name, dial, pictures)
    print(f"{'entry':28}{'severity':>9}  {'parameter':22}{'SSIM':>6}{'PSNR':>7}{'target':>8}")
    for row in rows:
        setting = f"{row.parameter} {row.value:g}"
        print(
            f"{row.name:28}{row.severity:>9}  {setting:22}"
            f"{row.ssim:6.3f}{row.psnr:7.1f}{row.target:8.3f}"
        )
    if chosen.write:
        for name, dial in turned.items():
            path = FOLDER / f"{name.partition('/')[0]}.toml"
            values = [row.value for row in rows if row.name == name]
            text = path.read_text(encoding="utf-8")
            path.write_text(rewritten(text, name, dial.name, values), encoding="utf-8")
        today = datetime.datetime.now(datetime.UTC).date()
        RECORD.write_text(record(rows, _versions(), today), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
