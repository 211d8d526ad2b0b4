"""JPEG, JPEG-LS and JPEG 2000 streams: how large they are and how much work they ask for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from modalities.image import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Values decoded over all scans, some seconds of work: 44 megapixels in colour in 16 scans.
_MOST = 2**31
# More scans than any encoder writes; below this the size does not matter.
_SCANS = 16
# What libjpeg says, among its warnings, of a picture whose data it had to make up.
_DAMAGED = (
    "premature end of data segment",
    "bad Huffman code",
    "instead of RST",
    "bytes before marker 0xd0",
    "bytes before marker 0xd1",
    "bytes before marker 0xd2",
    "bytes before marker 0xd3",
    "bytes before marker 0xd4",
    "bytes before marker 0xd5",
    "bytes before marker 0xd6",
    "bytes before marker 0xd7",
    "progression sequence",
    "bad arithmetic code",
    "LJ92_ERROR_CORRUPT",
)
_SPACES: dict[int, Literal["Gray", "RGB", "CMYK"]] = {1: "Gray", 3: "RGB", 4: "CMYK"}


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
    import numpy as np

    if not data.startswith(b"\xff\xd8"):
        return
    # SOS; within coded data 0xFF is always followed by 0x00. bytes.count takes seven times as long
    # as to compare two bytes at a time, from the first on and from the second.
    pairs = (np.frombuffer(data, "<u2", (len(data) - at) // 2, at) for at in (0, 1))
    scans = sum(int(np.count_nonzero(pair == 0xDAFF)) for pair in pairs)
    if scans > _SCANS and scans * values > _MOST:
        raise ImageError(f"{name}: a JPEG of {scans} scans; save the picture again")


class Stream(NamedTuple):
    """Size, channels and sign of a stream; of a JPEG also its bits and whether it is lossless."""

    width: int
    height: int
    samples: int
    signed: bool
    bits: int = 0
    lossless: bool = False


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
                bits, height, width, samples = struct.unpack_from(">BHHB", data, at + 4)
                found = Stream(width, height, samples, False, bits, marker == 0xC3)
                return found if height else None
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return None
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # ISO 15444-1 A.5.1
    if at < 0 or len(data) <= at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    (samples,) = struct.unpack_from(">H", data, at + 40)
    return Stream(right - left, bottom - top, samples, bool(data[at + 42] & 0x80))


def decode(data: bytes, samples: int, name: str) -> NDArray[np.uint8] | None:
    """Decode a JPEG of 8 bits, refusing what other decoders fill with grey.

    libjpeg only warns where the coded data end early, if an end marker follows, or make no sense,
    and goes on with what it has; here its warnings are heard.

    Args:
        data: The stream.
        samples: Channels: 1, or 3 for RGB.
        name: The file, for the message.

    Returns:
        `(H, W, samples)`, as Pillow gives it; None where it is left to another decoder, of which
        the stream asks more than this one can or about which there is a lesser warning.

    Raises:
        ImageError: The picture is damaged or cut.
    """
    import simplejpeg

    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, _SPACES[samples], fastdct=False, fastupsample=False
        )
    except ValueError as error:
        _check_warning(str(error), name)
        return None
    return pixels


def check_complete(data: bytes, name: str) -> None:
    """Refuse what `decode` would, at about half of its cost and at the size of a thumbnail.

    Args:
        data: A JPEG stream, lossy with 8 bits or lossless; of any other, and of one that cannot
            be decoded at all, another decoder has to tell.
        name: The file, for the message.

    Raises:
        ImageError: The picture is damaged or cut.
    """
    import imagecodecs
    import simplejpeg

    found = measure(data) if data.startswith(b"\xff\xd8") else None
    if found is None or found.samples not in _SPACES:
        return
    try:
        if found.lossless:
            # Up to the end marker: it takes padding behind that for more data.
            imagecodecs.ljpeg_decode(data[: data.rfind(b"\xff\xd9") + 2])
        elif found.bits == 8:
            simplejpeg.decode_jpeg(data, _SPACES[found.samples], min_factor=8)
    except ValueError as error:
        _check_warning(str(error), name)
    except imagecodecs.LjpegError as error:
        _check_warning(str(error), name)


def looks_filled(data: bytes, pixels: NDArray[Any]) -> bool:
    """Whether a JPEG ends in nothing but mid-grey, as libjpeg fills what it has no data for.

    Args:
        data: The stream; any other than JPEG is filled with nothing.
        pixels: What was decoded of it, `(H, W)` or `(H, W, C)`.
    """
    found = measure(data) if data.startswith(b"\xff\xd8") else None
    if found is None or not found.bits:
        return False
    top, left = ((size - 1) // 8 * 8 for size in pixels.shape[:2])
    return bool((pixels[top:, left:] == 1 << (found.bits - 1)).all())


def _check_warning(text: str, name: str) -> None:
    if any(what in text for what in _DAMAGED):
        raise ImageError(
            f"{name}: the JPEG data are damaged or end early, though its frame is whole; "
            "fetch the file again"
        )
