"""Images written into a text, as web pages and chat APIs hold them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import modalities
from modalities import ImageError


@pytest.fixture
def png() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(8).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:image/jpeg;base64,", "data:;base64,"]
)
def test_a_data_uri_is_the_image_it_holds(png: bytes, head: str) -> None:
    body = base64.encodebytes(png).decode()  # broken into lines, as many encoders do
    image, plain = modalities.load(head + body, "photo"), modalities.load(png, "photo")
    assert image.pixels.equal(plain.pixels)
    assert image.provenance["sha256"] == plain.provenance["sha256"]
    assert modalities.fingerprint(head + body) == modalities.fingerprint(png)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64,@@@@", "the base64 is damaged"),
        ("data:image/png;base64,AAA", "the base64 is damaged"),
        ("data:image/png,abc", "expected data:image/png;base64"),
        ("data:image/png;base64", "expected data:image/png;base64"),
        ("data:image/png;base64,", "empty"),
    ],
)
def test_a_data_uri_that_holds_no_image_is_refused(uri: str, message: str) -> None:
    with pytest.raises(ImageError, match=f"<data URI>: .*{message}"):
        modalities.load(uri)


def written(kind: str, png: bytes, tmp_path: Path, write_dicom: Callable[..., Path]) -> bytes:
    if kind == "dicom":
        path = write_dicom("a.dcm", np.zeros((8, 8), np.int16), Modality="MR")
        return path.read_bytes()
    if kind == "nifti":
        data: bytes = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes()
        return data
    if kind == "png":
        return png
    stream = io.BytesIO()
    pixels = np.random.default_rng(9).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "tiff", "dicom", "nifti"])
def test_bare_base64_of_a_known_format_is_the_image_it_holds(
    png: bytes, kind: str, tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    data = written(kind, png, tmp_path, write_dicom)
    text = base64.b64encode(data).decode()
    lines = base64.encodebytes(data).decode()
    for one in (text, lines):
        image = modalities.load(one, "mri" if kind in ("dicom", "nifti") else "photo")
        assert image.provenance["sha256"] == modalities.fingerprint(data)
    with pytest.raises(ImageError, match=r"<base64>: .*"):
        modalities.load(text[: len(text) // 2] + "@" * 5 if len(text) > 2048 else text[:-9])


def test_a_path_is_never_taken_for_base64(
    png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = base64.b64encode(png).decode()[:80].replace("/", "A")
    monkeypatch.chdir(tmp_path)
    other = np.zeros((5, 5), np.uint8)
    Image.fromarray(other).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / text)
    image = modalities.load(text, "photo")  # a file of this name exists
    assert tuple(image.pixels.shape[1:]) == (5, 5)
    for name in ("A" * 100, "iVBORw0KGgo", "/9j/" * 100, "x" * 10_000):
        with pytest.raises(ImageError, match=r"no such file|cannot be read|<base64>"):
            modalities.load(name)


def test_a_damaged_text_of_any_length_is_one_clear_error() -> None:
    with pytest.raises(ImageError, match=r"<data URI>: .*damaged") as caught:
        modalities.load("data:image/png;base64,@" + "A" * 10_000)
    assert caught.value.file == "<data URI>"
