"""Contact sheets: pictures in rows and columns, with a caption under each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]
    #: A picture and the lines under it; None leaves the place empty.
    Tile = tuple[Picture, Sequence[str]] | None

__all__ = ["draw"]

_TEXT, _GAP = 12, 4


def draw(
    heads: Sequence[str],
    names: Sequence[str],
    rows: Iterable[Sequence[Tile]],
    *,
    tile: int,
    lines: int = 0,
    widest: str = "",
) -> Picture:
    """Draw a contact sheet.

    Args:
        heads: Titles of the columns.
        names: Titles of the rows.
        rows: Tiles of each row, made one row after the other; pictures are uint8 (H, W) or
            (H, W, 3), and all of one size.
        tile: Longest edge of a tile in pixels; larger pictures are shrunk.
        lines: Lines of caption under each tile.
        widest: A caption as wide as any, so that the columns have room for it.

    Returns:
        uint8 RGB (H, W, 3), black on white.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TEXT)
    margin = _GAP + max(math.ceil(font.getlength(name)) for name in names) + 2 * _GAP
    top = _TEXT + 2 * _GAP
    sheet: Image.Image | None = None
    for row, tiles in enumerate(rows):
        if sheet is None:
            height, width = next(_shrink(each[0], tile).shape[:2] for each in tiles if each)
            across = [width, *(math.ceil(font.getlength(text)) for text in (*heads, widest))]
            cell = (max(across) + _GAP, height + lines * _TEXT + (3 if lines else 1) * _GAP)
            size = (margin + cell[0] * len(heads), top + cell[1] * len(names))
            sheet = Image.new("RGB", size, "white")
            pen = ImageDraw.Draw(sheet)
            for column, head in enumerate(heads):
                pen.text((margin + column * cell[0], _GAP), head, "black", font)
        pen.text((_GAP, top + row * cell[1] + height // 2), names[row], "black", font)
        for column, each in enumerate(tiles):
            if each is None:
                continue
            corner = (margin + column * cell[0], top + row * cell[1])
            sheet.paste(Image.fromarray(_shrink(each[0], tile)), corner)
            for line, text in enumerate(each[1]):
                place = (corner[0], corner[1] + height + _GAP + line * _TEXT)
                pen.text(place, text, "black", font)
    if sheet is None:
        raise ValueError("a contact sheet needs at least one row")
    return np.asarray(sheet)


def _shrink(picture: Picture, edge: int) -> Picture:
    import cv2
    import numpy as np

    scale = min(1.0, edge / max(picture.shape[:2]))
    if scale == 1.0:
        return picture
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
