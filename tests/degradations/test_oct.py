"""Degradations of B-scans obey the physics of coherent light, depth and a moving eye."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import degradations
from degradations import Key, scenes
from degradations.operators import bscan

IDS = [str(number) for number in range(8)]


def key(name: str, image: str = "a") -> Key:
    return Key(0, image, f"oct/{name}")


def flat(value: float, rows: int = 128, columns: int = 128) -> Tensor:
    return torch.full((1, rows, columns), value)


@functools.cache
def retina(size: int = 128) -> Tensor:
    return scenes.draw("oct", size).float() / 255.0


def signal(image: Tensor) -> np.ndarray:
    """Intensity above the noise floor."""
    found: np.ndarray = bscan.to_intensity(image).double().numpy()[0]
    return found - 10 ** (bscan.RANGE_DB / 10 * (bscan.FLOOR - 1))


def loss(operate: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Decibels of signal that an operator takes; the same from any picture."""
    clean, scene = flat(0.9), retina()
    taken: np.ndarray = -10 * np.log10(signal(operate(clean)) / signal(clean))
    strong = (scene[0] > 0.5).numpy()
    other = -10 * np.log10(signal(operate(scene))[strong] / signal(scene)[strong])
    np.testing.assert_allclose(other, taken[strong], atol=0.02)
    return taken


def test_display_is_decibels_of_intensity() -> None:
    values = torch.tensor([[[0.0, 0.25, 0.5, 1.0]]])
    intensity = bscan.to_intensity(values)
    torch.testing.assert_close(intensity, torch.tensor([[[1e-4, 1e-3, 1e-2, 1.0]]]))
    torch.testing.assert_close(bscan.to_display(intensity), values, atol=1e-6, rtol=0)


def test_only_eye_motion_moves_anatomy_and_all_are_for_oct() -> None:
    entries = [degradations.get(name) for name in degradations.names() if name.startswith("oct/")]
    assert len(entries) == 7
    assert all(entry.modalities == ("oct",) for entry in entries)
    assert [entry.name for entry in entries if entry.geometric] == ["oct/bscan_shift"]


# --- speckle


def grains(contrast: float, grain: float = 0.01, image: str = "a") -> np.ndarray:
    """Speckle in intensity, on a flat picture."""
    noisy = bscan.speckle(flat(0.5, 512, 512), contrast, grain, key("speckle", image))
    return (bscan.to_intensity(noisy) / 1e-2).double().numpy()[0]


@pytest.mark.parametrize("contrast", [0.2, 0.6, 1.0])
def test_speckle_has_its_contrast_and_keeps_the_mean_intensity(contrast: float) -> None:
    found = grains(contrast)
    assert found.mean() == pytest.approx(1.0, abs=0.03)
    assert found.std() / found.mean() == pytest.approx(contrast, rel=0.03)


def test_fully_developed_speckle_is_rayleigh() -> None:
    """Amplitude: mean over deviation 1.91. In decibels: deviation 5.57, whatever the signal."""
    found = grains(1.0)
    amplitude = np.sqrt(found)
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91, rel=0.03)
    assert (10 * np.log10(found)).std() == pytest.approx(5.57, rel=0.03)
    for level in (0.5, 1.0, 2.0):
        assert (found > level).mean() == pytest.approx(math.exp(-level), abs=0.02)


def test_speckle_has_grains_of_its_size() -> None:
    """Intensity correlates as the square of the field: 1/e^2 at the grain's size."""
    found = grains(1.0, 0.02) - 1
    lag = round(0.02 * 512)
    same = (found[:, lag:] * found[:, :-lag]).mean() / found.var()
    near = (found[:, 1:] * found[:, :-1]).mean() / found.var()
    assert same == pytest.approx(math.exp(-2), abs=0.04)
    assert near > 0.95


def test_speckle_multiplies_whatever_the_picture() -> None:
    grown = [
        bscan.speckle(clean, 0.6, 0.02, key("speckle")) - clean for clean in (flat(0.6), retina())
    ]
    torch.testing.assert_close(grown[0], grown[1], atol=1e-6, rtol=0)


# --- depth and shadow


def test_the_noise_floor_has_no_shadow_and_no_roll_off() -> None:
    for value in (0.0, 0.05, bscan.FLOOR):
        clean = flat(value)
        torch.testing.assert_close(bscan.roll_off(clean, 30.0), clean, atol=1e-6, rtol=0)
        shaded = bscan.shadow(clean, 30.0, 6, key("shadow"))
        torch.testing.assert_close(shaded, clean, atol=1e-6, rtol=0)
    assert float(bscan.roll_off(flat(0.9), 200.0)[0, -1, 0]) == pytest.approx(bscan.FLOOR, abs=1e-5)


@pytest.mark.parametrize("image", IDS[:4])
def test_a_shadow_never_lifts_with_depth_and_is_linear_in_its_strength(image: str) -> None:
    taken = loss(lambda clean: bscan.shadow(clean, 10.0, 6, key("shadow", image)))
    assert taken.min() >= -1e-3
    assert np.diff(taken, axis=0).min() >= -1e-3
    assert taken.max() > 5
    twice = loss(lambda clean: bscan.shadow(clean, 20.0, 6, key("shadow", image)))
    np.testing.assert_allclose(twice, 2 * taken, atol=0.02)
    assert (taken[-1] == 0).any()  # columns beside them are as they were


def test_one_vessel_takes_its_loss_behind_its_middle() -> None:
    found = []
    for image in IDS:
        clean = flat(0.9, 64, 1024)
        dark = bscan.shadow(clean, 12.0, 1, key("shadow", image))
        found.append(-10 * np.log10(signal(dark) / signal(clean)))
    for taken in found:
        assert taken[-1].max() == pytest.approx(12.0, rel=0.01)
        assert 0 < (taken[-1] > 1e-3).sum() <= 2 * 0.03 * 1024 + 1
    # Opacities shade from the top, vessels of the retina from within.
    assert {bool(taken[0].max() > 0) for taken in found} == {False, True}


def test_roll_off_is_exponential_in_depth() -> None:
    taken = loss(lambda clean: bscan.roll_off(clean, 20.0))
    np.testing.assert_allclose(np.diff(taken, axis=0), 20.0 / 128, atol=2e-3)
    assert taken[-1, 0] + 10.0 / 128 == pytest.approx(20.0, abs=5e-3)


def test_roll_off_reaches_the_lower_border_of_any_shape() -> None:
    for rows, columns in ((64, 128), (128, 64)):
        clean = flat(0.9, rows, columns)
        kept = signal(bscan.roll_off(clean, 20.0))[-1] / signal(clean)[-1]
        np.testing.assert_allclose(kept, 0.01, rtol=0.05)


# --- eye motion


@pytest.mark.parametrize("amplitude", [0.3, 2.5, 6.0])
def test_a_shifted_column_is_the_column_moved_along_depth(amplitude: float) -> None:
    rows = torch.arange(128.0)
    layer = torch.exp(-((rows - 64) ** 2) / (2 * 4.0**2))[None, :, None].expand(1, 128, 96)
    moved = bscan.shift_columns(layer, amplitude, key("bscan_shift"))[0].double()
    centroid = (moved * rows[:, None]).sum(dim=0) / moved.sum(dim=0)
    expected = bscan.displacement(96, key("bscan_shift")) * amplitude
    np.testing.assert_allclose(centroid.numpy() - 64, expected, atol=1e-3)
    torch.testing.assert_close(moved.sum(dim=0), layer[0].double().sum(dim=0), rtol=1e-4, atol=0)


def test_what_comes_from_outside_is_black() -> None:
    moved = bscan.shift_columns(flat(1.0), 30.0, key("bscan_shift"))[0].numpy()
    shift = bscan.displacement(128, key("bscan_shift")) * 30.0
    for column in range(128):
        dark = (moved[:, column] == 0).sum()
        assert dark == pytest.approx(abs(shift[column]), abs=1)
        ends = moved[[0, -1], column]
        assert ends[int(shift[column] > 0)] >= ends[int(shift[column] <= 0)]


def test_the_eye_drifts_and_jumps() -> None:
    motions = np.array([bscan.displacement(512, key("bscan_shift", str(i))) for i in range(200)])
    assert motions.std() == pytest.approx(1.0, abs=0.12)
    steps = np.abs(np.diff(motions, axis=1))
    jumps = (steps > 0.1).sum(axis=1)
    assert jumps.max() <= 3
    assert jumps.mean() > 1.5
    assert np.median(steps) < 0.02


# --- blink


@pytest.mark.parametrize("image", IDS[:4])
def test_a_blink_leaves_noise_in_one_run_of_columns_that_lasts_longer(image: str) -> None:
    before = np.zeros(256, dtype=bool)
    for fraction in (0.05, 0.2, 0.4):
        bad = bscan.blink(flat(0.7, 16, 256), fraction, 0.01, key("blink", image))[0]
        assert torch.equal(bad, bad[:1].expand(16, 256))
        closed = (bad[0] < 0.35).numpy()
        assert closed.mean() == pytest.approx(fraction, abs=0.015)
        assert np.abs(np.diff(closed.astype(int))).sum() <= 2
        assert not (before & ~closed).any()
        gone = (bad[0] - bscan.FLOOR).abs() < 0.01
        assert (gone | (bad[0] == 0.7)).float().mean() > 0.96
        before = closed


# --- mirror image and focus


@pytest.mark.parametrize("residual", [0.01, 0.3])
def test_the_mirror_image_is_upside_down_about_the_zero_delay(residual: float) -> None:
    rows = torch.arange(200.0)
    for image in IDS[:4]:
        layer = 1e-2 * torch.exp(-((rows - 90) ** 2) / (2 * 3.0**2))[None, :, None] + 1e-12
        clean = bscan.to_display(layer.expand(1, 200, 8))
        both = bscan.to_intensity(bscan.mirror(clean, residual, key("mirror", image)))
        added = (both - bscan.to_intensity(clean))[0, :, 0].double().clamp(min=0)
        total = float(bscan.to_intensity(clean)[0, :, 0].double().sum())
        assert float(added.sum()) / total == pytest.approx(residual, rel=0.02)
        at = float((added * rows).sum() / added.sum()) + 0.5
        zero_delay = (at + 90.5) / 2 / 200
        assert 0.295 <= zero_delay <= 0.455


def test_a_mirror_image_only_adds_light() -> None:
    for image in IDS:
        assert bool((bscan.mirror(retina(), 0.5, key("mirror", image)) >= retina() - 1e-5).all())


@pytest.mark.parametrize("sigma", [0.5, 3.0, 6.5])
def test_defocus_widens_the_beam_across_columns_only(sigma: float) -> None:
    dot = flat(0.0, 65, 65)
    dot[0, 32, 32] = 1.0
    light = bscan.to_intensity(bscan.defocus(dot, sigma))[0].double().numpy() - 1e-4
    across = light[32]
    assert np.abs(np.delete(light, 32, axis=0)).max() < 1e-6
    assert across.sum() == pytest.approx(1 - 1e-4, rel=0.01)
    variance = (across * (np.arange(65) - 32) ** 2).sum() / across.sum()
    assert variance == pytest.approx(sigma**2 + 1 / 12, rel=0.03)
