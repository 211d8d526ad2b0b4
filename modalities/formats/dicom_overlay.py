"""DICOM overlay planes (PS3.3 C.9.2): drawings kept beside the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalities.formats.dicom_header import OVERLAY_GROUPS, Header
from modalities.formats.dicom_pixels import BIG_ENDIAN
from modalities.image import MAX_VALUES, ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


def overlay(header: Header, index: int) -> NDArray[np.bool_]:
    """Where any overlay plane of a frame draws, `(1, H, W)`.

    Args:
        header: Parsed with its overlays.
        index: The frame.

    Raises:
        ImageError: The file has no overlay, or one that is damaged or kept within the pixels.
    """
    import numpy as np

    mask = np.zeros((1, header.rows, header.columns), bool)
    groups = [group for group in OVERLAY_GROUPS if (group, 0x0010) in header.ds]
    if not groups:
        raise ImageError(f"{header.name}: overlay: the file has none; leave the choice out")
    for group in groups:
        _draw(mask[0], _plane(header, group, index), header, group)
    return mask


def _plane(header: Header, group: int, index: int) -> NDArray[np.bool_]:
    import numpy as np

    ds, where = header.ds, f"{header.name}: overlay: group {group:04X}"
    if (group, 0x3000) not in ds:
        raise ImageError(
            f"{where} is kept in unused bits of the pixels (retired in 2004), which is not read; "
            "convert it with a DICOM toolkit"
        )
    rows, columns = _numbers(ds, group, 0x0010, where)[0], _numbers(ds, group, 0x0011, where)[0]
    frames = _numbers(ds, group, 0x0015, where, (1,))[0]
    if min(rows, columns, frames) < 1 or rows * columns * frames > MAX_VALUES:
        raise ImageError(f"{where}: {columns}x{rows}x{frames} pixels; the overlay is not sound")
    element = ds[(group, 0x3000)]
    data = element.value if isinstance(element.value, bytes) else b""
    if header.syntax == BIG_ENDIAN and element.VR == "OW":  # bits in 16-bit words, PS3.5 8.1.1
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    count = rows * columns * frames
    if 8 * len(data) < count:
        raise ImageError(f"{where} cannot be read, it is cut short; leave the choice out")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")
    planes = bits.reshape(-1, rows, columns)
    # The overlay's first frame belongs to this one of the image, counted from 1.
    at = index - (_numbers(ds, group, 0x0051, where, (1,))[0] - 1)
    if len(planes) == 1 and (group, 0x0051) not in ds:
        at = 0  # one drawing for all frames
    if not 0 <= at < len(planes):
        return np.zeros((rows, columns), bool)
    drawn: NDArray[np.bool_] = planes[at].astype(bool)
    return drawn


def _draw(mask: NDArray[np.bool_], plane: NDArray[np.bool_], header: Header, group: int) -> None:
    """Add a plane where its origin (row, column of the first pixel, from 1) puts it."""
    where = f"{header.name}: overlay: group {group:04X}"
    origin = _numbers(header.ds, group, 0x0050, where, (1, 1))
    if len(origin) != 2:
        raise ImageError(f"{where}: OverlayOrigin: expected row and column; repair the header")
    top, left = origin[0] - 1, origin[1] - 1
    plane = plane[max(0, -top) :, max(0, -left) :]
    part = mask[max(0, top) :, max(0, left) :][: plane.shape[0], : plane.shape[1]]
    part |= plane[: part.shape[0], : part.shape[1]]


def _numbers(
    ds: Dataset, group: int, element: int, where: str, default: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    found = ds.get((group, element))
    value = None if found is None else found.value
    if value is None:
        if default is None:
            raise ImageError(f"{where}: ({group:04X},{element:04X}) is missing; repair the header")
        return default
    try:
        return tuple(int(n) for n in (value if hasattr(value, "__len__") else [value]))
    except (TypeError, ValueError):
        raise ImageError(
            f"{where}: ({group:04X},{element:04X}) is no number; repair the header"
        ) from None
