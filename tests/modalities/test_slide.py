"""Tiled pyramids."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import tifffile

import modalities
from modalities import ImageError, ImageWarning

WIDTH, HEIGHT = 2560, 1536
MPP = 0.5


@functools.cache
def picture() -> np.ndarray:
    """Red rises from left to right, green from top to bottom, blue is a square at a known place."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    array = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    array[..., 0] = columns * 256 // WIDTH
    array[..., 1] = rows * 256 // HEIGHT
    array[256:768, 1536:2048, 2] = 255
    return array


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    full = picture()
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
    per_cm = 10000 / MPP
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            full, subifds=2, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", **options
        )
        for step in (4, 16):
            writer.write(full[::step, ::step], subfiletype=1, **options)
    return path


def test_a_large_slide_is_shown_reduced_and_says_so(slide: Path) -> None:
    with pytest.warns(ImageWarning, match="2560x1536 pixels are shown reduced to 2048"):
        image = modalities.load(slide)
    assert (image.modality, image.domain) == ("pathology", "display")
    assert tuple(image.pixels.shape) == (3, 1229, 2048)
    assert image.spacing_mm == pytest.approx((0.000625, 0.000625), rel=1e-3)


def test_a_region_is_in_pixels_of_level_0(slide: Path) -> None:
    image = modalities.load(slide, region=(2000, 1000, 200, 100))
    np.testing.assert_array_equal(image.render(), picture()[1000:1100, 2000:2200])
    assert image.spacing_mm == pytest.approx((0.0005, 0.0005))
    assert image.provenance["choices"]["region"] == "2000,1000,200,100 (asked)"


@pytest.mark.parametrize(("mpp", "level"), [(0.5, 0), (1.0, 0), (2.0, 1), (4.0, 1), (8.0, 2)])
def test_microns_per_pixel_decide_the_size_and_the_level(
    slide: Path, mpp: float, level: int
) -> None:
    image = modalities.load(slide, region=[512, 256, 2048, 1024], mpp=mpp)
    scale = mpp / MPP
    assert tuple(image.pixels.shape) == (3, round(1024 / scale), round(2048 / scale))
    assert image.spacing_mm == pytest.approx((mpp / 1000, mpp / 1000))
    assert image.provenance["choices"]["level"] == f"{level} (default)"
    # The blue square begins in the middle of the region, wherever it was read from.
    blue = image.render()[0, :, 2]
    middle = len(blue) // 2
    assert (blue[middle - 2], blue[middle + 1]) == (0, 255)


def test_a_level_is_read_as_it_is_stored(slide: Path) -> None:
    image = modalities.load(slide, level=2)
    np.testing.assert_array_equal(image.render(), picture()[::16, ::16])


def test_a_thumbnail_has_the_size_asked_for(slide: Path) -> None:
    assert modalities.load(slide, size=512).render().shape == (307, 512, 3)


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"region": (2400, 0, 200, 100)}, "region"),
        ({"region": (0, 0, 0, 100)}, "region"),
        ({"region": "0,0,10,10"}, "region"),
        ({"mpp": 0.1}, "mpp"),
        ({"mpp": -1}, "mpp"),
        ({"mpp": float("nan")}, "mpp"),
        ({"level": 3}, "level"),
        ({"size": 0}, "size"),
        ({"mpp": 1.0, "size": 100}, "mpp and size"),
        ({"slice": 3}, "valid are region, mpp, level, size"),
    ],
)
def test_a_choice_that_cannot_be_met_is_refused(
    slide: Path, choices: dict[str, object], field: str
) -> None:
    with pytest.raises(ImageError, match=rf"slide\.tif: .*{field}"):
        modalities.load(slide, **choices)


def test_a_slide_without_a_resolution_has_no_spacing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture()[:512, :512], tile=(256, 256), photometric="rgb")
    assert modalities.load(path).spacing_mm is None
    with pytest.raises(ImageError, match="microns per pixel"):
        modalities.load(path, mpp=1.0)


def test_dots_per_inch_of_a_page_are_not_taken_for_microns(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, picture()[:512, :512], tile=(256, 256), photometric="rgb", resolution=(72, 72)
    )
    assert modalities.load(path).spacing_mm is None


def test_a_cut_slide_is_refused_not_filled(slide: Path, tmp_path: Path) -> None:
    data = slide.read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(data[: len(data) - 2000])
    with pytest.raises(ImageError, match=r"cut\.tif"):
        modalities.load(path)


def test_a_slide_loads_from_bytes(slide: Path) -> None:
    choices = {"region": (0, 0, 64, 64)}
    from_bytes = modalities.load(slide.read_bytes(), **choices)
    assert from_bytes.pixels.equal(modalities.load(slide, **choices).pixels)


def test_a_scan_too_large_for_one_image_is_read_by_region(
    tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modalities.formats.slide.MAX_VALUES", 3 * 1000 * 1000)
    flat = tmp_path / "flat.tif"
    tifffile.imwrite(flat, picture(), tile=(256, 256), photometric="rgb", compression="zlib")
    with pytest.raises(
        ImageError, match=r"2560x1536 pixels at level 0 .*; give a smaller region=$"
    ):
        modalities.load(flat)
    image = modalities.load(flat, region=(1000, 500, 900, 900))
    np.testing.assert_array_equal(image.render(), picture()[500:1400, 1000:1900])
    with pytest.raises(ImageError, match=r"smaller region=, a coarser mpp=, or size=$"):
        modalities.load(slide, level=0)
    assert modalities.load(slide, size=400).render().shape == (240, 400, 3)
