"""Degradations of dermoscopic pictures, against geometry and the physics of light."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import degradations
from degradations import scenes
from degradations.operators import strokes


def degrade(image: Tensor, spec: str, image_id: str = "a") -> Tensor:
    """One (C, H, W) picture."""
    (out,) = degradations.apply(
        image[None], f"dermoscopy/{spec}", domain="display", ids=[image_id], seed=0
    )
    return out


def light(display: Tensor) -> np.ndarray:
    """Linear light by IEC 61966-2-1, in double precision."""
    v = display.double().numpy()
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def skin(size: tuple[int, int] = (256, 256)) -> Tensor:
    """Uniform, (3, H, W)."""
    return torch.tensor([0.9, 0.7, 0.65])[:, None, None].expand(3, *size).clone()


def changed(clean: Tensor, bad: Tensor) -> np.ndarray:
    mask = degradations.touched(clean[None], bad[None])[0, 0].numpy()
    return np.asarray(mask)


# --- strokes


@pytest.mark.parametrize("steep", [False, True])
@pytest.mark.parametrize("thick", [0.3, 1.0, 3.7])
def test_a_stroke_covers_its_exact_area_however_thin(thick: float, steep: bool) -> None:
    cover = np.zeros((64, 96)) if not steep else np.zeros((96, 64))
    slope = 0.4
    strokes.paint(
        cover,
        10.3,
        70.6,
        lambda u: 20.0 + slope * (u - 10.3),
        lambda u: np.full_like(u, thick),
        steep,
    )
    assert cover.sum() == pytest.approx(thick * (70.6 - 10.3), rel=1e-9)
    assert cover.max() <= 1
    place = np.argwhere(cover > 0)[:, ::-1] if not steep else np.argwhere(cover > 0)
    off = np.abs(place[:, 1] + 0.5 - 20.0 - slope * (place[:, 0] + 0.5 - 10.3))
    assert off.max() < thick / 2 + 1


def test_a_stroke_outside_the_picture_leaves_no_trace() -> None:
    cover = np.zeros((20, 20))
    for start, end, at in ((-30.0, -5.0, 5.0), (25.0, 40.0, 5.0), (0.0, 20.0, -9.0), (0, 20, 40)):
        strokes.paint(
            cover,
            start,
            end,
            lambda u, at=at: np.full_like(u, at),
            lambda u: np.full_like(u, 2.0),
            steep=False,
        )
    assert not cover.any()


# --- hair


def test_hair_grows_with_severity_and_keeps_its_place() -> None:
    clean = skin((128, 128))
    for image_id in "ab":
        before = light(clean)
        for severity in (0.1, 0.5, 1, 1.7, 2, 3, 4, 5):
            now = light(degrade(clean, f"hair:{severity}", image_id))
            assert (now <= before + 1e-5).all()
            assert now.sum() < before.sum()
            before = now


def test_hair_covers_the_stated_share() -> None:
    """Hairs at random places leave exp(-n area) of the picture free, area being the mean of one."""
    entry = degradations.get("dermoscopy/hair")
    for severity in (2, 4):
        told = entry.parameters(severity)
        length = (told["shortest"] + told["longest"]) / 2
        # The width tapers in proportion to the way, so its mean lies in the middle.
        width = (told["thinnest"] + told["thickest"]) / 2 * (1 - told["taper"] / 2)
        shares = []
        for n in range(8):
            dark = (
                1
                - light(degrade(skin((128, 128)), f"hair:{severity}", str(n)))[0]
                / light(skin((128, 128)))[0]
            )
            full = told["opacity"] * (1 - 0.020 / light(skin((128, 128)))[0, 0, 0])
            shares.append(dark.mean() / full)
        # A third of what hangs over the border is lost; a bent hair is a little longer.
        free = 1 - math.exp(-told["count"] * length * width)
        assert 0.7 * free < np.mean(shares) < 1.05 * free


def test_hair_is_dark_brown_and_thin() -> None:
    bad = light(degrade(skin((512, 512)), "hair:3"))
    mask = changed(skin((512, 512)), degrade(skin((512, 512)), "hair:3"))
    darkest = bad.reshape(3, -1)[:, bad.sum(axis=0).argmin()]
    assert darkest[0] > darkest[1] > darkest[2]
    assert darkest[0] < 0.1
    # Half the width of the widest crossing, in pixels of 1/512 of the field.
    assert np.median(ndimage.distance_transform_edt(mask)[mask]) < 0.008 * 512
    assert ndimage.distance_transform_edt(mask).max() < 0.03 * 512


def test_hair_is_the_same_at_any_resolution() -> None:
    small, large = (light(degrade(skin((n, n)), "hair:3")) for n in (128, 512))
    shrunk = large.reshape(3, 128, 4, 128, 4).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 0.006
    assert shrunk.mean() == pytest.approx(small.mean(), rel=0.005)


# --- ink


def test_ink_absorbs_in_proportion_to_what_it_lies_on() -> None:
    """Where ink covers a pixel, the ratio of light is 10^-D, on skin and lesion alike."""
    lesion = skin() * 0.5
    ratios = []
    for clean in (skin(), lesion):
        ratio = light(degrade(clean, "ink:5")) / light(clean)
        ratios.append(ratio)
    assert np.abs(ratios[0] - ratios[1]).max() < 2e-3
    inked = ratios[0].reshape(3, -1)
    pen = (inked[2] > 0.4) & (inked[1] < 0.09)
    assert pen.sum() > 300
    density = -np.log10(inked[:, pen].mean(axis=1))
    # Partly covered pixels at the edges let a little more light through.
    assert density == pytest.approx([0.75, 1.10, 0.25], abs=0.03)


def test_marks_are_drawn_one_after_another() -> None:
    clean = skin((128, 128))
    for image_id in "ab":
        before = light(clean)
        for severity in (0.2, 1, 2, 3, 4, 5):
            now = light(degrade(clean, f"ink:{severity}", image_id))
            assert (now <= before + 1e-5).all()
            assert now.sum() < before.sum()
            before = now


def test_a_ruler_has_evenly_spaced_ticks_of_which_every_fifth_is_longer() -> None:
    cover = strokes.ruler((200, 400), 1.0, 40, upper=True)
    row = cover[5]
    centres = [(row[k : k + 10] * (np.arange(10) + 0.5)).sum() / row[k : k + 10].sum()
               for k in range(0, 400, 10)]  # fmt: skip
    assert centres == pytest.approx([5.0] * 40)
    long = cover[20].reshape(40, 10).sum(axis=1) > 0
    assert np.array_equal(long, np.arange(40) % 5 == 0)
    assert np.array_equal(strokes.ruler((200, 400), 1.0, 40, upper=False), cover[::-1])
    half = strokes.ruler((200, 400), 0.5, 40, upper=True)
    assert np.array_equal(half[:, :200], cover[:, :200])
    assert not half[:, 200:].any()


# --- bubbles, light


def test_bubbles_leave_the_rest_of_the_picture_alone() -> None:
    clean = scenes.draw("dermoscopy", 256)
    entry = degradations.get("dermoscopy/bubbles")
    for severity in (1, 5):
        told = entry.parameters(severity)
        shares = [
            changed(clean, degrade(clean, f"bubbles:{severity}", str(n))).mean() for n in range(8)
        ]
        # Radii are drawn as the square of a uniform number: mean square by hand.
        low, wide = told["smallest"], told["largest"] - told["smallest"]
        area = math.pi * (low**2 + 2 * low * wide / 3 + wide**2 / 5)
        expected = 1 - math.exp(-told["count"] * area)
        assert 0.65 * expected < np.mean(shares) < 1.3 * expected


def test_light_falls_off_towards_the_corners_by_the_stated_loss() -> None:
    clean = skin((128, 160))
    gain = light(degrade(clean, "vignette:4")) / light(clean)
    loss = degradations.get("dermoscopy/vignette").parameters(4)["corner_loss"]
    assert gain[:, 0, 0] == pytest.approx([1 - loss] * 3, abs=0.005)
    assert gain[:, 64, 80] == pytest.approx([1.0] * 3, abs=0.005)
    assert np.abs(gain - gain[:1]).max() < 2e-3


def test_a_colour_cast_takes_gray_to_the_white_point_told_at_equal_luminance() -> None:
    clean = torch.full((3, 16, 16), 0.5)
    clean[2, 0, 0] = 0.51
    for n in range(6):
        (told,) = degradations.explain("dermoscopy/colour_cast:3", (16, 16), id=str(n))
        found = light(degrade(clean, "colour_cast:3", str(n)))[:, 8, 8]
        numbers = told["numbers"]
        stops = [numbers[f"{name}_stops"] for name in ("red", "green", "blue")]
        gray = light(clean)[0, 8, 8]
        assert found == pytest.approx(gray * 2.0 ** np.array(stops), rel=2e-3)
        assert found @ [0.2126, 0.7152, 0.0722] == pytest.approx(gray, rel=2e-3)
