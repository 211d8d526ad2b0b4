"""DICOM whole-slide images (PS3.3 A.32.8): tiles of a total pixel matrix, one instance a level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modalities.formats import slide
from modalities.formats.dicom_header import Header, integer, syntax_name, text
from modalities.formats.dicom_pixels import single, spacing_of
from modalities.image import ImageError, RawImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Two levels of one slide have its shape, within what rounding to whole pixels may do.
_SHAPE = 0.02
# Tiles of one level; a slide of 250,000 x 250,000 pixels in tiles of 256 has this many.
MAX_TILES = 1 << 20
# Tiles decoded for one picture, some seconds of work: 33 megapixels in tiles of 64 x 64.
MAX_READ = 1 << 13

# PlanePositionSlideSequence (PS3.3 C.8.12.6.1) and the place of a tile in it.
_POSITION = 0x0048021A
_COLUMN, _ROW = 0x0048021E, 0x0048021F


def is_slide(header: Header) -> bool:
    """Whether the frames are tiles of a larger plane whose size is given."""
    if header.bits_allocated not in (8, 16):
        return False
    return "TotalPixelMatrixColumns" in header.ds and "TotalPixelMatrixRows" in header.ds


def read(headers: Sequence[Header], where: str, choices: Mapping[str, object]) -> RawImage:
    """Read a region of a slide, or all of it reduced; see `slide.read`.

    A slide in grey, fluorescence as a rule, keeps its values and is shown through a window.

    Args:
        headers: The instances of one slide: levels, and perhaps label and overview, which are
            left out.
        where: For messages.
        choices: `region`, `mpp`, `level`, `size`, `patch`.

    Raises:
        ImageError: The instances are no levels of one slide, a tile is damaged, or a choice
            cannot be met.
    """
    chosen = list(headers)
    if len(headers) > 1:
        chosen = [h for h in headers if "VOLUME" in str(h.ds.get("ImageType", "")).upper()]
    if len({text(h.ds, "SeriesInstanceUID") for h in headers}) > 1 or not chosen:
        raise ImageError(
            f"{where}: the files are not the levels of one slide; give a list with those of one"
        )
    levels = sorted((_level(h) for h in chosen), key=lambda level: -level.width)
    notes = list(dict.fromkeys(note for level in levels for note in level.notes))
    pyramid = _Pyramid(where, levels)
    if "patch" in choices and not levels[0].header.colour:
        raise ImageError(f"{where}: patch: is for slides in colour; choose a region=")
    raw = slide.assemble(where, pyramid, choices)
    tile = pyramid.tile
    if tile is not None:
        for name in ("display_range", "windows", "inverted", "physical", "hounsfield"):
            setattr(raw, name, getattr(tile, name))
        notes += [note for note in tile.warnings if note not in (*notes, slide.ONE_TILE)]
    elif not levels[0].header.colour:
        raw.display_range = None
    raw.warnings[:0] = notes
    raw.provenance["format"] = "dicom"
    raw.provenance["transfer_syntax"] = syntax_name(levels[0].header.syntax)
    return raw


@dataclass
class _Level:
    header: Header
    width: int
    height: int
    frames: dict[tuple[int, int], int]
    notes: list[str] = field(default_factory=list)


def _level(header: Header) -> _Level:
    """Where each tile lies on the plane: column and row of its first pixel, from 0."""
    name = header.name
    width = integer(header.ds, name, "TotalPixelMatrixColumns")
    height = integer(header.ds, name, "TotalPixelMatrixRows")
    if width < 1 or height < 1:
        raise ImageError(f"{name}: TotalPixelMatrix: {width}x{height} holds no pixels")
    notes = list(header.notes)
    groups = header.groups.frames
    full = text(header.ds, "DimensionOrganizationType").upper() == "TILED_FULL"
    if full or not any(_POSITION in group for group in groups):
        # PS3.3 C.7.6.17.3: row by row; further focal planes and optical paths follow.
        across = math.ceil(width / header.columns)
        count = across * math.ceil(height / header.rows)
        if min(header.frames, count) > MAX_TILES:
            raise ImageError(f"{name}: TotalPixelMatrix: {count} tiles are more than are read")
        if header.frames < count:
            raise ImageError(
                f"{name}: NumberOfFrames: {header.frames}, but {count} tiles make up the "
                f"{width}x{height} plane; fetch all instances again"
            )
        if header.frames > count:
            notes.append("holds several focal planes or optical paths, the first is shown")
        frames = {(i % across * header.columns, i // across * header.rows): i for i in range(count)}
        return _Level(header, width, height, frames, notes)
    frames = {}
    for index in range(min(header.frames, len(groups))):
        place = header.groups.longs(index, _POSITION, (_COLUMN, _ROW))
        if place is None:
            raise ImageError(f"{name}: PlanePositionSlideSequence: is missing for tile {index}")
        frames.setdefault((place[0] - 1, place[1] - 1), index)
    if len(frames) < min(header.frames, len(groups)):
        notes.append("holds several focal planes or optical paths, the first is shown")
    return _Level(header, width, height, frames, notes)


class _Pyramid:
    """The levels as `slide.assemble` reads them."""

    def __init__(self, where: str, levels: Sequence[_Level]) -> None:
        first = levels[0]
        for finer, level in itertools.pairwise(levels):
            skew = (first.width / level.width) / (first.height / level.height)
            slack = 1 / min(level.width, level.height)
            if level.width == finer.width or abs(skew - 1) > max(_SHAPE, slack):
                raise ImageError(
                    f"{where}: TotalPixelMatrix: {finer.width}x{finer.height} and "
                    f"{level.width}x{level.height} are not two levels of one slide; "
                    "give a list with one file per level"
                )
        self._where = where
        self._levels = levels
        self.dimensions = (first.width, first.height)
        self.level_count = len(levels)
        self.level_dimensions = tuple((level.width, level.height) for level in levels)
        self.level_downsamples = tuple(first.width / level.width for level in levels)
        self.properties: dict[str, object] = {"tiffslide.vendor": "dicom"}
        spacing = spacing_of(first.header, 0, [])
        if spacing is not None:
            self.properties["tiffslide.mpp-y"] = spacing[0] * 1000
            self.properties["tiffslide.mpp-x"] = spacing[1] * 1000

        self.tile: RawImage | None = None
        if len({(h.colour, h.bits_stored) for h in (level.header for level in levels)}) > 1:
            raise ImageError(
                f"{where}: PhotometricInterpretation, BitsStored: differ between the levels; "
                "give the file of one"
            )

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int], *, as_array: bool
    ) -> NDArray[Any]:
        """`(H, W, 3)`, or `(H, W, 1)` in grey; `location` is in pixels of level 0.

        uint8 where that holds the values, otherwise float32. Where no tile lies it is white, in
        grey 0.
        """
        import numpy as np

        found = self._levels[level]
        header = found.header
        factor = self.level_downsamples[level]
        left, top = (int(n / factor) for n in location)
        # What is asked has the level's size at most; rounding may push it over the edge.
        left, top = min(left, found.width - size[0]), min(top, found.height - size[1])
        right, bottom = left + size[0], top + size[1]
        needed = [
            (x, y, index)
            for (x, y), index in found.frames.items()
            if left - header.columns < x < right and top - header.rows < y < bottom
        ]
        if len(needed) > MAX_READ:
            raise ImageError(
                f"{header.name}: {len(needed)} tiles of {header.columns}x{header.rows} are more "
                f"than the {MAX_READ} read for one picture; give a smaller region=, or level="
            )
        shape = (size[1], size[0], 3 if header.colour else 1)
        plain = header.colour and header.bits_stored == 8
        out = np.full(shape, 255, np.uint8) if plain else np.zeros(shape, np.float32)
        if header.colour and not plain:
            out[:] = (1 << header.bits_stored) - 1
        for x, y, index in needed:
            tile = single(header, index)
            if plain and tile.display_range != (0.0, 255.0):
                raise ImageError(
                    f"{header.name}: PaletteColorLookupTableData: 16-bit colours of a slide are "
                    "not read; reduce it to 8 bits"
                )
            self.tile = self.tile or tile
            a, b, c, d = max(x, left), max(y, top), min(x + header.columns, right), y + header.rows
            d = min(d, bottom)
            part = tile.values[:, b - y : d - y, a - x : c - x].transpose(1, 2, 0)
            out[b - top : d - top, a - left : c - left] = part
        return out
