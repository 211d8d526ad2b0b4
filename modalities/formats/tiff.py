"""What plain TIFF pictures and slides have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalities.image import ImageError

if TYPE_CHECKING:
    from tifffile import TiffPage


def check_segments(page: TiffPage, size: int, name: str) -> None:
    """Refuse a page whose strips or tiles lie beyond the end of the file.

    The decoders fill what is missing with zeros, which would pass for image.

    Raises:
        ImageError: The file is cut short.
    """
    segments = zip(page.dataoffsets, page.databytecounts, strict=False)
    if any(offset + count > size for offset, count in segments):
        raise ImageError(f"{name}: StripOffsets/TileOffsets: the file is cut short; fetch it again")
    if not page.dataoffsets:
        raise ImageError(f"{name}: StripOffsets/TileOffsets: a page holds no pixels")
