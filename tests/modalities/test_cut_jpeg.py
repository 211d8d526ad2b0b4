"""A JPEG whose data end early is refused, though an end marker follows and decoders fill it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1

import modalities
from modalities import ImageError
from modalities.formats import jpeg

Writer = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore::modalities.ImageWarning")

END = b"\xff\xd9"
SHARES = [0.15, 0.4, 0.75, 0.97]
KINDS = [
    ("RGB", {}),
    ("RGB", {"subsampling": 0}),
    ("RGB", {"progressive": True}),
    ("RGB", {"restart_marker_rows": 1}),
    ("L", {}),
    ("L", {"progressive": True}),
    ("CMYK", {}),
]


def scene(height: int = 203, width: int = 251) -> np.ndarray:
    rng = np.random.default_rng(5)
    ramp = np.add.outer(np.linspace(0, 150, height), np.linspace(0, 60, width))
    bands = [ramp + rng.normal(0, 12, ramp.shape), ramp[::-1], rng.normal(120, 30, ramp.shape)]
    return np.stack(bands, axis=-1).clip(0, 255).astype(np.uint8)


def encoded(mode: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(buffer, "JPEG", quality=85, **options)
    return buffer.getvalue()


def cut(stream: bytes, share: float) -> bytes:
    """The tables whole, so much of the coded data, and an end marker."""
    start = stream.index(b"\xff\xda")
    return stream[: start + int((len(stream) - start) * share)].rstrip(b"\xff") + END


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("mode", "options"), KINDS)
def test_a_jpeg_whose_data_end_early_is_refused(
    mode: str, options: dict[str, object], share: float
) -> None:
    damaged = cut(encoded(mode, **options), share)
    assert np.asarray(Image.open(io.BytesIO(damaged))).size  # Pillow shows it, in part grey
    with pytest.raises(ImageError, match="damaged or end early"):
        modalities.load(damaged)


@pytest.mark.parametrize(("mode", "options"), KINDS)
def test_a_whole_jpeg_is_what_pillow_shows(mode: str, options: dict[str, object]) -> None:
    stream = encoded(mode, **options)
    reference = np.asarray(Image.open(io.BytesIO(stream)).convert("RGB"))
    np.testing.assert_array_equal(modalities.load(stream).render(), reference)


def test_a_picture_that_is_mid_grey_is_read(write_dicom: Writer) -> None:
    grey = np.full((64, 64), 128, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG")
    np.testing.assert_array_equal(modalities.load(buffer.getvalue()).render()[..., 0], grey)
    path = wrapped(write_dicom, grey, buffer.getvalue(), JPEGBaseline8Bit)
    np.testing.assert_array_equal(modalities.load(path).render()[..., 0], grey)


def test_bytes_between_the_data_and_their_end_do_no_harm() -> None:
    stream = encoded("RGB")
    padded = stream[:-2] + bytes(7) + END
    np.testing.assert_array_equal(
        modalities.load(padded).render(), modalities.load(stream).render()
    )


def test_data_that_lost_a_part_between_restart_marks_are_refused() -> None:
    stream = encoded("RGB", restart_marker_rows=1)
    first, second = stream.index(b"\xff\xd2"), stream.index(b"\xff\xd4")
    with pytest.raises(ImageError, match="damaged or end early"):
        modalities.load(stream[:first] + stream[second:])


def wrapped(write_dicom: Writer, pixels: np.ndarray, stream: bytes, syntax: str) -> Path:
    path = write_dicom("a.dcm", pixels, Modality="US" if pixels.ndim == 3 else "CT")
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    if pixels.ndim == 3:
        ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.save_as(path)
    return path


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("mode", "options"), [KINDS[0], KINDS[2], KINDS[4]])
def test_a_cut_jpeg_in_a_dicom_file_is_refused(
    write_dicom: Writer, mode: str, options: dict[str, object], share: float
) -> None:
    pixels = scene() if mode == "RGB" else scene()[..., 0]
    stream = encoded(mode, **options)
    modalities.load(wrapped(write_dicom, pixels, stream, JPEGBaseline8Bit))
    with pytest.raises(ImageError, match="PixelData: the JPEG data are damaged or end early"):
        modalities.load(wrapped(write_dicom, pixels, cut(stream, share), JPEGBaseline8Bit))


@pytest.mark.parametrize("share", SHARES)
def test_a_cut_lossless_jpeg_in_a_dicom_file_is_refused(write_dicom: Writer, share: float) -> None:
    pixels = scene()[..., 0].astype(np.uint16) * 16
    stream = imagecodecs.ljpeg_encode(pixels, bitspersample=12)
    image = modalities.load(wrapped(write_dicom, pixels, stream, JPEGLosslessSV1))
    np.testing.assert_array_equal(image.pixels[0].numpy(), pixels)
    with pytest.raises(ImageError, match="PixelData: the JPEG data are damaged or end early"):
        modalities.load(wrapped(write_dicom, pixels, cut(stream, share), JPEGLosslessSV1))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 64}], ids=["one strip", "four strips"])
def test_a_cut_jpeg_strip_of_a_tiff_is_refused(options: dict[str, int], share: float) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, scene(), compression="jpeg", photometric="rgb", **options)
    content = bytearray(buffer.getvalue())
    modalities.load(bytes(content))
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    stream = bytes(content[offset : offset + count])
    short = cut(stream, share)
    content[offset : offset + count] = (
        short[:-2]
        + END * ((count - len(short)) // 2 + 1)
        + (b"\xd9" * (count % 2 != len(short) % 2))
    )
    with pytest.raises(ImageError, match="StripOffsets/TileOffsets: the JPEG data"):
        modalities.load(bytes(content[: len(buffer.getvalue())]))


def test_the_bits_of_a_stream_are_those_of_its_frame_header() -> None:
    stream = imagecodecs.ljpeg_encode(np.zeros((9, 17), np.uint16), bitspersample=12)
    assert jpeg.measure(stream) == (17, 9, 1, False, 12, True)
    header = struct.pack(">HBHHB", 11, 8, 5, 4, 1)
    assert jpeg.measure(b"\xff\xd8\xff\xc0" + header + bytes(3)) == (4, 5, 1, False, 8, False)
