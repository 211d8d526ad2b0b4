"""DICOM overlays, and which B-scan of an OCT volume is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import modalities
from modalities import ImageError

Writer = Callable[..., Path]

CT: dict[str, Any] = {"Modality": "CT", "WindowCenter": 40, "WindowWidth": 80}


def draw(path: Path, mask: np.ndarray, origin: tuple[int, int], group: int = 0x6000) -> Path:
    ds = pydicom.dcmread(path)
    ds.add_new((group, 0x0010), "US", mask.shape[0])
    ds.add_new((group, 0x0011), "US", mask.shape[1])
    ds.add_new((group, 0x0040), "CS", "G")
    ds.add_new((group, 0x0050), "SS", list(origin))
    ds.add_new((group, 0x0100), "US", 1)
    ds.add_new((group, 0x0102), "US", 0)
    packed = np.packbits(mask.astype(bool), bitorder="little").tobytes()
    ds.add_new((group, 0x3000), "OW", packed + b"\0" * (len(packed) % 2))
    ds.save_as(path)
    return path


@pytest.fixture
def drawn(write_dicom: Writer) -> Path:
    path = write_dicom("a.dcm", np.full((8, 10), 20, np.int16), **CT)
    draw(path, np.eye(3), (3, 5))  # row and column from 1
    return draw(path, np.ones((2, 4)), (8, 9), 0x6002)  # leaves the image


def test_overlays_are_ignored_unless_asked(drawn: Path) -> None:
    for choices in ({}, {"overlay": False}):
        image = modalities.load(drawn, **choices)
        assert image.domain == "hu"
        assert (image.pixels == 20).all()
        assert "overlay" not in image.provenance["choices"]


def test_overlays_are_drawn_white_where_their_origin_says(drawn: Path) -> None:
    plain, image = modalities.load(drawn), modalities.load(drawn, overlay=True)
    expected = plain.render()[..., 0].copy()
    expected[[2, 3, 4], [4, 5, 6]] = 255
    expected[7, 8:] = 255
    np.testing.assert_array_equal(image.render()[..., 0], expected)
    assert image.domain == "display"
    assert image.provenance["choices"]["overlay"] == "drawn white (asked)"


def test_an_overlay_turns_with_its_slice(write_dicom: Writer) -> None:
    tags = {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0], "ImagePositionPatient": [0, 0, 0]}
    path = write_dicom("a.dcm", np.zeros((8, 10), np.int16), **CT, **tags)
    image = modalities.load(draw(path, np.ones((1, 1)), (1, 1)), overlay=True)
    assert image.pixels[0, 7, 9] == 1
    assert (image.pixels == 1).sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.__delitem__((0x6000, 0x0010)), "overlay: the file has none"),
        (lambda ds: ds.__delitem__((0x6000, 0x3000)), "unused bits"),
        (lambda ds: ds[0x6000, 0x0010].__setattr__("value", 60000), "group 6000 cannot be read"),
        (lambda ds: ds[0x6000, 0x0011].__setattr__("value", 0), "is not sound"),
    ],
)
def test_an_overlay_that_cannot_be_drawn_is_refused_only_when_asked(
    write_dicom: Writer, change: Callable[[Any], None], message: str
) -> None:
    path = draw(write_dicom("a.dcm", np.zeros((8, 10), np.int16), **CT), np.eye(3), (1, 1))
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)
    modalities.load(path)
    with pytest.raises(ImageError, match=rf"a\.dcm: .*{message}"):
        modalities.load(path, overlay=True)


def test_an_overlay_choice_is_yes_or_no(drawn: Path) -> None:
    with pytest.raises(ImageError, match="overlay: expected true or false"):
        modalities.load(drawn, overlay="all")


def test_the_middle_b_scan_is_shown_unless_another_is_asked_for(write_dicom: Writer) -> None:
    scans = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 6, 8), np.uint8)
    path = write_dicom("o.dcm", scans, Modality="OPT", NumberOfFrames=7)
    image = modalities.load(path)
    assert (image.render() == 3).all()
    assert image.provenance["choices"]["frame"] == "3 of 7 (default, the middle B-scan)"
    assert "number 3 is used" in image.provenance["warnings"][0]
    assert (modalities.load(path, frame=1).render() == 1).all()
