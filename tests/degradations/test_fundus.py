"""Degradations of fundus photographs, against the physics of light."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import degradations
from degradations import scenes
from degradations.operators import optics

NAMES = [name for name in degradations.names() if name.startswith("fundus/")]


def degrade(image: Tensor, spec: str, image_id: str = "a") -> Tensor:
    """One (C, H, W) picture."""
    (out,) = degradations.apply(
        image[None], f"fundus/{spec}", domain="display", ids=[image_id], seed=0
    )
    return out


def numbers(spec: str, size: int, image_id: str = "a") -> dict[str, float]:
    (told,) = degradations.explain(f"fundus/{spec}", (size, size), id=image_id)
    return dict(told["numbers"])


def light(display: Tensor) -> np.ndarray:
    """Linear light by IEC 61966-2-1, in double precision."""
    v = display.double().numpy()
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def display(linear: np.ndarray) -> Tensor:
    v = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return torch.from_numpy(v).float()


def disk(size: int, radius: float = 0.45) -> np.ndarray:
    place = (np.arange(size) + 0.5) / size - 0.5
    return np.hypot(place[:, None], place[None]) < radius


def lit_disk(size: int, values: tuple[float, float, float] = (0.40, 0.15, 0.06)) -> Tensor:
    """A uniform field of this linear light, with a black surround."""
    return display(np.array(values)[:, None, None] * disk(size)[None])


# --- the field of view


def test_the_field_is_what_lies_within_the_black_surround() -> None:
    picture = lit_disk(96)
    dark_lesion = picture.clone()
    dark_lesion[:, 40:52, 30:50] = 0
    noisy = (dark_lesion * 255).round().to(torch.uint8)
    noisy[:, ::3, ::5] = noisy[:, ::3, ::5].clamp(min=6)
    for image in (picture, dark_lesion, noisy):
        assert np.array_equal(optics.field_of_view(image)[0].numpy() > 0, disk(96))


def test_a_picture_without_surround_is_all_field_and_a_black_one_has_none() -> None:
    assert optics.field_of_view(torch.full((3, 20, 30), 0.5)).all()
    assert not optics.field_of_view(torch.zeros(1, 20, 30)).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eight_bit", [True, False])
def test_a_black_surround_stays_black(name: str, eight_bit: bool) -> None:
    picture = lit_disk(96)
    picture = (picture * 255).round().to(torch.uint8) if eight_bit else picture
    bad = degrade(picture, f"{name.partition('/')[2]}:5")
    assert float(bad[:, ~torch.from_numpy(disk(96))].max()) == 0
    assert float(bad[:, torch.from_numpy(disk(96))].max()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_black_picture_stays_black(name: str) -> None:
    black = torch.zeros(3, 24, 24)
    assert torch.equal(degrade(black, f"{name.partition('/')[2]}:5"), black)


# --- illumination and stray light


def test_light_falls_as_a_gaussian_about_an_axis_beside_the_middle() -> None:
    """log2 of the ratio of light is a parabola, -stops at the far end of the field."""
    clean, size = torch.full((3, 80, 80), 0.8), 80
    told = numbers("uneven_illumination:3", size)
    ratio = np.log2(light(degrade(clean, "uneven_illumination:3")) / light(clean))
    angle = math.radians(told["angle_deg"])
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    away = np.hypot(x - 0.35 * math.cos(angle), y + 0.35 * math.sin(angle))
    expected = -told["stops"] * (away / 0.85) ** 2
    assert np.abs(ratio - expected).max() < 0.02
    assert expected.min() < -0.6 * told["stops"]


def test_uneven_light_is_linear_in_what_it_falls_on() -> None:
    clean = scenes.draw("fundus", 64).float() / 255
    white = light(degrade(torch.ones(3, 64, 64), "uneven_illumination:4"))
    bad = light(degrade(clean, "uneven_illumination:4"))
    assert np.abs(bad - light(clean) * white).max() < 1e-4


def test_a_leak_adds_the_same_light_to_any_picture_in_proportion_to_its_amount() -> None:
    dark, bright = lit_disk(96, (0.05, 0.05, 0.04)), lit_disk(96, (0.2, 0.1, 0.1))
    inside = disk(96)
    added = [
        light(degrade(picture, f"halo:{severity}")) - light(picture)
        for picture, severity in ((dark, 2), (bright, 2), (dark, 3))
    ]
    assert np.abs(added[0] - added[1])[:, inside].max() < 1e-4
    amounts = [numbers(f"halo:{severity}", 96)["amount"] for severity in (2, 3)]
    assert added[0].max() == pytest.approx(amounts[0], rel=0.05)
    assert np.abs(added[2] - added[0] * amounts[1] / amounts[0])[:, inside].max() < 2e-4


def test_a_leak_is_brightest_at_the_rim_in_the_direction_told() -> None:
    size = 128
    for image_id in "abc":
        dark = lit_disk(size, (0.05, 0.05, 0.04))
        added = (light(degrade(dark, "halo:1", image_id)) - light(dark))[0]
        row, column = np.unravel_index(added.argmax(), added.shape)
        y, x = (row + 0.5) / size - 0.5, (column + 0.5) / size - 0.5
        assert math.hypot(x, y) == pytest.approx(0.45, abs=0.03)
        told = numbers("halo:1", size, image_id)["angle_deg"]
        off = (math.degrees(math.atan2(-y, x)) - told + 180) % 360 - 180
        assert abs(off) < 12


# --- dust


def test_dust_takes_its_share_of_light_and_stays_where_it_was() -> None:
    clean = torch.full((3, 160, 160), 0.7)
    before = np.ones((160, 160))
    for severity in range(1, 6):
        passed = light(degrade(clean, f"dust_spots:{severity}"))[0] / light(clean)[0]
        assert (passed <= before + 1e-5).all()
        assert passed.min() > 0.0
        before = passed
    # 55 spots of 0.010 to 0.050, radii drawn as the square of a uniform number: E r^2 by hand.
    low, wide = 0.010, 0.040
    area = math.pi * (low**2 + 2 * low * wide / 3 + wide**2 / 5)
    shares = [
        (light(degrade(clean, "dust_spots:5", str(n)))[0] < 0.999 * light(clean)[0]).mean()
        for n in range(12)
    ]
    # A soft edge of 0.6 r reaches to 1.3 r; spots beyond the border are lost in part.
    assert np.mean(shares) == pytest.approx(1 - math.exp(-55 * 1.69 * area), rel=0.12)


def test_a_single_spot_takes_between_the_stated_least_and_most() -> None:
    clean = torch.full((1, 128, 128), 0.7)
    taken = []
    for n in range(12):
        # One fourth of level 1 is one spot.
        passed = light(degrade(clean, "dust_spots:0.25", f"spot {n}")) / light(clean)
        assert ndimage.label(passed[0] < 0.999)[1] <= 1
        taken.append(1 - passed.min())
    assert min(taken) > 0.25
    assert max(taken) < 0.86


# --- blur and veil


def test_defocus_leaves_a_uniform_field_alone_up_to_its_rim() -> None:
    clean = lit_disk(96)
    assert float((degrade(clean, "defocus:5") - clean).abs().max()) < 2e-3


def test_defocus_spreads_a_point_over_a_disk_of_the_stated_radius_in_linear_light() -> None:
    size = 256
    clean = np.full((3, size, size), 0.05)
    clean[:, 128, 128] = 0.9
    radius = numbers("defocus:5", size)["radius_px"]
    # Rounding of the far background would weigh more than the disk.
    near = slice(118, 139)
    spread = light(degrade(display(clean), "defocus:5"))[0, near, near] - 0.05
    assert spread.sum() == pytest.approx(0.85, rel=0.02)
    y, x = np.mgrid[-10:11, -10:11]
    # The second moment of a uniform disk is r^2 / 2.
    assert ((y**2 + x**2) * spread).sum() / spread.sum() == pytest.approx(radius**2 / 2, rel=0.08)


def veil(values: tuple[float, float, float]) -> np.ndarray:
    return np.array(values)[:, None]


def test_the_veil_of_a_cataract_is_airlight() -> None:
    """J t + A (1 - t) with one t for all channels; A is what an opaque lens sends back."""
    inside, field = disk(96), (0.5, 0.15, 0.05)
    told = numbers("cataract:3", 96)
    air = veil((told["red"], told["green"], told["blue"]))
    clean = lit_disk(96, field)
    bad = light(degrade(clean, "cataract:3"))[:, inside]
    t = (bad - air) / (light(clean)[:, inside] - air)
    assert np.abs(t[1] - t[0]).max() < 0.01
    assert np.abs(t[2] - t[0]).max() < 0.01
    depth = -np.log(t[0])
    assert depth.min() > 0
    # Density of mean 1 over many lenses; one has few independent parts.
    depths = [
        -np.log((light(degrade(clean, "cataract:3", str(n)))[0, inside] - air[0]) / (0.5 - air[0]))
        for n in range(12)
    ]
    assert np.mean(depths) == pytest.approx(told["optical_depth"], rel=0.12)


def test_a_cataract_takes_contrast_by_its_transmission_and_ends_in_its_own_light() -> None:
    inside = torch.from_numpy(disk(96)).float()
    coarse = 0.3 + 0.1 * np.cos(np.arange(96) / 96 * 2 * np.pi)[None, None]
    patterns = [display(np.broadcast_to(base, (3, 96, 96)).copy()) for base in (coarse, 0 * coarse)]
    for depth in (0.5, 30.0):
        seen = [
            light(optics.cataract(picture * inside, depth, 0.0, (0.36, 0.25, 0.14), 0.35, KEY))
            for picture in (*patterns, display(np.full((3, 96, 96), 0.3)))
        ]
        mask = disk(96)
        if depth > 1:
            assert np.abs(seen[0][:, mask] - veil((0.36, 0.25, 0.14))).max() < 2e-3
        else:
            t = (seen[2] - veil((0.36, 0.25, 0.14))[:, None])[0] / (0.3 - 0.36)
            swing = seen[0][0] - seen[2][0]
            assert np.abs(swing - t * (coarse[0] - 0.3))[mask].max() < 2e-3


KEY = degradations.Key(0, "a", "fundus/cataract")


# --- lashes and colour


def test_lashes_come_from_one_edge_and_longer_ones_cover_all_of_shorter_ones() -> None:
    clean = lit_disk(128)
    inside = disk(128)
    sides = set()
    for image_id in "abcdef":
        passed = np.ones(inside.sum())
        for severity in (1, 3, 5):
            bad = light(degrade(clean, f"lashes:{severity}", image_id))[0]
            now = bad[inside] / light(clean)[0][inside]
            assert (now <= passed + 2e-3).all()
            passed = now
        shaded = np.flatnonzero((bad < 0.95 * light(clean)[0]).any(axis=1) & inside.any(axis=1))
        sides.add(shaded.mean() > 64)
        reach = numbers("lashes:5", 128, image_id)["reach_px"]
        assert shaded.max() - shaded.min() + 1 < reach + 8
        assert shaded.max() - shaded.min() + 1 > 0.5 * reach
    assert sides == {True, False}


def test_a_colour_shift_is_one_gain_per_channel_that_keeps_the_luminance_of_gray() -> None:
    clean = torch.linspace(0.05, 0.45, 64).expand(3, 64, 64).clone()
    clean[0, 0, 0] += 0.01  # colour, or the engine would take it for gray
    directions = []
    for n in range(8):
        gain = (light(degrade(clean, "colour_shift:3", str(n))) / light(clean)).reshape(3, -1)
        assert gain.std(axis=1).max() < 2e-3
        mean = gain.mean(axis=1)
        assert mean @ [0.2126, 0.7152, 0.0722] == pytest.approx(1.0, abs=2e-3)
        stops = np.log2(mean) - np.log2(mean).mean()
        assert np.linalg.norm(stops) == pytest.approx(0.95 / math.sqrt(2), rel=0.01)
        directions.append(stops @ [0.5, 0.0, -0.5])
    assert min(directions) < 0 < max(directions)
