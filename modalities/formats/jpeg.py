"""JPEG, JPEG-LS and JPEG 2000 streams: how large they are and how much work they ask for."""

from __future__ import annotations

import struct
from typing import NamedTuple

from modalities.image import ImageError

# Values decoded over all scans, some seconds of work: 44 megapixels in colour in 16 scans.
_MOST = 2**31
# More scans than any encoder writes; below this the size does not matter.
_SCANS = 16


def check_scans(data: bytes, values: int, name: str) -> None:
    """Refuse a progressive JPEG that goes over its picture again and again.

    Each scan of a few bytes costs a pass over all coefficients, so that a small file could keep
    the decoder busy for hours.

    Args:
        data: The JPEG stream; any other gives no harm.
        values: Pixels times channels.
        name: The file, for the message.

    Raises:
        ImageError: There are too many scans.
    """
    if not data.startswith(b"\xff\xd8"):
        return
    scans = data.count(b"\xff\xda")  # SOS; within coded data 0xFF is always followed by 0x00
    if scans > _SCANS and scans * values > _MOST:
        raise ImageError(f"{name}: a JPEG of {scans} scans; save the picture again")


class Stream(NamedTuple):
    """Size, channels and sign of a stream."""

    width: int
    height: int
    samples: int
    signed: bool


def measure(data: bytes) -> Stream | None:
    """What a JPEG, JPEG-LS or JPEG 2000 image says about itself; None for another stream."""
    if data[:2] == b"\xff\xd8":  # ISO 10918-1 B.2.2, ISO 14495-1 C.2.2
        at = 2
        while at + 9 < len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:
                at += 1
                continue
            if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
                height, width, samples = struct.unpack_from(">HHB", data, at + 5)
                return Stream(width, height, samples, False) if height else None
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return None
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # ISO 15444-1 A.5.1
    if at < 0 or len(data) <= at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    (samples,) = struct.unpack_from(">H", data, at + 40)
    return Stream(right - left, bottom - top, samples, bool(data[at + 42] & 0x80))
