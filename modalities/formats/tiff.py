"""What plain TIFF pictures and slides have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalities.formats.jpeg import check_complete, measure
from modalities.image import MAX_VALUES, ImageError

if TYPE_CHECKING:
    from tifffile import TiffPage


# Strips or tiles of one page; a slide of 250,000 x 250,000 pixels in tiles of 256 has a million.
MAX_STRIPS, MAX_TILES = 2**18, 2**20

# JPEG and JPEG 2000, whose streams have a size of their own.
_JPEG = 7
_OWN_SIZE = (6, 7, 33003, 33004, 33005, 34712)


def check_segments(page: TiffPage, size: int, name: str) -> None:
    """Refuse a page whose strips or tiles lie beyond the end of the file.

    The decoders fill what is missing with zeros, which would pass for image.

    Raises:
        ImageError: The file is cut short, or a tile would unpack to more than an image may hold.
    """
    tile = (page.tilewidth * page.tilelength) if page.is_tiled else 0
    if tile * page.samplesperpixel > MAX_VALUES:
        raise ImageError(f"{name}: TileWidth/TileLength: far too large; convert the file")
    if len(page.dataoffsets) > (MAX_TILES if page.is_tiled else MAX_STRIPS):
        raise ImageError(
            f"{name}: StripOffsets/TileOffsets: {len(page.dataoffsets)} strips or tiles are more "
            "than are read; save it in larger ones"
        )
    segments = zip(page.dataoffsets, page.databytecounts, strict=False)
    if any(offset + count > size for offset, count in segments):
        raise ImageError(f"{name}: StripOffsets/TileOffsets: the file is cut short; fetch it again")
    if int(page.compression) in _OWN_SIZE:
        _check_streams(page, name)
    if not page.dataoffsets:
        raise ImageError(f"{name}: StripOffsets/TileOffsets: a page holds no pixels")


def _check_streams(page: TiffPage, name: str) -> None:
    """Refuse a strip or tile whose own size is beyond that of the page's strips or tiles."""
    across, down = page.imagewidth, page.imagelength
    if page.is_tiled:
        across, down = page.tilewidth, page.tilelength
    # Rows and columns are padded to whole blocks of chroma, and strips may be cut generously.
    most = 4 * across * down + 2**20
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if not count:
            continue
        handle.seek(offset)
        found = measure(handle.read(min(count, 4096)))
        if found is None and count > 4096:
            handle.seek(offset)
            found = measure(handle.read(count))
        if found is not None and found.width * found.height > most:
            raise ImageError(
                f"{name}: a strip or tile holds {found.width}x{found.height} pixels, more than "
                "the page; fetch the file again"
            )


def check_pictures(page: TiffPage, name: str) -> None:
    """Refuse a page of which a strip or tile is a JPEG whose data end early.

    Raises:
        ImageError: The file is damaged.
    """
    if int(page.compression) != _JPEG:
        return
    tables = page.jpegtables or b""
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        handle.seek(offset)
        stream = handle.read(count)
        if tables and stream:  # kept apart, between marks of their own (TIFF Technical Note 2)
            stream = stream[:2] + tables[2:-2] + stream[2:]
        check_complete(stream, f"{name}: StripOffsets/TileOffsets")
