"""The general degradations obey the laws they are named after."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from torch import Tensor

import degradations
from degradations.operators import blur
from degradations.operators.sizes import fast_length

HALF = torch.full((1, 1, 256, 256), 0.5)


def degrade(pixels: Tensor, spec: str, image_id: str = "a", seed: int = 0) -> Tensor:
    return degradations.apply(pixels, spec, domain="display", ids=[image_id], seed=seed)


def test_noise_has_the_stated_deviation_and_no_mean() -> None:
    residual = (degrade(HALF, "general/gaussian_noise:2") - HALF).double()
    assert float(residual.std()) == pytest.approx(0.10, rel=4 / math.sqrt(2 * 256**2))
    assert abs(float(residual.mean())) < 4 * 0.10 / 256
    kurtosis = float((residual / residual.std()).pow(4).mean())
    assert kurtosis == pytest.approx(3, abs=4 * math.sqrt(24 / 256**2))


def test_noise_of_colour_channels_is_independent() -> None:
    colour = torch.tensor([0.4, 0.5, 0.6])[None, :, None, None].expand(1, 3, 256, 256)
    residual = degrade(colour, "general/gaussian_noise:1") - colour
    correlation = torch.corrcoef(residual[0].flatten(1)).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / 256


def test_noise_differs_between_images_and_seeds() -> None:
    residuals = [
        (degrade(HALF, "general/gaussian_noise:1", image_id, seed) - HALF).flatten()
        for image_id, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    correlation = torch.corrcoef(torch.stack(residuals)).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / 256


@pytest.mark.parametrize("cycles", [2, 5, 12])
@pytest.mark.parametrize("axis", [-1, -2])
def test_gaussian_blur_has_the_modulation_transfer_of_a_gaussian(cycles: int, axis: int) -> None:
    size, severity = 256, 2
    place = (torch.arange(size) + 0.5) / size
    # Whole half-cycles mirror into themselves, so that the border does not disturb the wave.
    wave = torch.cos(math.pi * cycles * place)
    wave = wave[None] if axis == -1 else wave[:, None]
    pattern = (0.5 + 0.4 * wave.expand(size, size))[None, None]
    out = degrade(pattern, f"general/gaussian_blur:{severity}")
    sigma, frequency = 0.008, cycles / 2
    expected = math.exp(-2 * math.pi**2 * sigma**2 * frequency**2)
    found = float(((out - 0.5) * wave).sum() / ((pattern - 0.5) * wave).sum())
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("level", [1, 2])
def test_medq_deg_blur_is_scipys_up_to_its_8_bit_truncation(
    level: int, pictures: dict[str, Tensor]
) -> None:
    clean = pictures["retina"]
    out = degrade(clean[None], f"general/gaussian_blur@medq-deg:{level}")[0]
    sigma = (3.0, 7.0)[level - 1]
    peer = scipy.ndimage.gaussian_filter(clean.double().numpy(), (0, sigma, sigma), truncate=6)
    assert np.abs(out.numpy() - peer).max() < 0.5 / 255


@pytest.mark.parametrize("spec", ["general/gaussian_blur:5", "general/motion_blur:5"])
def test_blur_keeps_uniform_images_and_loses_no_light(spec: str) -> None:
    assert torch.allclose(degrade(HALF, spec), HALF, atol=1e-6)
    point = torch.zeros(1, 1, 256, 256)
    point[..., 128, 128] = 1
    assert float(degrade(point, spec).sum()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("length", [3.0, 10.0, 41.5])
@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 140.0])
def test_the_motion_kernel_is_a_line_of_the_stated_length(length: float, angle: float) -> None:
    kernel = blur.line_kernel(length, angle)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    radius = kernel.shape[0] // 2
    y, x = np.mgrid[radius : -radius - 1 : -1, -radius : radius + 1]
    direction = math.radians(angle)
    along = x * math.cos(direction) + y * math.sin(direction)
    across = y * math.cos(direction) - x * math.sin(direction)
    assert (kernel * along).sum() == pytest.approx(0, abs=1e-9)
    antialias = 1 / 6
    assert length**2 / 12 <= (kernel * along**2).sum() <= length**2 / 12 + antialias + 0.05
    assert (kernel * across**2).sum() <= antialias + 0.05


def test_motion_without_length_is_no_motion() -> None:
    assert blur.line_kernel(0.0, 33.0).max() == 1


def test_motion_follows_the_angle_that_explain_tells() -> None:
    point = torch.zeros(1, 1, 128, 128)
    point[..., 64, 64] = 1
    for image_id in ("a", "b", "c"):
        spec = "general/motion_blur:4"
        numbers = degradations.explain(spec, (1, 128, 128), id=image_id)[0]["numbers"]
        trace = degrade(point, spec, image_id)[0, 0].double()
        y, x = torch.meshgrid(64.0 - torch.arange(128), torch.arange(128) - 64.0, indexing="ij")
        xx, yy, xy = ((trace * moment).sum() for moment in (x * x, y * y, x * y))
        axis = 0.5 * math.degrees(math.atan2(float(2 * xy), float(xx - yy))) % 180
        assert axis == pytest.approx(numbers["angle_deg"], abs=0.5)


def test_directions_of_motion_are_spread_evenly() -> None:
    angles = np.radians(
        [
            degradations.explain("general/motion_blur:1", (8, 8), id=str(n))[0]["numbers"][
                "angle_deg"
            ]
            for n in range(2000)
        ]
    )
    assert abs(np.exp(2j * angles).mean()) < 3 / math.sqrt(2000)


def test_contrast_shrinks_about_the_mean_of_each_channel() -> None:
    pixels = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    out = degrade(pixels, "general/contrast:3")
    mean = pixels.mean(dim=(-2, -1), keepdim=True)
    assert torch.allclose(out, mean + 0.3 * (pixels - mean), atol=1e-6)


@pytest.mark.parametrize("kind", ["histology", "mr"])
def test_jpeg_is_what_libjpeg_stores(kind: str, pictures: dict[str, Tensor]) -> None:
    clean = pictures[kind]
    out = degrade(clean[None], "general/jpeg:3")[0]
    levels = np.rint(clean.numpy() * 255).astype(np.uint8)
    picture = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    assert picture.mode == ("L" if kind == "mr" else "RGB")
    buffer = io.BytesIO()
    # Pillow's own default for colour is 4:2:0.
    picture.save(buffer, "JPEG", quality=13)
    expected = np.asarray(Image.open(buffer))
    found = (out * 255).numpy()
    assert np.allclose(found.squeeze(), _planes(expected), atol=1e-3)


def _planes(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 2 else picture.transpose(2, 0, 1)


def test_rounding_to_8_bits_does_not_shift_the_mean() -> None:
    """Truncation would darken by half a level."""
    ramp = torch.linspace(0.2, 0.8, 256 * 256).reshape(1, 1, 256, 256)
    out = degrade(ramp, "general/jpeg:0.001")
    assert abs(float((out - ramp).double().mean())) * 255 < 0.05


@pytest.mark.parametrize("size", [1, 2, 97, 256, 373, 1021])
def test_transform_lengths_are_even_and_have_small_factors(size: int) -> None:
    length = fast_length(size)
    assert size <= length <= 1.15 * size + 3
    assert length % 2 == 0
    assert pow(30, 30, length) == 0
