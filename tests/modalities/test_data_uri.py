"""Images written into a text, as web pages and chat APIs hold them."""

from __future__ import annotations

import base64
import io

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
