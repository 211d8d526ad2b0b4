"""PSNR and SSIM against scikit-image's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from degradations.similarity import psnr, ssim

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(40, 57), (33, 40, 3)])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_psnr_and_ssim_are_those_of_scikit_image(shape: tuple[int, ...], kind: str) -> None:
    clean, noise = RNG.uniform(0, 1, shape), RNG.normal(0, 0.1, shape)
    bad = (clean + noise).clip(0, 1)
    if kind == "uint8":
        clean, bad = (np.rint(x * 255) for x in (clean, bad))
    clean, bad = clean.astype(kind), bad.astype(kind)
    full = 255 if kind == "uint8" else 1.0
    reference = structural_similarity(
        clean, bad, data_range=full, channel_axis=2 if len(shape) == 3 else None,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(clean, bad) == pytest.approx(reference, abs=1e-6)
    expected = peak_signal_noise_ratio(clean, bad, data_range=full)
    assert psnr(clean, bad) == pytest.approx(expected, abs=1e-6)


def test_equal_pictures_are_perfect() -> None:
    picture = RNG.integers(0, 256, (20, 20), dtype=np.uint8)
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, picture) == 1.0


def test_a_picture_smaller_than_the_window_has_no_ssim() -> None:
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(np.zeros((10, 40), np.uint8), np.zeros((10, 40), np.uint8))
