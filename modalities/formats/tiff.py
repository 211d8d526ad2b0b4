"""What plain TIFF pictures and slides have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalities.formats.jpeg import measure
from modalities.image import MAX_VALUES, ImageError

if TYPE_CHECKING:
    from tifffile import TiffPage


# JPEG and JPEG 2000, whose streams have a size of their own.
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
