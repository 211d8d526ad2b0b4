"""Noise has the distribution it is named after, whatever the type and layout of the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import degradations
from degradations import kernels
from degradations.keys import Key
from degradations.operators import light, noise

KEY = Key(seed=3, image="a", degradation="general/noise")
SIDE = 300
COUNT = SIDE * SIDE

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda image: noise.gaussian(image, 0.18, KEY),
    "speckle": lambda image: noise.speckle(image, 0.35, KEY),
    "impulse": lambda image: noise.impulse(image, 0.1, KEY),
    "shot": lambda image: noise.shot(image, 40.0, KEY, linear_light=False),
    "shot in linear light": lambda image: noise.shot(image, 40.0, KEY, linear_light=True),
    "shot of many photons": lambda image: noise.shot(image, 2500.0, KEY, linear_light=True),
    "shot of very many": lambda image: noise.shot(image, 4e6, KEY, linear_light=False),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def ramp(channels: int, height: int = 61, width: int = 83) -> Tensor:
    """All levels of gray, and values between them."""
    values = torch.linspace(0, 1, channels * height * width)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    return values[order].reshape(channels, height, width)


def levels(channels: int, height: int = 61, width: int = 83) -> Tensor:
    return (ramp(channels, height, width) * 255).round().to(torch.uint8)


def flat(value: float) -> Tensor:
    return torch.full((1, SIDE, SIDE), value)


@every_operator
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("make", [ramp, levels])
def test_neither_layout_nor_compiling_shows(
    name: str, channels: int, make: Callable[[int], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make(channels)
    interleaved = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    gaps = torch.cat([image, image], dim=2)[:, :, : image.shape[2]]
    whole = OPERATORS[name](image)
    assert whole.dtype == image.dtype
    assert torch.equal(OPERATORS[name](interleaved), whole)
    assert torch.equal(OPERATORS[name](gaps), whole)
    assert kernels.compiled()
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    plain = OPERATORS[name](interleaved)
    if image.dtype == torch.uint8:
        different = (plain.int() - whole.int()).abs()
        assert different.max() <= 1
        assert different.float().mean() < 1e-3
    else:
        assert torch.allclose(plain, whole, rtol=0, atol=1e-5)
    if "shot" not in name:
        assert torch.equal(plain, whole)


@every_operator
def test_eight_bits_are_the_rounded_float_result(name: str) -> None:
    image = levels(3, 200, 200)
    eight = OPERATORS[name](image).float()
    exact = OPERATORS[name](image.float() / 255).clamp(0, 1) * 255
    assert (eight - exact).abs().max() <= 0.501
    # Few counts have few values, whose roundings need not cancel.
    assert abs(float((eight - exact).mean())) < 0.05


@every_operator
def test_the_image_is_not_modified(name: str) -> None:
    for image in (ramp(3), levels(3)):
        before = image.clone()
        OPERATORS[name](image)
        assert torch.equal(image, before)


@pytest.mark.parametrize("eight_bit", [False, True])
def test_gaussian_moments(eight_bit: bool) -> None:
    sigma = 0.08
    image = torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)
    residual = (
        noise.gaussian(image, sigma, KEY).double() / 255 - 128 / 255
        if eight_bit
        else noise.gaussian(image.float() / 255, sigma, KEY).double() - 128 / 255
    )
    values = residual.flatten().numpy()
    rounding = (1 / 255) ** 2 / 12 if eight_bit else 0.0
    assert abs(values.mean()) < 4 * sigma / len(values) ** 0.5
    assert values.var() == pytest.approx(sigma**2 + rounding, rel=4 * (2 / len(values)) ** 0.5)
    assert abs(stats.skew(values)) < 4 * (6 / len(values)) ** 0.5
    assert abs(stats.kurtosis(values)) < 4 * (24 / len(values)) ** 0.5
    correlation = torch.corrcoef(residual.flatten(1)).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / COUNT**0.5


@pytest.mark.parametrize("name", [name for name in OPERATORS if "very many" not in name])
def test_noise_is_white(name: str) -> None:
    """Every frequency has the same mean power, exponentially distributed."""
    residual = OPERATORS[name](flat(0.5))[0].double().numpy()
    residual -= residual.mean()
    power = np.abs(np.fft.rfft2(residual)[1 : SIDE // 2, 1 : SIDE // 2]) ** 2
    assert stats.kstest((power / (COUNT * residual.var())).ravel(), "expon").pvalue > 1e-3


@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("photons", [4.0, 60.0, 400.0])
@pytest.mark.parametrize("value", [51 / 255, 0.3, 0.6 + 1e-3])
def test_photon_counts_follow_the_poisson_law(
    photons: float, value: float, eight_bit: bool
) -> None:
    image = flat(value)
    if eight_bit:
        image = (image * 255).round().to(torch.uint8)
        value = float(image[0, 0, 0]) / 255
    else:
        value = float(image[0, 0, 0])
    shot = noise.shot(image, photons, KEY, linear_light=False)
    shares = shot.double().flatten().numpy() / (255 if eight_bit else 1)
    rate = photons * value
    if not eight_bit or photons < 100:
        counts = np.rint(shares * photons)
        assert np.abs(shares * photons - counts).max() < (0.13 if eight_bit else 1e-4)
        # Counts beyond white are shown as white.
        steps = np.arange(photons)
        found = np.searchsorted(np.sort(counts), steps, side="right") / COUNT
        assert np.abs(found - stats.poisson.cdf(steps, rate)).max() < 1.95 / COUNT**0.5
    if rate + 5 * rate**0.5 < photons:
        rounding = (1 / 255) ** 2 / 12 if eight_bit else 0.0
        spread = (2 + 1 / rate) ** 0.5 / COUNT**0.5
        assert shares.mean() == pytest.approx(
            value, abs=4 * (value / photons / COUNT) ** 0.5 + 1e-5
        )
        assert shares.var() - rounding == pytest.approx(value / photons, rel=4 * spread + 0.01)


@pytest.mark.parametrize("photons", [700.0, 3e4])
def test_many_photons_follow_the_poisson_law_too(photons: float) -> None:
    """Rates on both sides of where exact inversion ends."""
    for value in (0.7, 0.75, 0.02):
        shot = noise.shot(flat(value), photons, KEY, linear_light=False)
        counts = np.rint(shot.double().flatten().numpy() * photons)
        rate = photons * float(torch.tensor(value))
        steps = np.unique(counts)
        found = np.searchsorted(np.sort(counts), steps, side="right") / COUNT
        assert np.abs(found - stats.poisson.cdf(steps, rate)).max() < 1.95 / COUNT**0.5 + 3e-5


def test_photons_of_colour_are_counted_in_linear_light() -> None:
    photons, value = 200.0, 0.5
    shot = noise.shot(flat(value), photons, KEY, linear_light=True)
    linear = light.decode(shot.double().flatten().numpy())
    expected = light.decode(np.array(value))
    assert linear.mean() == pytest.approx(expected, rel=4 / (expected * photons * COUNT) ** 0.5)
    ratio = linear.var() / linear.mean()
    assert ratio == pytest.approx(1 / photons, rel=4 * (2 / COUNT) ** 0.5 + 4e-3)


def test_every_law_ends_where_the_words_end() -> None:
    """The search for a count always stops, and at the count that SciPy names."""
    laws = noise._photon_laws(300.0, True)
    for level in (1, 40, 128, 255):
        rate = laws.rates[level]
        thresholds = laws.thresholds[laws.first[level] : laws.first[level + 1]]
        assert thresholds[-1] == 2**32 - 1
        for word in (0, 1, 12345, 2**31, 2**32 - 2, 2**32 - 1):
            count = laws.fewest[level] + np.searchsorted(thresholds, word)
            assert count == stats.poisson.ppf((word + 0.5) / 2**32, rate)


@pytest.mark.parametrize("amount", [0.002, 0.09, 0.6])
def test_impulses_hit_a_binomial_number_of_values_half_of_them_white(amount: float) -> None:
    hit = noise.impulse(flat(0.5), amount, KEY)
    black, white = int((hit == 0).sum()), int((hit == 1).sum())
    assert stats.binomtest(black + white, COUNT, amount).pvalue > 1e-3
    assert stats.binomtest(black, black + white, 0.5).pvalue > 1e-3
    assert int((hit == 0.5).sum()) == COUNT - black - white


def test_impulses_stay_when_their_number_rises() -> None:
    before = noise.impulse(flat(0.5), 0.03, KEY)
    after = noise.impulse(flat(0.5), 0.031, KEY)
    assert torch.equal(after[before != 0.5], before[before != 0.5])


def test_all_values_can_be_hit() -> None:
    assert set(noise.impulse(flat(0.5), 1.0, KEY).unique().tolist()) == {0.0, 1.0}


def test_the_variance_of_speckle_grows_with_the_square_of_the_value() -> None:
    sigma = 0.1
    for value in (0.1, 0.4, 0.7):
        residual = (noise.speckle(flat(value), sigma, KEY) - value).double()
        tolerance = 4 * (2 / COUNT) ** 0.5
        assert float(residual.var()) == pytest.approx((sigma * value) ** 2, rel=tolerance)
        assert abs(float(residual.mean())) < 4 * sigma * value / COUNT**0.5


@pytest.mark.parametrize("kind", ["gaussian", "shot", "speckle", "impulse"])
def test_gray_noise_is_gray_and_colour_noise_is_not(kind: str) -> None:
    spec = f"general/{kind}_noise:3"
    gray = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    out = degradations.apply(gray, spec, domain="display", ids=["a"], seed=0)[0]
    assert torch.equal(out[0], out[1])
    colour = torch.tensor([100, 120, 140], dtype=torch.uint8)[None, :, None, None]
    out = degradations.apply(
        colour.expand(1, 3, 64, 64), spec, domain="display", ids=["a"], seed=0
    )[0]
    correlation = torch.corrcoef(out.float().flatten(1)).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / 64


def test_imagenet_c_counts_photons_in_display_values() -> None:
    colour = torch.tensor([0.2, 0.3, 0.4])[None, :, None, None].expand(1, 3, SIDE, SIDE)
    out = degradations.apply(
        colour, "general/shot_noise@imagenet-c:1", domain="display", ids=["a"], seed=0
    )
    ratio = out[0].flatten(1).var(dim=1) / out[0].flatten(1).mean(dim=1)
    assert ratio.tolist() == pytest.approx([1 / 60] * 3, rel=0.04)


def test_noise_differs_between_images_and_seeds() -> None:
    half = torch.full((1, 1, 256, 256), 0.5)
    residuals = [
        degradations.apply(
            half, "general/gaussian_noise:1", domain="display", ids=[image], seed=seed
        ).flatten()
        for image, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    correlation = torch.corrcoef(torch.stack(residuals)).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / 256
