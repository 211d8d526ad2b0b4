"""Stain vectors found again in tissue that was mixed from known ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import modalities
from modalities import ImageError, MedicalImage
from modalities.pathology import stain_matrix

# Optical densities of haematoxylin and eosin, Ruifrok and Johnston 2001, and as other
# laboratories stain: pale, bluish, reddish.
STAINS = {
    "Ruifrok": [[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]],
    "Macenko": [[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]],
    "bluish": [[0.80, 0.55, 0.20], [0.15, 0.95, 0.25]],
}


def unit(stains: Any) -> np.ndarray:
    array = np.asarray(stains, float)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def tissue(stains: Any, white: float = 1.0, glass: float = 0.3, seed: int = 0) -> np.ndarray:
    """uint8 `(H, W, 3)` by Beer and Lambert: nuclei, stroma, both at once, and clear glass."""
    rng = np.random.default_rng(seed)
    shape = (200, 200)
    amounts = rng.gamma(4.0, 0.12, (*shape, 2))
    kind = rng.random(shape)
    amounts[kind < 0.3, 1] *= 0.02  # nuclei
    amounts[(kind >= 0.3) & (kind < 0.6), 0] *= 0.02  # stroma
    amounts[rng.random(shape) < glass] = 0.0
    light = white * 10.0 ** -(amounts @ unit(stains)) * 255
    return np.clip(np.rint(light + rng.normal(0, 0.7, (*shape, 3))), 0, 255).astype(np.uint8)


def shown(rgb: np.ndarray) -> MedicalImage:
    pixels = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32) / 255)
    return MedicalImage(pixels, "display", "pathology")


def degrees(a: Any, b: Any) -> np.ndarray:
    cosine = (unit(a) * unit(b)).sum(axis=1)
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("name", STAINS)
@pytest.mark.parametrize("swap", [False, True])
def test_the_stains_that_were_mixed_are_found(name: str, swap: bool) -> None:
    mixed = STAINS[name][::-1] if swap else STAINS[name]
    found = stain_matrix(shown(tissue(mixed)))
    assert found.shape == (2, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    # Haematoxylin comes first in whatever order they were mixed.
    assert degrees(found, STAINS[name]).max() < 4.0


def test_the_stains_do_not_depend_on_how_much_glass_there_is() -> None:
    found = [stain_matrix(shown(tissue(STAINS["Ruifrok"], glass=part))) for part in (0.0, 0.9)]
    assert degrees(*found).max() < 2.0


def test_grey_glass_is_allowed_for() -> None:
    rgb = tissue(STAINS["Ruifrok"], white=0.85)
    right, wrong = stain_matrix(shown(rgb), white=0.85), stain_matrix(shown(rgb))
    assert degrees(right, STAINS["Ruifrok"]).max() < 4.0
    assert degrees(right, STAINS["Ruifrok"]).sum() < degrees(wrong, STAINS["Ruifrok"]).sum()
    each = stain_matrix(shown(rgb), white=(0.85, 0.85, 0.85))
    assert each.equal(right)


def test_torchstain_finds_the_same() -> None:
    from torchstain.numpy.normalizers.macenko import NumpyMacenkoNormalizer

    # Both stains everywhere, since it leaves out pixels that let any one colour pass.
    rng = np.random.default_rng(2)
    amounts = rng.uniform(0.25, 0.9, (200, 200, 2))
    light = 10.0 ** -(amounts @ unit(STAINS["Macenko"])) * 255
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    peer = NumpyMacenkoNormalizer()
    peer.fit(rgb, Io=255)
    assert degrees(stain_matrix(shown(rgb)), peer.HERef.T).max() < 1.0


def test_the_amounts_of_the_stains_follow_from_the_matrix() -> None:
    rgb = tissue(STAINS["Ruifrok"])
    matrix = stain_matrix(shown(rgb)).double().numpy()
    density = -np.log10(np.maximum(rgb, 0.5) / 255)
    amounts = density @ np.linalg.pinv(matrix)
    again = 255 * 10.0 ** -(amounts @ matrix)
    assert np.abs(again - rgb).mean() < 2.0


def test_the_image_stays_as_it_is() -> None:
    image = shown(tissue(STAINS["Ruifrok"]))
    before = image.pixels.clone()
    stain_matrix(image)
    assert image.pixels.equal(before)


@pytest.mark.parametrize(
    ("image", "choices", "message"),
    [
        (torch.rand(1, 64, 64), {}, "needs a colour image"),
        (torch.rand(3, 2, 64, 64), {}, "needs a colour image"),
        (torch.ones(3, 64, 64), {}, "0 pixels of tissue, at least 1000"),
        (torch.full((3, 64, 64), 0.3), {}, "only one stain"),
        (torch.rand(3, 64, 64), {"method": "vahadane"}, "no 'vahadane' for a stain matrix"),
        (torch.rand(3, 64, 64), {"white": 0.0}, "white: expected brightness"),
        (torch.rand(3, 64, 64), {"white": float("nan")}, "white: expected brightness"),
    ],
)
def test_what_has_no_stains_is_refused(
    image: torch.Tensor, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        stain_matrix(MedicalImage(image, "display", "pathology"), **choices)


def test_a_patch_of_a_slide_has_its_stains(tmp_path: Any) -> None:
    import tifffile

    rgb = np.full((600, 600, 3), 255, np.uint8)
    rgb[100:500, 100:500] = np.tile(tissue(STAINS["Ruifrok"], glass=0.1), (2, 2, 1))
    tifffile.imwrite(tmp_path / "s.tif", rgb, tile=(256, 256), photometric="rgb")
    patch = modalities.load(tmp_path / "s.tif", patch="tissue", size=256)
    assert degrees(stain_matrix(patch), STAINS["Ruifrok"]).max() < 4.0
