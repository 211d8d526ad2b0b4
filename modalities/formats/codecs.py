"""Decoders pydicom lacks: 12-bit and lossless JPEG, JPEG-LS and HTJ2K, through imagecodecs.

JPEG 2000 too, for streams of many tile parts and the like that Pillow gives up on.

The functions follow pydicom's interface for decoding plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder, DecodeRunner

NAME = "imagecodecs"

_JPEG = (
    "1.2.840.10008.1.2.4.51",  # Extended, 8 or 12 bit
    "1.2.840.10008.1.2.4.57",  # Lossless
    "1.2.840.10008.1.2.4.70",  # Lossless, first-order prediction
)
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")

# pydicom asks for this table: what must be installed for each transfer syntax.
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_LS, *_JPEG2000, *_HTJ2K), ("imagecodecs",))


def is_available(uid: str) -> bool:
    """Whether frames of this transfer syntax can be decoded here."""
    import importlib.util

    return uid in DECODER_DEPENDENCIES and importlib.util.find_spec("imagecodecs") is not None


def add_to(decoder: Decoder) -> None:
    """Give pydicom's decoder this plugin, once."""
    known = (*decoder.available_plugins, *decoder.missing_dependencies)
    if decoder.UID in DECODER_DEPENDENCIES and not any(text.startswith(NAME) for text in known):
        decoder.add_plugin(NAME, (__name__, "decode_frame"))


def decode_frame(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame to little-endian samples, colours interleaved."""
    import imagecodecs
    import numpy as np

    uid = str(runner.transfer_syntax)
    if uid in _JPEG:
        array = imagecodecs.jpeg8_decode(src)
    elif uid in _JPEG_LS:
        array = imagecodecs.jpegls_decode(src)
    else:
        array = imagecodecs.jpeg2k_decode(src)
    if uid in _JPEG2000 and runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")  # OpenJPEG has undone it
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", array.dtype.itemsize * 8)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return bytearray(little.data.cast("B"))  # the one copy there has to be
