"""JPEG, PNG, TIFF and the like."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import modalities
from modalities import ImageError, ImageWarning

GREY = np.arange(96, dtype=np.uint8).reshape(8, 12)
RGB = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def png(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF", "JPEG2000"])
def test_a_lossless_picture_renders_bit_for_bit(array: np.ndarray, kind: str) -> None:
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(array).save(buffer, kind, **options)
    expected = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    np.testing.assert_array_equal(modalities.load(buffer.getvalue(), "photo").render(), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    picture = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, kind, exif=exif)
    image = modalities.load(buffer.getvalue(), "fundus")
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    np.testing.assert_array_equal(image.render(), np.asarray(reference))
    if orientation > 1:
        said = image.provenance["choices"]["orientation"]
        assert said == f"EXIF {orientation} applied (file)"


def test_an_impossible_exif_orientation_is_ignored_and_said() -> None:
    exif = Image.Exif()
    exif[274] = 99
    with pytest.warns(ImageWarning, match="Orientation"):
        image = modalities.load(png(RGB, exif=exif), "photo")
    np.testing.assert_array_equal(image.render(), RGB)


def test_what_is_transparent_lies_over_black() -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, :, 3], rgba[1, :, 3] = 0, 51
    image = modalities.load(png(rgba), "photo")
    shown = image.render()
    assert not shown[0].any()
    np.testing.assert_array_equal(shown[1], np.rint(RGB[1] * 0.2))
    np.testing.assert_array_equal(shown[2:], RGB[2:])
    assert image.provenance["choices"]["alpha"] == "composed over black (default)"


def test_a_palette_is_looked_up() -> None:
    picture = Image.fromarray(GREY % 4).convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    shown = modalities.load(buffer.getvalue(), "photo").render()
    assert shown[0, :4].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]


def test_one_bit_pictures_are_black_and_white() -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY > 40).save(buffer, "PNG")
    shown = modalities.load(buffer.getvalue(), "photo").render()[..., 0]
    np.testing.assert_array_equal(shown, (GREY > 40) * 255)


@pytest.mark.parametrize("write", [png, tiff], ids=["png", "tiff"])
def test_sixteen_bits_keep_their_precision(write: object) -> None:
    deep = np.linspace(0, 65535, 96).astype(np.uint16).reshape(8, 12)
    image = modalities.load(write(deep), "xray")  # type: ignore[operator]
    np.testing.assert_allclose(image.pixels[0].numpy(), deep / 65535, atol=1e-7)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bit_colour_keeps_its_precision(kind: str) -> None:
    import cv2

    deep = np.random.default_rng(1).integers(0, 65536, (8, 12, 3), np.uint16)
    if kind == "png":
        data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    else:
        data = tiff(deep, photometric="rgb")
    pixels = modalities.load(data, "photo").pixels.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(pixels, deep / 65535, atol=1e-7)


def test_twelve_bits_in_a_sixteen_bit_file_are_not_shown_black() -> None:
    data = png(np.linspace(0, 4095, 96).astype(np.uint16).reshape(8, 12))
    with pytest.warns(ImageWarning, match="12-bit"):
        image = modalities.load(data, "xray")
    assert image.render().max() == 255
    assert modalities.load(data, "xray", bits=16).render().max() == 16
    assert modalities.load(data, "xray", window=(2048, 4096)).render().max() == 255


def test_white_is_zero_tiffs_are_turned_over() -> None:
    shown = modalities.load(tiff(GREY, photometric="miniswhite"), "photo").render()[..., 0]
    np.testing.assert_array_equal(shown, 255 - GREY)


def test_float_tiffs_from_zero_to_one_are_shown_as_they_are() -> None:
    values = np.linspace(0, 0.5, 96, dtype=np.float32).reshape(8, 12)
    pixels = modalities.load(tiff(values), "photo").pixels[0].numpy()
    np.testing.assert_array_equal(pixels, values)


def test_cmyk_becomes_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG", quality=100)
    image = modalities.load(buffer.getvalue(), "photo")
    np.testing.assert_allclose(image.render()[8, 8], (255, 0, 0), atol=3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_a_frame_is_chosen(kind: str) -> None:
    pages = [Image.new("L", (16, 16), value) for value in (0, 100, 200)]
    buffer = io.BytesIO()
    pages[0].save(buffer, kind, save_all=True, append_images=pages[1:])
    shown = modalities.load(buffer.getvalue(), "photo", frame=2).render()
    np.testing.assert_allclose(shown, 200, atol=2)
    with pytest.warns(ImageWarning, match="3 frames"):
        assert modalities.load(buffer.getvalue(), "photo").render().max() == 0
    with pytest.raises(ImageError, match="frame: 3 is outside"):
        modalities.load(buffer.getvalue(), "photo", frame=3)


def test_a_wrong_extension_is_said_and_the_content_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(png(RGB))
    with pytest.warns(ImageWarning, match=r"a\.jpg: the content is PNG"):
        image = modalities.load(path, "photo")
    np.testing.assert_array_equal(image.render(), RGB)


def test_a_tiny_file_that_claims_to_be_huge_is_refused() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageError, match="60000x60000"):
        modalities.load(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "JPEG2000", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_cut_picture_is_refused_not_filled(kind: str, kept: float) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    data = buffer.getvalue()
    with pytest.raises(ImageError):
        modalities.load(data[: int(len(data) * kept)], "photo")


def test_a_flipped_bit_in_a_png_is_noticed() -> None:
    data = bytearray(png(RGB))
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(ImageError, match="IDAT"):
        modalities.load(bytes(data))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b'{"error": 404}', "JSON"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"just some text", "known format"),
        (b"", "empty"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=what):
        modalities.load(content)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_by_hand(array: np.ndarray, *extra: bytes, tail: bytes = b"") -> bytes:
    """A PNG whose rows take turns with the five filters, all of which say the same of zeros."""
    height, width, *bands = array.shape
    step, before = (bands or [1])[0], bytes(width * (bands or [1])[0])
    rows = b""
    for number, row in enumerate(array.reshape(height, -1).astype(int)):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        above = np.frombuffer(before, np.uint8).astype(int)
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        far = [abs(left + above - corner - each) for each in (left, above, corner)]
        paeth = np.where(
            (far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner)
        )
        guess = (np.zeros_like(row), left, above, (left + above) // 2, paeth)[number % 5]
        rows += bytes([number % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes()
        before = row.astype(np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if bands else 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows + tail))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::modalities.ImageWarning")
@pytest.mark.parametrize(
    "extra",
    [
        [],
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"gAMA", struct.pack(">I", 100_000)), (b"cHRM", struct.pack(">8I", *range(1, 9)))],
        [
            (b"sRGB", b"\0"),
            (b"pHYs", struct.pack(">IIB", 1, 2, 1)),
            (b"tIME", b"\7\xe6" + b"\1" * 5),
        ],
        [(b"sBIT", b"\5")],
    ],
    ids=lambda extra: "-".join(kind.decode() for kind, _ in extra) or "none",
)
@pytest.mark.parametrize("bands", [1, 3])
def test_the_pixels_of_a_png_are_those_stored_whatever_else_it_says(
    bands: int, extra: list[tuple[bytes, bytes]]
) -> None:
    stored = np.random.default_rng(bands).integers(0, 256, (23, 17, bands)).astype(np.uint8)
    stored = stored[..., 0] if bands == 1 else stored
    chunks = [chunk(kind, body * bands if kind == b"sBIT" else body) for kind, body in extra]
    data = png_by_hand(stored, *chunks)
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(np.asarray(opened), stored)
    shown = modalities.load(data, "photo").render()
    assert np.array_equal(shown, stored if bands == 3 else np.repeat(stored[..., None], 3, 2))


def test_what_follows_the_last_row_of_a_png_is_ignored_in_silence(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shown = modalities.load(png_by_hand(RGB, tail=b"more" * 100), "photo").render()
    assert np.array_equal(shown, RGB)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
