"""Degradations of radiographs obey the physics of photons, grids, film and absorbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import degradations
from degradations import Key, scenes
from degradations.operators import exposure

IDS = [str(number) for number in range(8)]


def key(name: str, image: str = "a") -> Key:
    return Key(0, image, f"xray/{name}")


def flat(value: float, size: int = 128) -> Tensor:
    return torch.full((1, size, size), value)


@functools.cache
def film(size: int = 128) -> Tensor:
    """A chest-like picture, (1, size, size) float32."""
    return scenes.draw("xray", size).float() / 255.0


def degrade(pixels: Tensor, spec: str, image: str = "a", **options: object) -> Tensor:
    return degradations.apply(
        pixels[None], f"xray/{spec}", domain="display", ids=[image], seed=0, **options
    )[0]


def attenuation(operate: Callable[[Tensor], Tensor], size: int = 128) -> np.ndarray:
    """What an absorber adds to the natural logarithm; the same behind any picture."""
    added = [
        (operate(picture) - picture).double().numpy()[0]
        for picture in (flat(0.3, size), film(size))
    ]
    np.testing.assert_allclose(added[0], added[1], atol=1e-6)
    return added[0] / exposure.PER_NEPER


def test_display_is_the_logarithm_of_exposure_over_two_decades() -> None:
    values = torch.tensor([[[0.0, 0.25, 0.5, 1.0]]])
    exposures = exposure.to_exposure(values)
    torch.testing.assert_close(exposures, torch.tensor([[[1.0, 10**-0.5, 0.1, 0.01]]]))
    torch.testing.assert_close(exposure.to_display(exposures), values, atol=1e-6, rtol=0)


def test_only_the_position_of_the_film_moves_anatomy_and_all_are_for_radiographs() -> None:
    entries = [degradations.get(name) for name in degradations.names() if name.startswith("xray/")]
    assert len(entries) == 14
    assert all(entry.modalities == ("xray",) for entry in entries)
    assert {entry.name for entry in entries if entry.geometric} == {"xray/rotation", "xray/tilt"}
    with pytest.raises(degradations.DegradationError, match="not for oct"):
        degrade(film(), "scatter:1", modality="oct")


# --- quantum noise


def noise(value: float, dose: float, sigma: float = 0.0, image: str = "a") -> np.ndarray:
    """Added exposure on a flat field, so many photons that the logarithm does not bend."""
    clean = flat(value, 256)
    noisy = exposure.quantum_noise(clean, dose, 1e5, sigma, key("quantum_noise", image))
    added = exposure.to_exposure(noisy).double() - exposure.to_exposure(clean).double()
    return added[0].numpy()


@pytest.mark.parametrize("value", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("dose", [0.8, 0.5, 0.1])
def test_added_variance_is_that_of_the_missing_photons(value: float, dose: float) -> None:
    expected = 10 ** (-2 * value) * (1 / dose - 1) / 1e5
    found = noise(value, dose)
    assert found.var() == pytest.approx(expected, rel=0.02)
    assert abs(found.mean()) < 4 * math.sqrt(expected / found.size)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_noise_power_has_the_shape_of_the_squared_mtf(sigma: float) -> None:
    power = np.mean([abs(np.fft.fft2(noise(0.3, 0.2, sigma, i))) ** 2 for i in IDS], axis=0)
    power /= np.mean([abs(np.fft.fft2(noise(0.3, 0.2, 0.0, i))) ** 2 for i in IDS], axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    for low in np.arange(0.02, 0.45, 0.05):
        ring = (frequency > low) & (frequency < low + 0.05)
        mtf = np.exp(-2 * (np.pi * sigma * frequency[ring]) ** 2)
        assert power[ring].mean() == pytest.approx((mtf**2).mean(), rel=0.05, abs=1e-5)


def test_a_pixel_of_twice_the_side_collects_four_times_the_photons() -> None:
    quanta, blocks = [], []
    for size in (256, 512):
        numbers = degradations.explain("xray/quantum_noise:1", (1, size, size))[0]["numbers"]
        quanta.append(numbers["quanta_per_px"])
        noisy = exposure.quantum_noise(flat(0.1, size), 0.9, quanta[-1], 0.0, key("quantum_noise"))
        blocks.append(float(torch.nn.AvgPool2d(size // 128)(noisy[None]).std()))
    assert quanta[0] == pytest.approx(4 * quanta[1])
    assert blocks[0] == pytest.approx(blocks[1], rel=0.03)


def test_less_dose_makes_the_same_noise_stronger() -> None:
    little, much = noise(0.3, 0.5), noise(0.3, 0.2)
    assert np.corrcoef(little.ravel(), much.ravel())[0, 1] > 0.999
    assert much.std() / little.std() == pytest.approx(2.0, rel=0.01)


# --- scatter and grid


@pytest.mark.parametrize("ratio", [0.5, 2.0, 5.0])
def test_scatter_divides_fine_contrast_by_one_plus_its_ratio(ratio: float) -> None:
    wave = 0.2 * torch.cos(2 * math.pi * torch.arange(128) / 8).expand(1, 128, 128)
    clean = exposure.to_display(0.1 * (1 + wave))
    veiled = exposure.to_exposure(exposure.scatter(clean, ratio, 10.0))[0, :, 40:88].double()
    spectrum = abs(torch.fft.rfft(veiled, norm="forward"))
    contrast = 2 * spectrum[:, 6] / spectrum[:, 0]
    assert float(contrast.mean()) == pytest.approx(0.2 / (1 + ratio), rel=0.01)


def test_scatter_keeps_the_total_exposure_and_hides_dense_parts_most() -> None:
    clean = film()
    veiled = exposure.scatter(clean, 2.0, 10.0)
    before, after = (float(exposure.to_exposure(x).double().mean()) for x in (clean, veiled))
    assert after == pytest.approx(before, rel=1e-3)
    dense, thin = clean > clean.quantile(0.95), clean < clean.quantile(0.05)
    assert float((veiled - clean)[dense].mean()) < -0.05 < float((veiled - clean)[thin].mean())
    torch.testing.assert_close(exposure.scatter(flat(0.4), 5.0, 10.0), flat(0.4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("image", IDS[:4])
def test_grid_lines_have_their_frequency_and_depth(image: str) -> None:
    lines, depth, size = 24.0, 0.3, 192
    added = attenuation(
        lambda x: exposure.grid_lines(x, depth, lines, key("grid_lines", image)), size
    )
    gain = np.exp(-added)
    assert gain.mean() == pytest.approx(1.0, abs=0.01)
    spectrum = abs(np.fft.fft2(gain - gain.mean()))[:, : size // 2]
    down, across = np.unravel_index(spectrum.argmax(), spectrum.shape)
    down = min(down, size - down)
    assert math.hypot(down, across) == pytest.approx(lines, abs=1)
    assert min(down, across) <= 1
    aperture = math.sin(math.pi * lines / size) / (math.pi * lines / size)
    assert gain.std() == pytest.approx(depth * aperture / math.sqrt(2), rel=0.02)


def test_grid_cut_off_is_a_linear_loss_towards_one_side() -> None:
    ends = set()
    for image in IDS:
        added = attenuation(lambda x, i=image: exposure.grid_cutoff(x, 0.8, key("grid_cutoff", i)))
        gain = np.exp(-added)
        np.testing.assert_allclose(np.diff(gain, 2, axis=1), 0, atol=1e-4)
        np.testing.assert_allclose(gain, gain[:1].repeat(128, axis=0))
        assert sorted((gain[0, 0], gain[0, -1])) == pytest.approx([0.2, 1.0], abs=0.8 / 128)
        ends.add(bool(gain[0, 0] > gain[0, -1]))
    assert ends == {False, True}


# --- motion and tone


def test_motion_averages_exposure_along_a_line() -> None:
    dot = torch.ones(1, 65, 65)
    dot[0, 32, 32] = 0.0
    added = exposure.to_exposure(exposure.motion(dot, 20.0, 30.0))[0].double().numpy() - 0.01
    assert added.sum() == pytest.approx(0.99, rel=1e-3)
    y, x = np.mgrid[:65, :65] - 32.0
    angle = math.radians(30)
    along = x * math.cos(angle) - y * math.sin(angle)
    across = x * math.sin(angle) + y * math.cos(angle)
    weights = added / added.sum()
    assert (weights * along**2).sum() == pytest.approx(20**2 / 12, abs=0.5)
    assert (weights * across**2).sum() < 0.3


def test_motion_of_medq_deg_is_along_one_direction_on_display_values() -> None:
    entry = degradations.get("xray/motion")
    assert entry.profile("medq-deg").approximate
    assert [entry.parameters(level, "medq-deg") for level in (1, 2)] == [
        {"length_px": 13.0, "angle_deg": 15.0},
        {"length_px": 41.0, "angle_deg": 15.0},
    ]
    own, theirs = degrade(film(), "motion:3"), degrade(film(), "motion@medq-deg:1")
    assert float(theirs.mean()) == pytest.approx(float(film().mean()), abs=1e-3)
    assert float(own.mean()) < float(film().mean()) - 1e-3  # bright exposures win


@pytest.mark.parametrize("stops", [0.5, 2.0, 4.0])
def test_exposure_shifts_the_characteristic_curve(stops: float) -> None:
    def logit(values: Tensor) -> Tensor:
        return torch.log(values / (1 - values))

    values = torch.linspace(0.02, 0.98, 97, dtype=torch.float64)
    shifts = logit(exposure.film(values, stops)) - logit(values)
    torch.testing.assert_close(shifts, torch.full_like(shifts, -stops * math.log10(4)))
    ends = torch.tensor([0.0, 1.0])
    assert torch.equal(exposure.film(ends, stops), ends)
    back = exposure.film(exposure.film(values, stops), -stops)
    torch.testing.assert_close(back, values)


def test_the_middle_of_the_characteristic_curve_has_the_slope_of_the_display() -> None:
    """A small factor on the exposure moves middle gray as the logarithm says, others less."""
    values = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    moved = values - exposure.film(values, 0.01)
    assert float(moved[1]) == pytest.approx(0.01 * math.log10(2) / 2, rel=0.01)
    assert float(moved[[0, 2]].max()) < 0.25 * float(moved[1])


def test_more_exposure_is_darker_and_less_is_brighter() -> None:
    for severity in (0.5, 1, 3, 5):
        assert bool((degrade(film(), f"over_exposure:{severity}") < film()).all())
        assert bool((degrade(film(), f"under_exposure:{severity}") > film()).all())


# --- collimator and detector


@pytest.mark.parametrize("image", IDS[:4])
def test_collimator_blades_leave_a_convex_field_that_shrinks(image: str) -> None:
    before = np.zeros((128, 128), dtype=bool)
    for closed in (0.1, 0.3, 0.5, 0.7):
        added = attenuation(
            lambda x, c=closed: exposure.collimate(x, c, 0.02, 0.002, key("collimation", image))
        )
        opened = added < math.log(2)
        hull = cv2.convexHull(np.argwhere(opened).astype(np.int32))
        assert cv2.contourArea(hull) <= opened.sum()
        assert not (before & opened).any()
        assert (~opened).sum() > before.sum()
        before = ~opened
    covered = added > -math.log(0.0021)
    assert covered.mean() > 0.2
    assert added.max() == pytest.approx(-math.log(0.002), rel=1e-5)
    assert (added == 0).mean() > 0.05  # in the middle not a bit changes


def test_the_edge_of_a_blade_is_as_wide_as_the_penumbra() -> None:
    added = attenuation(lambda x: exposure.collimate(x, 0.5, 0.1, 1e-4, key("collimation")), 256)
    row = np.exp(-added[128])
    soft = (row > 0.05) & (row < 0.95)
    assert 0.09 * 256 * 0.9 <= soft.sum() / 2 <= 0.1 * 256 * 1.1


@pytest.mark.parametrize("image", IDS[:4])
def test_dead_lines_are_black_or_white_up_to_a_border_and_stay(image: str) -> None:
    clean, before = flat(0.5), np.zeros((128, 128), dtype=bool)
    for count in (1.0, 4.0, 12.0):
        bad = exposure.dead_lines(clean, count, 128, key("dead_lines", image))[0].numpy()
        dead = bad != 0.5
        assert set(np.unique(bad[dead])) <= {0.0, 1.0}
        assert not (before & ~dead).any()
        before = dead
        if count == 1.0:
            rows, columns = np.nonzero(dead.any(axis=1))[0], np.nonzero(dead.any(axis=0))[0]
            assert min(len(rows), len(columns)) == 1
            line = max(rows, columns, key=len)
            assert {0, 127} & {int(line[0]), int(line[-1])}
            assert len(line) == line[-1] - line[0] + 1 >= 0.3 * 128
    lines = (dead.mean(axis=0) > 0.3).sum() + (dead.mean(axis=1) > 0.3).sum()
    assert 9 <= lines <= 12  # two may fall on one another


def test_a_line_of_a_detector_is_as_wide_in_a_larger_picture() -> None:
    small, large = (
        exposure.dead_lines(flat(0.5, size), 6.0, 64, key("dead_lines")) for size in (64, 256)
    )
    differs = (torch.nn.functional.avg_pool2d(large, 4) - small).abs() > 1e-6
    assert differs.sum() <= 6  # a broken line ends within a pixel
    assert float((large != 0.5).float().mean()) == pytest.approx(
        float((small != 0.5).float().mean()), rel=0.03
    )


def test_gain_errors_have_their_size_and_the_structure_of_a_panel() -> None:
    fields = [
        attenuation(lambda x, i=i: exposure.gain_map(x, 0.2, 128, 8, key("gain_map", i)))
        for i in map(str, range(24))
    ]
    assert np.sqrt(np.mean(np.square(fields))) == pytest.approx(0.2, rel=0.08)
    assert abs(np.mean(fields)) < 0.03
    # What is not smooth does not depend on the row.
    for field in fields[:4]:
        fine = field - ndimage.gaussian_filter1d(field, 4.0, axis=1)
        assert fine.std(axis=0)[10:-10].max() < 0.2 * fine[:, 10:-10].std()


# --- foreign objects


def objects(count: float, image: str, mm: float = 2.0) -> np.ndarray:
    return attenuation(
        lambda x: exposure.foreign_objects(x, count, mm, key("foreign_object", image))
    )


@pytest.mark.parametrize("image", IDS[:4])
def test_attenuation_is_linear_in_thickness_and_adds_up(image: str) -> None:
    whole = objects(1.0, image)
    for share in (0.25, 0.5):
        np.testing.assert_allclose(objects(share, image), share * whole, atol=2e-5)
    two, three = objects(2.0, image), objects(3.0, image)
    np.testing.assert_allclose(objects(2.5, image), (two + three) / 2, atol=2e-5)
    assert min(whole.min(), (two - whole).min(), (three - two).min()) >= -1e-5


def test_coins_nails_and_tubes_attenuate_as_their_material_does() -> None:
    """At 60 keV: 1.75 mm of copper, 3 mm of iron; NIST XCOM."""
    most = sorted(round(float(objects(1.0, str(i), 0.5).max()), 2) for i in range(24))
    coin = 1.593 / 10 * 8.96 * 1.75
    nail = 1.205 / 10 * 7.874 * 3.0
    assert most[-1] == pytest.approx(nail, rel=0.03)
    assert min(abs(p - coin) for p in most) < 0.03 * coin
    assert 0.05 < most[0] < 0.5  # a tube


def test_a_chord_is_that_of_a_circle_and_pixels_share_its_area() -> None:
    distance = np.linspace(-3, 3, 13)
    exact = 2 * np.sqrt(np.maximum(4 - distance**2, 0))
    np.testing.assert_allclose(exposure.chord(distance, 2.0, 1e-6), exact, atol=2e-3)
    for width in (0.5, 3.0, 10.0):
        place = np.arange(-10, 11) * width + 0.3
        area = (exposure.chord(place, 2.0, width) * width).sum()
        assert area == pytest.approx(math.pi * 4, rel=1e-9)


def test_objects_have_a_size_in_millimetres() -> None:
    coin = next(i for i in map(str, range(50)) if 2.4 < objects(1.0, i, 1.0).max() < 2.6)
    covered = [(objects(1.0, coin, mm) > 1.25).sum() for mm in (2.0, 1.0)]
    assert covered[1] == pytest.approx(4 * covered[0], rel=0.15)
    told = degradations.explain("xray/foreign_object:1", (1, 200, 100), (0.3, 0.3))
    assert told[0]["numbers"]["mm_per_px"] == 0.3


# --- film


@pytest.mark.parametrize("axis", [0.0, 90.0, 215.0])
def test_a_tilted_film_is_a_central_projection(axis: float) -> None:
    """Against a homography through the corners of the film, each found by its ray."""
    size, tilt, distance = 128, 25.0, 2.5
    clean = film(size)
    a, t = math.radians(axis), math.radians(tilt)
    right = np.array([math.cos(a), -math.sin(a), 0.0])  # y runs down the picture
    up = np.array([math.sin(a), math.cos(a), 0.0])
    tilted = up * math.cos(t) + np.array([0.0, 0.0, -math.sin(t)])
    source = np.array([0.0, 0.0, distance])
    on_film, on_upright = [], []
    for x, y in ((0, 0), (size, 0), (size, size), (0, size)):
        place = np.array([x / size - 0.5, y / size - 0.5, 0.0])
        point = (place @ right) * right + (place @ up) * tilted
        hit = source + (point - source) * distance / (distance - point[2])
        on_film.append((x - 0.5, y - 0.5))
        on_upright.append((hit[:2] + 0.5) * size - 0.5)
    back = cv2.getPerspectiveTransform(
        np.array(on_film, np.float32), np.array(on_upright, np.float32)
    )
    expected = cv2.warpPerspective(
        clean[0].numpy(), back, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    found = exposure.tilt(clean, tilt, 1 / distance, axis)[0].numpy()
    inside = (slice(2, -2), slice(2, -2))
    assert np.abs(found - expected)[inside].mean() < 0.002
    assert np.abs(found - clean[0].numpy()).mean() > 0.02


def test_a_film_turned_in_its_plane_is_rotated_to_either_side() -> None:
    clean = film()
    turned = degrade(clean, "rotation:3", "a")
    angles = {
        degradations.explain("xray/rotation:3", clean.shape, id=i)[0]["numbers"]["angle_deg"]
        for i in IDS
    }
    assert angles == {-10.0, 10.0}
    angle = degradations.explain("xray/rotation:3", clean.shape, id="a")[0]["numbers"]["angle_deg"]
    expected = ndimage.rotate(clean[0].numpy(), angle, reshape=False, order=1)
    assert np.abs(turned[0].numpy() - expected).mean() < 0.003


# --- archive


def test_an_archive_keeps_few_pixels_few_levels_and_what_jpeg_leaves() -> None:
    clean = film(256)
    same_size = exposure.archive(clean, 256, 256, 100, 1.0)
    assert float((same_size - clean).abs().max()) <= 2.5 / 255
    banded = exposure.archive(clean, 256, 8, 100, 1.0)
    nearest = (banded * 7 - (banded * 7).round()).abs() / 7
    assert float(nearest.quantile(0.9)) < 0.01
    small = exposure.archive(clean, 64, 256, 100, 1.0)[0].numpy()
    expected = cv2.resize(
        cv2.resize(clean[0].numpy(), (64, 64), interpolation=cv2.INTER_AREA), (256, 256)
    )
    assert np.abs(small - expected).max() < 3 / 255
    mixed = exposure.archive(clean, 64, 16, 30, 0.5)
    whole = exposure.archive(clean, 64, 16, 30, 1.0)
    torch.testing.assert_close(mixed, (clean + whole) / 2)
