"""Whatever the bytes, the outcome is an image or an `ImageError`; and nothing is left behind."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from PIL import Image

import modalities
from modalities import ImageError
from modalities.formats.hush import hushed, unlogged

Writer = Callable[..., Path]
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


def pyramid() -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for step in (1, 2):
            writer.write(
                PIXELS[::step, ::step], tile=(16, 16), photometric="rgb", subfiletype=step - 1
            )
    return buffer.getvalue()


@pytest.fixture(scope="module")
def nifti() -> bytes:
    data: bytes = nib.Nifti1Image(PIXELS[..., 0][..., None].astype(np.int16), np.eye(4)).to_bytes()
    return data


@pytest.fixture
def dicom(write_dicom: Writer) -> bytes:
    tags = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 40, "WindowWidth": 400}
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    pixels = PIXELS[..., 0].astype(np.int16)
    return write_dicom("a.dcm", pixels, Modality="CT", **tags, **place).read_bytes()


@pytest.mark.parametrize("kind", ["dicom", "nifti", "pyramid", "PNG", "JPEG", "TIFF", "GIF"])
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_bytes_load_or_are_refused(
    kind: str, data: st.DataObject, request: pytest.FixtureRequest
) -> None:
    if kind in ("dicom", "nifti"):
        content = bytearray(request.getfixturevalue(kind))
    else:
        content = bytearray(pyramid() if kind == "pyramid" else picture(kind))
    header = min(len(content), 1200) - 1
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, header))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    with warnings.catch_warnings(), contextlib.suppress(ImageError):
        warnings.simplefilter("ignore")
        image = modalities.load(bytes(content))
        image = image.to_slice() if image.pixels.ndim == 4 else image
        assert image.render(16).shape[2] == 3


def test_libraries_are_silent_only_while_a_file_is_read(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    before = list(warnings.filters)
    for quiet in (hushed, unlogged):
        with quiet(), hushed():
            with quiet():
                pass
            logging.getLogger("pydicom").warning("quotes a value")
            warnings.warn_explicit("quotes a value", UserWarning, "file.py", 1, "pydicom.values")
    with unlogged():
        logging.getLogger("pydicom").warning("quotes a value")
    assert caplog.text == ""
    assert not recwarn.list
    assert warnings.filters == before
    logging.getLogger("pydicom").warning("said")
    assert "said" in caplog.text


def test_threads_read_at_the_same_time(dicom: bytes) -> None:
    before = list(warnings.filters)
    images: list[modalities.MedicalImage] = []
    threads = [
        threading.Thread(target=lambda: images.append(modalities.load(dicom))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 8
    assert all(image.pixels.equal(images[0].pixels) for image in images)
    assert warnings.filters == before
