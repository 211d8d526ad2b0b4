"""Echoes add and multiply in the envelope; gain is in decibels; beams run down the columns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import degradations
from degradations import Key, scenes
from degradations.operators import envelope

KEY = Key(0, "a", "ultrasound/test")
#: Fully developed speckle: mean over standard deviation of a Rayleigh variable, and standard
#: deviation of 20 log10 of one (Burckhardt 1978: 5.57 dB).
RAYLEIGH_RATIO = math.sqrt(math.pi / (4 - math.pi))
RAYLEIGH_DB = 20 / math.log(10) * math.pi / math.sqrt(24)


def worsen(name: str, pixels: Tensor, severity: float, image_id: str = "a") -> Tensor:
    bad: Tensor
    (bad,) = degradations.apply(
        pixels[None], f"ultrasound/{name}:{severity}", domain="display", ids=[image_id], seed=0
    )
    return bad


def echo(display: Tensor) -> Tensor:
    """Envelope over that of white, from 60 dB of log compression; black is no echo."""
    return 10 ** ((display.double() - 1) * 3) - 1e-3


def decibels(bad: Tensor, clean: Tensor) -> Tensor:
    return 20 * torch.log10(echo(bad) / echo(clean))


def gray(value: float, size: int = 128) -> Tensor:
    return torch.full((1, size, size), value)


def test_sixty_decibels_from_white_to_black_and_back() -> None:
    display = torch.linspace(0, 1, 61)
    found = envelope.to_envelope(display)
    assert float(found[0]) == pytest.approx(0, abs=1e-9)
    assert float(found[60]) == pytest.approx(0.999, abs=1e-6)
    assert 20 * math.log10(float(found[40]) + 1e-3) == pytest.approx(-20, abs=1e-4)
    assert (envelope.to_display(found) - display).abs().max() < 1e-4


# --- coherence and receiver


def test_full_speckle_is_rayleigh_in_the_envelope_and_5_57_decibels_after_compression() -> None:
    ratios, spreads = [], []
    for image_id in "abcd":
        # Grain of half a pixel: every pixel a look of its own.
        bad = envelope.speckle(gray(0.6, 256), 1.0, 0.002, Key(0, image_id, "x"))
        factor = echo(bad) / echo(gray(0.6, 256))
        ratios.append(float(factor.mean() / factor.std()))
        spreads.append(float((20 * torch.log10(factor.clamp(min=1e-6))).std()))
        assert float(factor.square().mean()) == pytest.approx(1.0, abs=0.02)
    assert sum(ratios) / 4 == pytest.approx(RAYLEIGH_RATIO, rel=0.01)
    assert sum(spreads) / 4 == pytest.approx(RAYLEIGH_DB, rel=0.015)
    assert pytest.approx(1.913, abs=1e-3) == RAYLEIGH_RATIO
    assert pytest.approx(5.57, abs=1e-2) == RAYLEIGH_DB


@pytest.mark.parametrize("amount", [0.1, 0.3, 0.6])
def test_less_speckle_is_rician_and_keeps_the_power(amount: float) -> None:
    factor = echo(envelope.speckle(gray(0.6, 256), amount, 0.002, KEY)) / echo(gray(0.6, 256))
    power = factor.square()
    assert float(power.mean()) == pytest.approx(1.0, abs=0.02)
    # Noncentral chi-square of two degrees of freedom.
    spread = amount * math.sqrt(2 - amount**2)
    assert float(power.std()) == pytest.approx(spread, rel=0.03)


def test_speckle_has_its_grain_at_any_resolution() -> None:
    """Half of the correlation of the field is lost at the same fraction of the picture."""
    found = []
    for size in (128, 512):
        field = echo(envelope.speckle(gray(0.6, size), 0.2, 0.04, KEY))[0]
        field = field - field.mean()
        lag = size // 32
        found.append(float((field[:, lag:] * field[:, :-lag]).mean() / field.square().mean()))
    assert found[0] == pytest.approx(found[1], abs=0.05)
    assert 0.3 < found[1] < 0.7


def test_receiver_noise_is_rayleigh_without_echo_and_rises_with_depth() -> None:
    dark = gray(0.025, 256)
    noise = echo(envelope.thermal_noise(dark, 0.5, 20.0, 0.002, KEY))[0]
    upper, lower = noise[:16], noise[-16:]
    for band in (upper, lower):
        rise = torch.linspace(0, 16 * 20 / 256, 16, dtype=torch.float64)[:, None]
        even = band / 10 ** (rise / 20)
        assert float(even.mean() / even.std()) == pytest.approx(RAYLEIGH_RATIO, rel=0.04)
    risen = 10 * math.log10(float(lower.square().mean() / upper.square().mean()))
    assert risen == pytest.approx(20 * 240 / 256, abs=0.4)
    assert float(lower[-1].square().mean()) == pytest.approx(0.25, rel=0.25)


def test_a_dead_element_darkens_its_beam_from_top_to_bottom() -> None:
    bad = worsen("dead_elements", gray(0.8, 192), 2)
    loss = decibels(bad, gray(0.8, 192))[0]
    assert (loss - loss[:1]).abs().max() < 1e-3
    assert float(loss.max()) == pytest.approx(0, abs=1e-3)
    assert float(loss.min()) < -19


def test_more_dead_elements_keep_the_former_ones() -> None:
    losses = [decibels(worsen("dead_elements", gray(0.9), s), gray(0.9)) for s in (0.5, 1, 2, 3, 5)]
    for less, more in itertools.pairwise(losses):
        assert (more - less).max() < 1e-3
        assert more.sum() < less.sum()


# --- gain


@pytest.mark.parametrize(("name", "sign"), [("gain_up", 1), ("gain_down", -1)])
def test_gain_is_the_same_decibels_for_every_echo_and_black_stays_black(
    name: str, sign: int
) -> None:
    ramp = torch.linspace(0.5, 0.7, 64).expand(1, 64, 64)
    (parameter,) = degradations.get(f"ultrasound/{name}").parameters(1).values()
    change = decibels(worsen(name, ramp, 1), ramp)
    assert (change - sign * parameter).abs().max() < 1e-2
    assert worsen(name, gray(0.0), 5).max() == 0


def test_attenuation_is_linear_in_decibels_over_depth() -> None:
    clean = gray(0.95)
    for severity in (1, 2, 3):
        loss = decibels(worsen("attenuation", clean, severity), clean)[0]
        assert (loss - loss[:, :1]).abs().max() < 1e-3
        depth = (torch.arange(128, dtype=torch.float64) + 0.5) / 128
        told = degradations.get("ultrasound/attenuation").parameters(severity)["loss_db"]
        assert (loss[:, 0] + told * depth).abs().max() < 0.01


def test_sliders_are_off_by_at_most_what_is_told_with_straight_lines_between() -> None:
    clean = gray(0.5, 257)
    for image_id in "abc":
        error = decibels(envelope.misadjust(clean, 12.0, Key(0, image_id, "x")), clean)[0]
        assert (error - error[:, :1]).abs().max() < 1e-3
        assert 11 < float(error.abs().max()) <= 12.01
        bends = (error[2:, 0] - 2 * error[1:-1, 0] + error[:-2, 0]).abs() > 5e-3
        assert int(bends.sum()) <= 2 * (envelope.SLIDERS - 2)


# --- artefacts of propagation


def test_a_shadow_deepens_along_the_beam_and_spares_what_lies_above_and_beside() -> None:
    clean = gray(0.9)
    for image_id in "abcd":
        numbers = degradations.explain("ultrasound/shadow:3", (1, 128, 128), id=image_id)[0][
            "numbers"
        ]
        loss = decibels(worsen("shadow", clean, 3, image_id), clean)[0]
        assert (loss[1:] - loss[:-1]).max() < 1e-3
        assert loss[: math.floor(numbers["top_px"])].abs().max() < 1e-3
        left, right = numbers["left_px"], numbers["right_px"]
        beside = torch.ones(128, dtype=torch.bool)
        margin = numbers["edge_px"]
        beside[math.floor(left - margin) : math.ceil(right + margin) + 1] = False
        assert loss[:, beside].abs().max() < 1e-3
        middle = round((left + right) / 2)
        assert float(loss[-1, middle]) == pytest.approx(-numbers["loss_db"], abs=0.02)


def test_reverberation_lines_lie_at_multiples_of_one_depth_and_fade() -> None:
    clean = gray(0.2, 200)
    bad = envelope.reverberate(clean, 0.3, 30.0, 1.5, 0.8, 100.0, 120.0, KEY)
    added = (echo(bad) - echo(clean))[0]
    profile = added.mean(dim=1)
    peaks = [
        row
        for row in range(1, 199)
        if profile[row] > max(profile[row - 1], profile[row + 1]) and profile[row] > 0.01
    ]
    expected = [30 * k - 0.5 for k in range(1, 7)]
    assert len(peaks) == 6
    assert max(abs(a - b) for a, b in zip(peaks, expected, strict=True)) <= 1
    # Along one beam unevenness varies from line to line; the lines as a whole fade.
    assert float(profile[peaks[5]]) < 0.6 * float(profile[peaks[0]])
    assert float(added[29, 100:104].mean()) > float(added[29, :4].mean())


@pytest.mark.parametrize("name", ["haze", "reverberation"])
def test_clutter_adds_the_same_envelope_to_every_echo(name: str) -> None:
    on_dark = echo(worsen(name, gray(0.3), 2)) - echo(gray(0.3))
    on_bright = echo(worsen(name, gray(0.5), 2)) - echo(gray(0.5))
    assert (on_dark - on_bright).abs().max() < 1e-3
    assert on_dark.min() > -1e-6
    assert on_dark.max() > 0.02


def test_haze_is_a_band_over_depth() -> None:
    """Averaged over many pictures, so that the cloud evens out."""
    clean = gray(0.2, 96)
    total = torch.zeros(96, dtype=torch.float64)
    for image_id in range(60):
        key = Key(0, str(image_id), "x")
        total += (echo(envelope.haze(clean, 0.1, 40.0, 12.0, key)) - echo(clean))[0].mean(dim=1)
    y = torch.arange(96) + 0.5
    band = 0.1 * torch.exp(-0.5 * ((y - 40.0) / 12.0) ** 2)
    assert (total / 60 - band).abs().max() < 0.01


@pytest.mark.parametrize("name", ["haze", "reverberation", "thermal_noise", "speckle", "gain_up"])
def test_the_black_around_a_sector_stays_black(name: str) -> None:
    scan = scenes.draw("ultrasound", 128)
    bad = worsen(name, scan, 5)
    inside = envelope.insonified(scan.float() / 255)
    assert bad[~inside & (scan == 0)].max() == 0
    assert not bool(inside[0, 0, 0] or inside[0, -1, -1] or inside[0, 0, -1])
    assert 0.3 < float(inside.double().mean()) < 0.8
