"""Degradations of endoscopic pictures, against the physics of light."""

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

NAMES = [name for name in degradations.names() if name.startswith("endoscopy/")]


def degrade(image: Tensor, spec: str, image_id: str = "a") -> Tensor:
    """One (C, H, W) picture."""
    (out,) = degradations.apply(
        image[None], f"endoscopy/{spec}", domain="display", ids=[image_id], seed=0
    )
    return out


def numbers(spec: str, size: int, image_id: str = "a") -> dict[str, float]:
    (told,) = degradations.explain(f"endoscopy/{spec}", (size, size), id=image_id)
    return dict(told["numbers"])


def light(display: Tensor) -> np.ndarray:
    """Linear light by IEC 61966-2-1, in double precision."""
    v = display.double().numpy()
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def display(linear: np.ndarray) -> Tensor:
    v = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return torch.from_numpy(v).float()


def uniform(size: int, values: tuple[float, float, float] = (0.5, 0.2, 0.15)) -> Tensor:
    """(3, size, size) of this linear light."""
    return display(np.broadcast_to(np.array(values)[:, None, None], (3, size, size)).copy())


def pattern(size: int) -> Tensor:
    """Smooth, coloured, far from black and white."""
    return 0.25 + 0.5 * scenes.draw("dermoscopy", size).float() / 255


def in_field(size: int, radius: float = 0.45) -> np.ndarray:
    place = (np.arange(size) + 0.5) / size - 0.5
    return np.hypot(place[:, None], place[None]) < radius


@pytest.mark.parametrize("name", NAMES)
def test_a_black_surround_stays_black(name: str) -> None:
    inside = torch.from_numpy(in_field(96))
    bad = degrade(pattern(96) * inside, f"{name.partition('/')[2]}:5")
    assert float(bad[:, ~inside].max()) == 0
    assert float(bad[:, inside].max()) > 0


# --- smoke


def test_smoke_is_airlight_with_one_transmission_for_all_channels() -> None:
    clean = uniform(96)
    told = numbers("smoke:3", 96)
    air = np.array([told["red"], told["green"], told["blue"]])[:, None, None]
    t = (light(degrade(clean, "smoke:3")) - air) / (light(clean) - air)
    assert (t > 0).all()
    assert (t < 1).all()
    # Red is too near to the light of smoke to tell its transmission.
    assert np.abs(t[1] - t[2]).max() < 2e-3
    depth = np.mean(
        [
            -np.log((light(degrade(clean, "smoke:3", str(n))) - air) / (light(clean) - air))[2]
            for n in range(16)
        ]
    )
    assert depth == pytest.approx(told["optical_depth"], rel=0.12)


def test_smoke_is_linear_in_the_scene_and_takes_contrast_by_its_transmission() -> None:
    one, other = pattern(64), pattern(64).flip(-1)
    half = display((light(one) + light(other)) / 2)
    seen = [light(degrade(picture, "smoke:4")) for picture in (one, other, half)]
    assert np.abs((seen[0] + seen[1]) / 2 - seen[2]).max() < 1e-4
    told = numbers("smoke:4", 64)
    dark, bright = uniform(64, (0.1, 0.1, 0.09)), uniform(64, (0.3, 0.3, 0.29))
    transmission = (light(degrade(bright, "smoke:4")) - light(degrade(dark, "smoke:4"))) / 0.2
    air = np.array([told["red"], told["green"], told["blue"]])[:, None, None]
    expected = light(one) * transmission + air * (1 - transmission)
    assert np.abs(seen[0] - expected).max() < 1e-3


def test_smoke_ends_in_its_own_light_whatever_is_behind_it() -> None:
    key = degradations.Key(0, "a", "endoscopy/smoke")
    for clean in (pattern(48), uniform(48)):
        seen = light(optics.smoke(clean, 200.0, (0.52, 0.54, 0.58), 0.2, 0.6, key))
        assert np.abs(seen - np.array([0.52, 0.54, 0.58])[:, None, None]).max() < 2e-3


def test_a_cloud_has_mean_one_and_the_stated_spread_and_is_one_scene_at_any_size() -> None:
    def cloud(n: int, size: int = 48) -> Tensor:
        key = degradations.Key(0, str(n), "endoscopy/smoke")
        return optics.cloud(key, (size, size), 0.2, 0.6, torch.device("cpu"))

    drawn = torch.stack([cloud(n) for n in range(200)])
    assert float(drawn.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(drawn.log().std()) == pytest.approx(0.6, rel=0.08)
    large = torch.nn.functional.avg_pool2d(cloud(0, 96)[None], 2)[0]
    assert float((large - cloud(0)).abs().mean()) < 0.005


# --- blood


def test_blood_absorbs_by_beer_and_lambert() -> None:
    """Log ratios of light are in one proportion, that of the absorption of haemoglobin."""
    clean = uniform(96, (0.9, 0.8, 0.8))
    with np.errstate(divide="ignore"):
        density = -np.log(light(degrade(clean, "blood:3")) / light(clean))
    # Where enough green is left to be measured: a little of it in float32, all of red.
    some = (density[1] > 0.2) & (density[1] < 4)
    assert some.sum() > 50
    red, green, blue = (band[some] for band in density)
    # Molar extinctions at 620, 540 and 450 nm: 942, 53236 and 62816 / (cm mol/L).
    assert (green / red).mean() == pytest.approx(53236 / 942, rel=0.05)
    assert np.abs(blue / green - 62816 / 53236).max() < 0.02


def test_the_log_ratio_is_linear_in_the_thickness_of_blood() -> None:
    """150 g/L of 64500 g/mol absorb 2.303 * 53236 * 150 / 64500 = 285 per cm at 540 nm."""
    clean = torch.full((3, 1, 1), 0.9)
    thickness = np.array([0.01, 0.02, 0.04])
    seen = [optics.absorb(clean, torch.full((1, 1, 1), d), optics.BLOOD_PER_MM) for d in thickness]
    density = np.array([-torch.log(picture / clean).flatten().double().numpy() for picture in seen])
    assert density[:, 1] == pytest.approx(2 * 28.5 * thickness, rel=0.002)
    assert density / thickness[:, None] == pytest.approx(
        np.broadcast_to(density[0] / thickness[0], (3, 3)), rel=1e-4
    )


# --- what covers a share of the field


@pytest.mark.parametrize("surround", [False, True])
@pytest.mark.parametrize("name", ["specular", "blood"])
def test_the_share_of_the_field_is_the_stated_one_and_higher_severities_keep_it(
    name: str, surround: bool
) -> None:
    size = 128
    inside = in_field(size) if surround else np.ones((size, size), dtype=bool)
    clean = uniform(size) * torch.from_numpy(inside)
    fractions = [
        degradations.get(f"endoscopy/{name}").parameters(severity)["fraction"]
        for severity in (1, 2, 3, 4, 5)
    ]
    for image_id in "abc":
        before = np.zeros_like(inside)
        for severity, fraction in enumerate(fractions, 1):
            mask = (degrade(clean, f"{name}:{severity}", image_id) != clean).any(dim=0).numpy()
            # Less what is too thin to change a float32.
            assert mask[inside].mean() == pytest.approx(fraction, abs=2 / inside.sum(), rel=0.05)
            assert (mask | ~before).all()
            before = mask


def test_highlights_only_add_light_and_saturate_in_their_middle() -> None:
    clean = uniform(256)
    bad = degrade(clean, "specular:5")
    assert (bad >= clean - 1e-5).all()
    touched = (bad - clean).amax(dim=0) > 1e-3
    assert 0.3 < float((bad.amin(dim=0)[touched] > 0.99).float().mean()) < 1
    assert ndimage.label(touched.numpy())[1] > 30


# --- bubbles


def test_bubbles_are_round_and_stay_where_they_were() -> None:
    clean = pattern(256)
    before = torch.zeros(256, 256, dtype=torch.bool)
    for severity in (1, 3, 5):
        now = degradations.touched(clean[None], degrade(clean, f"bubbles:{severity}")[None])[0, 0]
        grown = torch.from_numpy(ndimage.binary_dilation(now.numpy(), iterations=2))
        assert (grown | ~before).all()
        assert float(now.float().mean()) > float(before.float().mean())
        before = now


def test_a_bubble_shows_a_smaller_picture_of_what_is_behind_it() -> None:
    """Along a ramp of light, the slope in the middle is that of the scene times the shrinking."""
    size = 256
    ramp = 0.2 + 0.3 * (np.arange(size) + 0.5) / size
    clean = display(np.broadcast_to(ramp, (1, size, size)).copy())
    key = degradations.Key(0, "a", "endoscopy/bubbles")
    seen = light(optics.bubbles(clean, 1.0, (40.0, 40.0), 0.0, key))[0]
    row, column, radius, share = optics._places(key, 1.0, (size, size), (40.0, 40.0))[0]
    assert (radius, share) == (40.0, 1.0)
    y, x = math.floor(row), math.floor(column)
    slope = np.diff(seen[y, x - 3 : x + 4]).mean()
    assert slope == pytest.approx(1.6 * 0.3 / size, rel=0.05)
    away = np.hypot(*(np.mgrid[:size, :size] + 0.5 - np.array([row, column])[:, None, None]))
    assert np.abs(seen - light(clean)[0])[away > 41].max() < 1e-5
    rim = (away > 38.5) & (away < 39.5)
    assert (seen[rim] / light(clean)[0][rim]).mean() < 0.6


# --- fog, motion, exposure


def test_fog_on_the_lens_loses_no_light_and_does_not_show_on_a_uniform_field() -> None:
    flat = uniform(64) * torch.from_numpy(in_field(64))
    assert float((degrade(flat, "lens_fog:5") - flat).abs().max()) < 3e-3
    clean = pattern(128)
    for severity in (1, 3, 5):
        bad = degrade(clean, f"lens_fog:{severity}")
        assert light(bad).mean() == pytest.approx(light(clean).mean(), rel=0.02)


def test_fog_takes_contrast_of_detail_by_the_share_that_goes_straight() -> None:
    size = 128
    stripes = 0.3 + 0.1 * np.cos(np.arange(size) / 4 * np.pi)
    clean = display(np.broadcast_to(stripes, (1, size, size)).copy())
    key = degradations.Key(0, "a", "endoscopy/lens_fog")
    for depth in (0.5, 1.5):
        # An even fog: no spread of density.
        seen = light(optics.fog(clean, depth, 12.0, 0.3, 0.0, key))[0]
        middle = seen[:, 32:96]
        assert np.ptp(middle) == pytest.approx(0.2 * math.exp(-depth), rel=0.01)


@pytest.mark.parametrize("severity", [2, 4])
def test_motion_spreads_a_point_along_a_line_of_the_stated_length(severity: int) -> None:
    size, middle = 257, 128
    clean = np.full((1, size, size), 0.05)
    clean[:, middle, middle] = 0.9
    told = numbers(f"motion:{severity}", size)
    near = slice(middle - 20, middle + 21)
    spread = light(degrade(display(clean), f"motion:{severity}"))[0, near, near] - 0.05
    y, x = np.mgrid[-20:21, -20:21]
    angle = math.radians(told["angle_deg"])
    along = x * math.cos(angle) - y * math.sin(angle)
    across = x * math.sin(angle) + y * math.cos(angle)
    total = spread.sum()
    assert total == pytest.approx(0.85, rel=0.02)
    # A line of length L has the second moment L^2 / 12, plus up to 1/4 of antialiasing.
    moment = (along**2 * spread).sum() / total
    assert told["length_px"] ** 2 / 12 - 0.1 < moment < told["length_px"] ** 2 / 12 + 0.5
    assert (across**2 * spread).sum() / total < 0.35


def test_motion_and_shift_leave_a_uniform_field_alone_up_to_its_rim() -> None:
    flat = uniform(96) * torch.from_numpy(in_field(96))
    for spec in ("motion:5", "interlacing:5"):
        assert float((degrade(flat, spec) - flat).abs().max()) < 2e-3


@pytest.mark.parametrize("severity", [1, 2.5, 4])
def test_exposure_multiplies_light_by_powers_of_two(severity: float) -> None:
    clean = uniform(32, (0.05, 0.04, 0.03))
    for name, sign in (("over_exposure", 1), ("under_exposure", -1)):
        stops = degradations.get(f"endoscopy/{name}").parameters(severity)["stops"]
        ratio = light(degrade(clean, f"{name}:{severity}")) / light(clean)
        assert ratio == pytest.approx(2.0 ** (sign * stops), rel=2e-3)


def test_what_a_pixel_cannot_hold_spills_over_in_the_stated_share() -> None:
    size = 128
    clean = np.full((1, size, size), 0.01)
    clean[0, 60:68, 60:68] = 0.5
    told = numbers("over_exposure:4", size)
    gain = 2.0 ** told["stops"]
    bad = light(degrade(display(clean), "over_exposure:4"))[0]
    excess = np.maximum(clean[0] * gain - 1.0, 0.0)
    spilt = told["bloom"] * ndimage.gaussian_filter(excess, told["sigma_px"])
    assert np.abs(bad - np.minimum(clean[0] * gain + spilt, 1.0)).max() < 1e-3
    # Away from the square, which holds no more, its light still falls.
    outside = clean[0] < 0.1
    assert (bad - clean[0] * gain)[outside].sum() > 0.3 * told["bloom"] * excess.sum()


def test_a_vignette_is_cos4_of_the_angle_to_the_axis() -> None:
    size = 96
    gain = (light(degrade(uniform(size), "vignette:3")) / light(uniform(size)))[0]
    loss = degradations.get("endoscopy/vignette").parameters(3)["corner_loss"]
    place = np.arange(size) - (size - 1) / 2
    squared = (place[:, None] ** 2 + place**2) / (size**2 / 2)
    widest = math.tan(math.acos((1 - loss) ** 0.25))
    assert np.abs(gain - np.cos(np.arctan(np.sqrt(squared) * widest)) ** 4).max() < 2e-3


# --- interlacing


def test_odd_lines_are_displaced_and_even_lines_are_not() -> None:
    size = 256
    clean = pattern(size)
    for image_id in "abcd":
        bad = degrade(clean, "interlacing:5", image_id)
        shift = numbers("interlacing:5", size, image_id)["shift_px"]
        assert torch.equal(bad[:, ::2], clean[:, ::2])
        expected = ndimage.shift(clean[:, 1::2].numpy(), (0, 0, shift), order=1, mode="nearest")
        assert np.abs(bad[:, 1::2].numpy() - expected).max() < 1e-3
    shifts = {numbers("interlacing:5", size, image_id)["shift_px"] > 0 for image_id in "abcdefgh"}
    assert shifts == {True, False}


def test_lines_are_those_of_the_video_not_of_the_picture() -> None:
    clean = torch.linspace(0.2, 0.8, 768).expand(1, 1024, 768)
    changed = (degrade(clean, "interlacing:5") != clean).any(dim=0).any(dim=1)
    assert torch.equal(changed, torch.arange(1024) // 4 % 2 == 1)
