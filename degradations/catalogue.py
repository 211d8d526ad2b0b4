"""The catalogue in the documentation: ``python -m degradations.catalogue [--check]``.

Writes the part between the marks in ``docs/degradations.md`` and a contact sheet per modality into
``docs/images``, from the registry and the tables of severities alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import degradations

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from degradations.degradation import Degradation

DOCUMENT = Path(__file__).parent.parent / "docs" / "degradations.md"
_BEGIN, _END = "<!-- catalogue: python -m degradations.catalogue -->", "<!-- end of catalogue -->"
#: Levels that are shown.
LEVELS = (1, 3, 5)
#: What general degradations are shown on: colour where it matters.
_GENERAL = "dermoscopy"
#: Window that the CT scenes are taken to have been made with: centre and width in HU.
_WINDOW = (40.0, 400.0)


def families() -> dict[str, list[str]]:
    """Names of degradations by what comes before the slash; general first."""
    found: dict[str, list[str]] = {"general": []}
    for name in degradations.names(volumes=True):
        found.setdefault(name.partition("/")[0], []).append(name)
    return found


def text() -> str:
    """The catalogue as Markdown: counts, then a table and a contact sheet for every family."""
    found = families()
    counts = ", ".join(f"{family} {len(names)}" for family, names in found.items())
    lines = [f"**{sum(map(len, found.values()))} degradations**: {counts}.", ""]
    for family, names in found.items():
        lines += [
            f"### {family}",
            "",
            f"![{family} degradations at levels {', '.join(map(str, LEVELS))}]"
            f"(images/degradations-{family}.jpg)",
            "",
            "| Degradation | Cause | Formula | Domain | Levels 1 to 5 | Published settings |",
            "| --- | --- | --- | --- | --- | --- |",
            *(_row(degradations.get(name)) for name in names),
            "",
            "Sources:",
            "",
            *(f"- `{name}`: {degradations.get(name).source}" for name in names),
            "",
        ]
    return "\n".join(lines)


def _row(entry: Degradation) -> str:
    domain = entry.domain
    domain += f", {entry.channels} channels" if entry.channels else ""
    domain += ", geometric" if entry.geometric else ""
    domain += ", volumes" if entry.volumetric else ""
    levels = "; ".join(
        f"{name} {', '.join(f'{value:.4g}' for value in curve.values)} ({curve.unit})"
        for name, curve in entry.curves.items()
        if len({curve.identity, *curve.values}) > 1
    )
    published = sorted({profile.partition("/")[0] for profile in entry.profiles})
    cells = [f"`{entry.name}`", entry.cause, entry.formula, domain, levels, ", ".join(published)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def picture(family: str, tile: int = 128) -> npt.NDArray[np.uint8]:
    """A contact sheet of a family on its reference scene, uint8 (H, W, 3)."""
    from degradations import scenes, sheet

    pixels = scenes.draw(_GENERAL if family == "general" else family, 256)[None]

    def shown(name: str, level: int) -> npt.NDArray[np.uint8]:
        out = pixels
        if level:
            out = degradations.apply(
                pixels,
                f"{name}:{level}",
                domain="display",
                ids=[family],
                seed=0,
                assume_window=_WINDOW,
            )
        image = out[0].permute(1, 2, 0).contiguous().numpy()
        return image if image.shape[2] == 3 else image[..., 0]

    names = [name for name in families()[family] if not degradations.get(name).volumetric]
    return sheet.draw(
        ["clean", *(f"level {level}" for level in LEVELS)],
        [name.partition("/")[2] for name in names],
        ([(shown(name, level), ()) for level in (0, *LEVELS)] for name in names),
        tile=tile,
    )


def _document(catalogue: str) -> str:
    old = DOCUMENT.read_text(encoding="utf-8")
    if _BEGIN not in old or _END not in old:
        raise SystemExit(f"{DOCUMENT}: has no marks {_BEGIN} and {_END}")
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    new = f"{_BEGIN}\n\n{catalogue}\n{_END}"
    return re.sub(pattern, lambda _: new, old, flags=re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the catalogue, or check that the written one is current."""
    parser = argparse.ArgumentParser(
        prog="python -m degradations.catalogue", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    chosen = parser.parse_args(arguments)
    wanted = _document(text())
    if chosen.check:
        current = wanted == DOCUMENT.read_text(encoding="utf-8")
        print("current" if current else f"{DOCUMENT.name}: run python -m degradations.catalogue")
        return 0 if current else 1
    DOCUMENT.write_text(wanted, encoding="utf-8")
    from PIL import Image

    folder = DOCUMENT.parent / "images"
    folder.mkdir(exist_ok=True)
    for family in families():
        Image.fromarray(picture(family)).save(folder / f"degradations-{family}.jpg", quality=80)
        print(family, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
