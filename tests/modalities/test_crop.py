"""Crops and normalisations that a modality's reader would ask for; none is done unasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import modalities
from modalities import ImageError

Writer = Callable[..., Path]


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def radiograph(border: tuple[int, int, int, int], level: int) -> np.ndarray:
    """Texture inside, a border (left, top, right, bottom) of nearly one level around it."""
    rng = np.random.default_rng(1)
    left, top, right, bottom = border
    pixels = np.clip(rng.normal(level, 1.5, (200, 160)), 0, 255)
    pixels[top : 200 - bottom, left : 160 - right] = rng.integers(
        40, 200, (200 - top - bottom, 160 - left - right)
    )
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("border", [(12, 20, 7, 31), (0, 0, 40, 0), (0, 0, 0, 0)])
def test_the_shutter_of_a_radiograph_is_cut_off(
    tmp_path: Path, border: tuple[int, int, int, int], level: int
) -> None:
    pixels = radiograph(border, level)
    left, top, right, bottom = border
    image = modalities.load(save(tmp_path / "x.png", pixels), "xray", crop="border")
    inner = pixels[top : 200 - bottom, left : 160 - right]
    np.testing.assert_array_equal(image.render()[..., 0], inner)
    box = f"{left},{top},{160 - left - right},{200 - top - bottom}"
    assert image.provenance["choices"]["crop"] == f"border: {box} (asked)"


def test_nothing_is_cropped_unasked_and_that_is_recorded(tmp_path: Path) -> None:
    pixels = radiograph((12, 20, 7, 31), 0)
    path = save(tmp_path / "x.png", pixels)
    for image, origin in (
        (modalities.load(path, "xray"), "default"),
        (modalities.load(path, "xray", crop="none"), "asked"),
    ):
        np.testing.assert_array_equal(image.render()[..., 0], pixels)
        assert image.provenance["choices"]["crop"] == f"none ({origin})"


def test_a_flat_radiograph_has_no_border_to_cut(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", np.full((50, 50), 9, np.uint8))
    with pytest.raises(ImageError, match=r"x\.png: crop: the image is flat"):
        modalities.load(path, "xray", crop="border")


def fundus(centre: tuple[int, int], radius: int, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 4, (*shape, 3))
    shade = 90 + 120 * x / shape[1]
    pixels[inside] = np.stack([shade, shade / 2, shade / 4], -1)[inside]
    return pixels.astype(np.uint8)


@pytest.mark.parametrize(
    ("centre", "shape"),
    [((100, 90), (200, 260)), ((150, 75), (150, 300)), ((85, 100), (220, 180))],
)
def test_a_fundus_is_cut_to_a_square_with_its_circle_in_the_middle(
    tmp_path: Path, centre: tuple[int, int], shape: tuple[int, int]
) -> None:
    """The second is cut off at the top and bottom, as many cameras do."""
    radius = 80
    pixels = fundus(centre, radius, shape)
    image = modalities.load(save(tmp_path / "f.png", pixels), "fundus", crop="fov")
    shown = image.render()
    assert shown.shape[0] == shown.shape[1]
    assert abs(shown.shape[0] - (2 * radius + 1)) <= 2
    rows, columns = np.nonzero(shown[..., 0] > 40)
    middle = (shown.shape[0] - 1) / 2
    assert abs((columns.min() + columns.max()) / 2 - middle) <= 1
    assert abs((rows.min() + rows.max()) / 2 - middle) <= 1
    x, y, *_ = map(int, image.provenance["choices"]["crop"][5:].split(" ")[0].split(","))
    assert abs(x - (centre[0] - radius)) <= 1
    assert abs(y - (centre[1] - radius)) <= 1


def test_a_fundus_without_a_surround_stays_whole(tmp_path: Path) -> None:
    pixels = fundus((50, 50), 200, (100, 120))
    pixels[0, 0] = 0
    image = modalities.load(save(tmp_path / "f.png", pixels), "fundus", crop="fov")
    np.testing.assert_array_equal(image.render(), pixels)
    assert "no dark surround" in image.provenance["choices"]["crop"]


def test_even_illumination_takes_a_slow_shade_away_and_keeps_a_lesion(tmp_path: Path) -> None:
    pixels = fundus((150, 150), 140, (300, 300))
    pixels[148:153, 148:153] //= 2
    path = save(tmp_path / "f.png", pixels)
    shown = modalities.load(path, "fundus", illumination="graham").pixels.numpy()
    y, x = np.mgrid[:300, :300]
    inside = (x - 150) ** 2 + (y - 150) ** 2 <= 120**2
    far = inside & ((x - 150) ** 2 + (y - 150) ** 2 >= 40**2)
    assert np.abs(shown[0][far] - 0.5).max() < 0.03
    assert shown[0, 150, 150] < 0.1
    assert (shown[:, 0, 0] == 0).all()


def test_an_endoscopy_frame_loses_its_black_surround_and_the_writing_on_it(tmp_path: Path) -> None:
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[20:220, 110:310] = np.random.default_rng(3).integers(60, 220, (200, 200, 3))
    pixels[30:40, 5:60] = 255  # writing
    path = save(tmp_path / "e.png", pixels)
    image = modalities.load(path, "endoscopy", crop="border")
    np.testing.assert_array_equal(image.render(), pixels[20:220, 110:310])
    assert image.provenance["choices"]["crop"] == "border: 110,20,200,200 (asked)"


def test_a_black_frame_has_no_picture_to_cut_to(tmp_path: Path) -> None:
    path = save(tmp_path / "e.png", np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(ImageError, match="crop: no bright picture"):
        modalities.load(path, "endoscopy", crop="border")


def us_region(box: tuple[int, int, int, int], form: int = 1, kind: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = form, kind, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2:]
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3  # cm
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.05, 0.02
    return item


def test_an_ultrasound_screen_is_cut_to_its_largest_2d_region(write_dicom: Writer) -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (60, 80), dtype=np.uint8)
    regions = [
        us_region((0, 0, 79, 59), form=3),  # a spectrum is no picture
        us_region((1, 1, 5, 5)),
        us_region((10, 20, 69, 49)),
    ]
    path = write_dicom(
        "u.dcm", pixels, Modality="US", SequenceOfUltrasoundRegions=Sequence(regions)
    )
    image = modalities.load(path, crop="region")
    np.testing.assert_array_equal(image.render()[..., 0], pixels[20:50, 10:70])
    assert image.spacing_mm == pytest.approx((0.2, 0.5))
    assert image.provenance["choices"]["crop"] == "region: 10,20,60,30 (asked)"
    whole = modalities.load(path)
    assert (tuple(whole.pixels.shape), whole.spacing_mm) == ((1, 60, 80), None)


@pytest.mark.parametrize(
    "regions", [[], [us_region((0, 0, 9, 9), form=3)], [us_region((200, 200, 300, 300))]]
)
def test_an_ultrasound_without_a_usable_region_is_refused(
    write_dicom: Writer, regions: list[Dataset]
) -> None:
    tags: dict[str, Any] = {"Modality": "US", "SequenceOfUltrasoundRegions": Sequence(regions)}
    path = write_dicom("u.dcm", np.zeros((60, 80), np.uint8), **tags)
    with pytest.raises(ImageError, match=r"u\.dcm: crop: the file has no 2-D tissue region"):
        modalities.load(path, crop="region")


def test_a_region_that_leaves_the_screen_is_clipped(write_dicom: Writer) -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (60, 80), dtype=np.uint8)
    path = write_dicom(
        "u.dcm",
        pixels,
        Modality="US",
        SequenceOfUltrasoundRegions=Sequence([us_region((40, 30, 80, 60))]),
    )
    image = modalities.load(path, crop="region")
    np.testing.assert_array_equal(image.render()[..., 0], pixels[30:, 40:])


@pytest.mark.parametrize("modality", ["xray", "fundus", "ultrasound", "endoscopy"])
def test_an_unknown_crop_is_refused_with_the_valid_ones(tmp_path: Path, modality: str) -> None:
    path = save(tmp_path / "a.png", np.zeros((9, 9), np.uint8))
    valid = ", ".join(("none", *modalities.get(modality).steps["crop"]))
    with pytest.raises(ImageError, match=f"crop: no 'tight' for {modality}; valid are {valid}"):
        modalities.load(path, modality, crop="tight")


def test_exposure_of_a_display_image_spans_two_decades_and_shows_the_same(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = save(tmp_path / "x.png", pixels)
    image = modalities.load(path, "xray", domain="linear")
    assert image.domain == "linear"
    # Black is where the beam came through; each half of the way to white is a factor of ten.
    assert image.pixels[0, 0, 0] == 1
    assert image.pixels[0, 15, 15] == pytest.approx(0.01)
    assert image.pixels[0].flatten()[51] == pytest.approx(10 ** (-2 * 0.2))
    np.testing.assert_array_equal(image.render()[..., 0], pixels)
    assert "assumed" in image.provenance["choices"]["domain"]


def test_raw_exposures_are_kept_as_they_are(write_dicom: Writer) -> None:
    pixels = np.arange(80, dtype=np.uint16).reshape(8, 10) * 50
    tags: dict[str, Any] = {"Modality": "DX", "WindowCenter": 2000, "WindowWidth": 4000}
    raw = {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1}
    image = modalities.load(write_dicom("a.dcm", pixels, **tags, **raw), domain="linear")
    np.testing.assert_array_equal(image.pixels.numpy()[0], pixels)
    log = modalities.load(write_dicom("b.dcm", pixels, **tags), domain="linear")
    assert 0.01 - 1e-6 <= float(log.pixels.min()) < float(log.pixels.max()) <= 1


def test_a_radiograph_without_a_window_is_shown_between_percentiles(write_dicom: Writer) -> None:
    pixels = np.random.default_rng(5).normal(2000, 100, (64, 64)).astype(np.uint16)
    pixels[0, 0] = 65535  # one defect must not make the rest black
    image = modalities.load(write_dicom("a.dcm", pixels, Modality="DX"))
    assert image.provenance["choices"]["window"].startswith("percentile")
    assert image.render().std() > 30
