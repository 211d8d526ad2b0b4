"""The patch of a slide that holds tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.filters import threshold_otsu

import modalities
from modalities import ImageError
from modalities.formats.slide import tissue

GLASS, PINK = (243, 240, 244), (190, 110, 170)


def picture() -> np.ndarray:
    """1200 x 1600 of glass, with tissue at x 900..1300, y 300..800, and a corner not scanned."""
    rng = np.random.default_rng(5)
    rgb = np.empty((1200, 1600, 3))
    rgb[:] = GLASS
    rgb[300:800, 900:1300] = PINK
    rgb[:60, :200] = 0  # not scanned
    return np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("patch") / "slide.tif"
    rgb = picture()
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}  # 0.5 microns
    with tifffile.TiffWriter(path) as writer:
        writer.write(rgb, tile=(256, 256), subifds=1, photometric="rgb", **resolution)
        writer.write(rgb[::2, ::2], tile=(256, 256), subfiletype=1, photometric="rgb")
    return path


def place(image: modalities.MedicalImage) -> list[int]:
    said = image.provenance["choices"]["patch"]
    assert said.startswith("tissue: ")
    return [int(n) for n in said.removeprefix("tissue: ").split(", ")[0].split(",")]


@pytest.mark.parametrize("size", [64, 200, 400])
def test_the_patch_lies_within_the_tissue(slide: Path, size: int) -> None:
    image = modalities.load(slide, patch="tissue", size=size)
    x, y, width, height = place(image)
    assert (width, height) == (size, size)
    inside = (min(x + width, 1300) - max(x, 900)) * (min(y + height, 800) - max(y, 300))
    # As full as the fullest within 2 %, and the thumbnail it is found on has pixels of 1.6.
    assert inside / size**2 > 0.97
    np.testing.assert_array_equal(image.render(), picture()[y : y + size, x : x + size])


def test_the_scale_of_a_patch_can_be_chosen(slide: Path) -> None:
    image = modalities.load(slide, patch="tissue", size=150, mpp=1.0)
    assert place(image)[2:] == [300, 300]
    assert image.render().shape == (150, 150, 3)
    assert image.spacing_mm == pytest.approx((0.001, 0.001))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"patch": "tumour"}, "patch: no 'tumour'; valid is tissue"),
        ({"patch": "tissue", "region": (0, 0, 9, 9)}, "patch and region"),
        ({"patch": "tissue", "size": 1300}, "size: a patch of 1300 pixels"),
        ({"patch": "tissue", "size": 0.5}, "size: a patch of 0 pixels"),
        ({"patch": "tissue", "mpp": 1.0, "level": 0}, "mpp and level"),
    ],
)
def test_a_patch_that_cannot_be_had_is_refused(
    slide: Path, choices: dict[str, object], message: str
) -> None:
    with pytest.raises(ImageError, match=rf"slide\.tif: {message}"):
        modalities.load(slide, **choices)


def test_a_slide_of_glass_has_no_tissue(tmp_path: Path) -> None:
    glass = np.full((600, 600, 3), GLASS, np.uint8)
    tifffile.imwrite(tmp_path / "g.tif", glass, tile=(256, 256), photometric="rgb")
    with pytest.raises(ImageError, match=r"g\.tif: patch: no tissue was found"):
        modalities.load(tmp_path / "g.tif", patch="tissue", size=100)


def test_the_tissue_mask_is_otsus() -> None:
    rgb = np.random.default_rng(6).integers(60, 255, (80, 90, 3), dtype=np.uint8)
    rgb[20:50, 30:70] //= 2
    density, mask = tissue(rgb)
    np.testing.assert_allclose(
        density,
        np.mean([-np.log10((rgb[..., i] + 1.0) / 256) for i in range(3)], axis=0),
        atol=1e-6,
    )
    peer = density > threshold_otsu(density)
    assert (mask == peer).mean() > 0.99
