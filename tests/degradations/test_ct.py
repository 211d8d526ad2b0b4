"""CT entries obey the physics of projections, photons and filtered backprojection."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import skimage.transform
import torch
from torch import Tensor

import degradations
from degradations import Key, kernels, random_fields
from degradations.operators import tomography
from degradations.operators.tomography import WATER_PER_MM, Geometry

KEY = Key(0, "a", "ct/low_dose")
SQUARE = Geometry(128, 128, 1.4, 1.4, 180)


def disk(
    geometry: Geometry, radius_mm: float, row_mm: float = 0.0, column_mm: float = 0.0
) -> Tensor:
    """Disk of ones about a point given in mm from the centre, antialiased."""
    fine = 8

    def places(count: int, spacing: float) -> Tensor:
        return ((torch.arange(count * fine) + 0.5) / fine - count / 2) * spacing

    rows, columns = (
        places(geometry.height, geometry.row_mm),
        places(geometry.width, geometry.column_mm),
    )
    inside = (rows[:, None] - row_mm) ** 2 + (columns[None] - column_mm) ** 2 < radius_mm**2
    return torch.nn.functional.avg_pool2d(inside.float()[None], fine)[0]


def water(geometry: Geometry, radius_mm: float) -> Tensor:
    """A cylinder of water in air, (1, H, W) in HU."""
    return (1000 * disk(geometry, radius_mm) - 1000)[None]


def centre(image: Tensor, side: int = 40) -> Tensor:
    middle = image.shape[-1] // 2
    part = slice(middle - side // 2, middle + side // 2)
    return image[..., part, part]


def noise(
    hu: Tensor, geometry: Geometry, photons: float, electronic: float = 0.0, n: int = 0
) -> Tensor:
    key = Key(n, "a", "ct/low_dose")
    return tomography.low_dose(hu, geometry, photons, electronic, key) - hu


def test_projections_of_a_disk_are_its_chords() -> None:
    mu, radius = 0.02, 60.0
    sinogram = tomography.project(mu * disk(SQUARE, radius), SQUARE)
    t = (torch.arange(SQUARE.rays) - (SQUARE.rays - 1) / 2) * SQUARE.pitch_mm
    chords = 2 * mu * (radius**2 - t**2).clamp(min=0).sqrt()
    inner = t.abs() < 0.9 * radius
    assert torch.allclose(
        sinogram[:, inner], chords[inner].expand(SQUARE.views, -1), rtol=0.02, atol=0.0
    )
    assert sinogram[:, t.abs() > radius + 2 * SQUARE.pitch_mm].abs().max() == 0


def test_projections_agree_with_scikit_image(head: Tensor) -> None:
    slice_mu = ((head[0, ::2, ::2] / 1000 + 1) * WATER_PER_MM).clamp(min=0)
    angles = np.arange(12) * 180 / 12
    # Its rows count downward against its y axis, so its angles run the other way; its centre is
    # pixel size // 2, half a pixel from ours, hence the odd size.
    odd = torch.nn.functional.pad(slice_mu, (0, 1, 0, 1))
    peer = skimage.transform.radon(odd.numpy(), -angles, circle=False)
    ours = tomography.project(odd, Geometry(129, 129, 1.0, 1.0, 12)).T.numpy()
    middle, half = ours.shape[0] // 2, 64
    ours = ours[middle - half : middle + half + 1]
    peer_middle = peer.shape[0] // 2
    peer = peer[peer_middle - half : peer_middle + half + 1]
    assert np.abs(ours - peer).mean() < 0.01 * peer.max()
    assert np.corrcoef(ours.ravel(), peer.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("geometry", "row_mm", "column_mm"),
    [
        (SQUARE, 0.0, 0.0),
        (SQUARE, -40.0, 25.0),
        (Geometry(100, 160, 1.5, 1.0, 180), 20.0, -35.0),
        (Geometry(101, 64, 1.0, 2.0, 150), -15.0, 20.0),
    ],
)
def test_backprojection_gives_back_the_attenuation(
    geometry: Geometry, row_mm: float, column_mm: float
) -> None:
    mu, radius = 0.02, 24.0
    image = mu * disk(geometry, radius, row_mm, column_mm)
    back = tomography.backproject(tomography.project(image, geometry), geometry)
    inside = disk(geometry, radius - 5, row_mm, column_mm) == 1
    outside = disk(geometry, radius + 8, row_mm, column_mm) == 0
    assert float(back[inside].mean()) == pytest.approx(mu, rel=0.005)
    assert float(back[inside].std()) < 0.02 * mu
    assert float(back[outside].mean()) == pytest.approx(0, abs=0.005 * mu)


def test_the_residual_form_is_the_difference_of_two_reconstructions(head: Tensor) -> None:
    hu = head[:, ::2, ::2]
    photons, electronic = 2e4, 10.0
    mu = ((hu[0] / 1000 + 1) * WATER_PER_MM).clamp(min=0)
    clean = tomography.project(mu, SQUARE)
    counts = random_fields.poisson(KEY, "quanta", photons * torch.exp(-clean.double()))
    counts += electronic * random_fields.normal(KEY, "electronics", clean.shape, "cpu")
    noisy = -torch.log(counts.clamp(min=1) / photons).float()
    bad, good = (tomography.backproject(s, SQUARE) for s in (noisy, clean))
    expected = hu + (bad - good) * (1000 / WATER_PER_MM)
    found = tomography.low_dose(hu, SQUARE, photons, electronic, KEY)
    assert torch.allclose(found, expected, atol=0.5)
    assert float((found - hu).std()) > 20


def test_noise_falls_with_the_square_root_of_the_photons() -> None:
    hu = water(SQUARE, 60)
    deviations = [float(centre(noise(hu, SQUARE, photons)).std()) for photons in (1e5, 1e6, 1e7)]
    assert deviations[0] / deviations[1] == pytest.approx(10**0.5, rel=0.02)
    assert deviations[1] / deviations[2] == pytest.approx(10**0.5, rel=0.02)


def test_the_noise_level_is_that_of_scikit_images_reconstruction() -> None:
    """An independent scan of the same cylinder: NumPy's photons, scikit-image's ramp."""
    radius, photons = 60.0, 1e6
    t = (np.arange(129) - 64) * 1.4
    integrals = 2 * WATER_PER_MM * np.sqrt(np.clip(radius**2 - t**2, 0, None))
    draw = np.random.default_rng(0)
    counts = draw.poisson(photons * np.exp(-integrals)[:, None].repeat(180, axis=1))
    error = -np.log(counts / photons) - integrals[:, None]
    peer = skimage.transform.iradon(error, np.arange(180), filter_name="ramp") / 1.4
    peer_deviation = centre(torch.from_numpy(peer)).std() * 1000 / WATER_PER_MM
    ours = centre(noise(water(SQUARE, radius), SQUARE, photons)).std()
    assert float(ours) == pytest.approx(float(peer_deviation), rel=0.08)


def test_the_noise_power_spectrum_rises_like_the_ramp() -> None:
    """NPS of ramp-filtered backprojection is proportional to frequency, where pixels are small."""
    hu = water(SQUARE, 80)
    power = torch.zeros(64, 64)
    for n in range(12):
        patch = centre(noise(hu, SQUARE, 1e6, n=n), 64)[0]
        power += torch.fft.fft2(patch - patch.mean()).abs().square()
    f = torch.fft.fftfreq(64)
    radius = (f[:, None] ** 2 + f[None] ** 2).sqrt()
    centres = np.array([0.04, 0.06, 0.08, 0.11, 0.15])
    radial = [float(power[(radius - c).abs() < 0.015].mean()) for c in centres]
    slope = np.polyfit(np.log(centres), np.log(radial), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.2)


def test_noise_is_strongest_in_the_middle_of_a_cylinder() -> None:
    hu = water(SQUARE, 80)
    middle, rim = [], []
    for n in range(4):
        residual = noise(hu, SQUARE, 1e5, n=n)[0]
        middle.append(centre(residual, 24).square().mean())
        rim.append(residual[(disk(SQUARE, 78) == 1) & (disk(SQUARE, 66) == 0)].square().mean())
    assert sum(middle) > 1.5 * sum(rim)


def test_long_paths_make_streaks_along_themselves() -> None:
    rows = torch.arange(128)[:, None] - 63.5
    columns = torch.arange(128)[None] - 63.5
    wide = ((rows / 20) ** 2 + (columns / 58) ** 2 < 1).float()
    hu = (2000 * wide - 1000)[None]
    residual = centre(noise(hu, SQUARE, 2e3), 32)[0]
    along, across = residual.mean(dim=1).std(), residual.mean(dim=0).std()
    assert along > 3 * across


def test_electronic_noise_matters_when_photons_are_few() -> None:
    hu = water(SQUARE, 60)
    many, few = (
        float(centre(noise(hu, SQUARE, photons, 10.0)).std())
        / float(centre(noise(hu, SQUARE, photons, 0.0)).std())
        for photons in (1e7, 1e4)
    )
    assert many == pytest.approx(1, abs=0.01)
    # Variance of the logarithm is 1/N + (10/N)^2 where N photons arrive.
    arrived = 1e4 * math.exp(-120 * WATER_PER_MM)
    assert few == pytest.approx(math.sqrt(1 + 100 / arrived), rel=0.1)


def test_a_scan_without_photons_is_finite() -> None:
    out = tomography.low_dose(water(SQUARE, 60), SQUARE, 1.0, 10.0, KEY)
    assert torch.isfinite(out).all()


def test_a_thicker_patient_is_noisier_as_beer_and_lambert_say() -> None:
    """Through the middle, counts fall with exp(-mu d) and noise rises with their root."""
    thin, thick = (
        torch.stack([centre(noise(water(SQUARE, r), SQUARE, 1e6, n=n), 20) for n in range(6)])
        for r in (40.0, 80.0)
    )
    expected = math.exp(WATER_PER_MM * 80.0 / 2)
    assert float(thick.std() / thin.std()) == pytest.approx(expected, rel=0.1)


def test_the_spacing_of_the_image_is_used() -> None:
    hu = water(SQUARE, 60)[None]
    how = {"domain": "hu", "ids": ["a"], "seed": 0}
    given = degradations.apply(hu, "ct/low_dose:3", spacing_mm=(1.4, 1.4), **how)
    numbers = degradations.explain("ct/low_dose:3", hu.shape, (1.4, 1.4))[0]["numbers"]
    expected = tomography.low_dose(hu[0], SQUARE, numbers["photons"], numbers["electronic"], KEY)
    assert torch.equal(given[0], expected)
    assumed = degradations.apply(hu, "ct/low_dose:3", **how)
    assert torch.equal(
        assumed, degradations.apply(hu, "ct/low_dose:3", spacing_mm=(360 / 128, 360 / 128), **how)
    )
    assert not torch.equal(given, assumed)


def test_a_display_picture_is_taken_back_through_its_window(head: Tensor) -> None:
    centre_hu, width = 40.0, 400.0
    shown = ((head[None, :, ::2, ::2] - centre_hu) / width + 0.5).clamp(0, 1)
    hu = (shown - 0.5) * width + centre_hu
    how = {"ids": ["a"], "seed": 0, "spacing_mm": (1.4, 1.4)}
    direct = degradations.apply(hu, "ct/low_dose:3", domain="hu", **how)
    expected = ((direct - centre_hu) / width + 0.5).clamp(0, 1)
    found = degradations.apply(
        shown, "ct/low_dose:3", domain="display", assume_window=(centre_hu, width), **how
    )
    assert torch.allclose(found, expected, atol=1e-5)


def test_what_a_window_clipped_is_taken_to_be_air() -> None:
    """The rays of a windowed picture are those of the slice, and its black stays black."""
    hu = water(SQUARE, 60) + 20
    windowed = hu.clamp(min=-160)
    for slice_hu in (windowed, windowed + torch.rand(hu.shape) * 2):
        mu = tomography.attenuation(slice_hu)
        inside = windowed[0] > -150
        assert float(mu[disk(SQUARE, 62) == 0].abs().max()) == 0
        assert torch.allclose(mu[inside], tomography.attenuation(slice_hu + 0)[inside])
    assert float(tomography.attenuation(windowed - 400).min()) > 0 - 1e-9
    bad = tomography.hardened(windowed, SQUARE, 0.02)
    assert torch.equal(bad[windowed == -160], windowed[windowed == -160])
    full = tomography.hardened(hu, SQUARE, 0.02)
    assert torch.allclose(bad[:, disk(SQUARE, 55) == 1], full[:, disk(SQUARE, 55) == 1], atol=5)


def test_a_real_slice_keeps_its_mean(ct_slice: tuple[Tensor, tuple[float, float]]) -> None:
    hu, spacing_mm = ct_slice
    out = degradations.apply(
        hu[None], "ct/low_dose:2", domain="hu", ids=["a"], seed=0, spacing_mm=spacing_mm
    )
    assert float((out - hu).mean()) == pytest.approx(0, abs=1)
    assert 1 < float((out - hu).std()) < 100


# --- projector


def test_projecting_twice_the_slice_gives_twice_the_rays_and_the_mass_is_kept(head: Tensor) -> None:
    mu = tomography.attenuation(head[:, ::2, ::2])
    sinogram = tomography.project(mu, SQUARE)
    assert torch.allclose(tomography.project(2 * mu, SQUARE), 2 * sinogram, rtol=1e-5)
    # Each view integrates over the whole slice: Fourier slice theorem at frequency 0.
    mass = float(mu.sum()) * SQUARE.row_mm * SQUARE.column_mm
    per_view = sinogram.sum(dim=1) * SQUARE.pitch_mm
    assert torch.allclose(per_view, torch.full_like(per_view, mass), rtol=5e-3)


@pytest.mark.parametrize(
    "geometry",
    [
        SQUARE,
        Geometry(50, 81, 1.5, 1.0, 33),
        Geometry(64, 31, 1.0, 2.0, 90),
        Geometry(1, 5, 1, 1, 4),
    ],
)
def test_compiled_rays_are_those_of_the_tensor_code(
    geometry: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(geometry.height, geometry.width, generator=draw)
    image[: geometry.height // 3] = 0
    sinogram = tomography.project(image, geometry)
    back = tomography.backproject(sinogram, geometry)
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    plain = tomography.project(image, geometry)
    assert torch.allclose(plain, sinogram, rtol=1e-4, atol=1e-3)
    again = tomography.backproject(sinogram, geometry)
    assert torch.allclose(again, back, rtol=1e-4, atol=1e-4 * float(back.abs().max()))


# --- views


def reconstruct(hu: Tensor, geometry: Geometry, weights: Tensor) -> Tensor:
    """FBP of views with weights, in 1/mm."""
    sinogram = tomography.project(tomography.attenuation(hu), geometry)
    return tomography.backproject(sinogram * weights[:, None], geometry)


def test_a_scan_that_keeps_all_views_is_the_slice_itself(head: Tensor) -> None:
    hu = head[:, ::2, ::2]
    for weights in (tomography.sparse_weights(180, 180), tomography.limited_weights(180, 0.3, 0.0)):
        assert torch.equal(weights, torch.ones(180))
        assert torch.equal(tomography.reweighted(hu, SQUARE, weights), hu)


@pytest.mark.parametrize("kept", [90.0, 45.0, 64.0, 23.0])
def test_views_that_are_left_stand_for_all(kept: float) -> None:
    weights = tomography.sparse_weights(180, kept)
    assert float(weights.mean()) == pytest.approx(1)
    assert int((weights > 0).sum()) == 180 // 2 ** math.floor(math.log2(180 / kept)) or kept == 23
    whole = tomography.sparse_weights(180, 45)
    assert torch.equal(whole, 4.0 * (torch.arange(180) % 4 == 0))


def test_a_sparse_scan_is_the_reconstruction_from_the_views_that_are_left(head: Tensor) -> None:
    """An independent scan: only 45 views were ever taken."""
    hu = head[:, ::2, ::2]
    fewer = Geometry(128, 128, 1.4, 1.4, 45)
    bad = tomography.backproject(tomography.project(tomography.attenuation(hu), fewer), fewer)
    good = reconstruct(hu, SQUARE, torch.ones(180))
    found = tomography.reweighted(hu, SQUARE, tomography.sparse_weights(180, 45))
    assert torch.allclose(found, hu + (bad - good) * 1000 / WATER_PER_MM, atol=0.5)


def test_streaks_of_a_point_lie_at_the_views_that_are_left() -> None:
    """Along a circle about a bright rod there are as many streaks as views, on both sides."""
    geometry = Geometry(129, 129, 1.0, 1.0, 192)
    hu = 2000 * disk(geometry, 3.0)[None] - 1000
    bad = tomography.reweighted(hu, geometry, tomography.sparse_weights(192, 12))
    turn = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = [64 + 50 * np.sin(turn), 64 + 50 * np.cos(turn)]
    ring = scipy.ndimage.map_coordinates((bad - hu)[0].numpy(), circle, order=1)
    assert int(np.abs(np.fft.rfft(ring))[1:40].argmax()) + 1 == 24


def _orientations(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spectrum of a slice; the direction in degrees of 180 and the radius of its frequencies."""
    spectrum = torch.fft.fft2(torch.fft.ifftshift(image))
    f = torch.fft.fftfreq(image.shape[-1])
    direction = torch.rad2deg(torch.atan2(f[:, None].expand(len(f), -1), f[None]))
    return spectrum.abs().square(), direction % 180, (f[:, None] ** 2 + f[None] ** 2).sqrt()


def test_the_wedge_of_missing_directions_is_empty_in_fourier_space() -> None:
    """A ray direction is a line through the spectrum (Fourier slice theorem)."""
    hu = water(SQUARE, 40) + 300 * disk(SQUARE, 8, 12, -15)[None]
    start, missing = 40.0, 50.0
    weights = tomography.limited_weights(180, start / 180, missing / 180)
    bad = reconstruct(hu, SQUARE, weights)
    full = reconstruct(hu, SQUARE, torch.ones(180))
    power, direction, radius = _orientations(bad)
    full_power, _, _ = _orientations(full)
    middle = (radius > 0.05) & (radius < 0.4)
    wedge = middle & (direction > start + 6) & (direction < start + missing - 6)
    other = middle & ((direction < start - 6) | (direction > start + missing + 6))
    assert float(power[wedge].sum()) < 0.03 * float(full_power[wedge].sum())
    scale = (180 / (180 - missing)) ** 2
    assert float(power[other].sum()) == pytest.approx(
        scale * float(full_power[other].sum()), rel=0.1
    )


def test_a_slice_loses_the_wedge_that_it_had() -> None:
    hu = water(SQUARE, 40) + 300 * disk(SQUARE, 8, 12, -15)[None]
    weights = tomography.limited_weights(180, 0.25, 50 / 180)
    bad = tomography.reweighted(hu, SQUARE, weights)
    power, direction, radius = _orientations(bad[0])
    before, _, _ = _orientations(hu[0])
    wedge = (radius > 0.05) & (radius < 0.2) & (direction > 51) & (direction < 89)
    assert float(power[wedge].sum()) < 0.05 * float(before[wedge].sum())


@pytest.mark.parametrize("missing", [0.4, 1.0, 30.3])
def test_a_range_of_directions_may_end_within_a_view_and_wrap_around(missing: float) -> None:
    for start in (0.0, 0.31, 0.97):
        weights = tomography.limited_weights(90, start, missing / 180)
        kept = float((weights / weights.max()).sum())
        assert kept == pytest.approx(90 * (1 - missing / 180), abs=1e-3) or missing < 2
        assert float(weights.mean()) == pytest.approx(1)


# --- rings


def test_rings_are_constant_in_angle_and_grow_with_the_gain_error() -> None:
    geometry = Geometry(257, 257, 1.0, 1.0, 180)
    hu = torch.zeros(1, 257, 257)
    place = np.arange(257) - 128
    square = (place[:, None] ** 2 + place[None] ** 2).ravel()
    spread = []
    for gain in (0.01, 0.02, 0.04):
        residual = (tomography.rings(hu, geometry, gain, KEY) - hu)[0].double().numpy().ravel()
        # Up to 36 pixels lie at exactly the same distance, in as many directions.
        count = np.bincount(square)
        mean = np.bincount(square, residual) / np.maximum(count, 1)
        assert np.abs(residual - mean[square]).max() < 1e-3 * residual.std()
        spread.append(mean[count > 0].std())
    assert spread[1] / spread[0] == pytest.approx(2, rel=1e-3)
    assert spread[2] / spread[0] == pytest.approx(4, rel=1e-3)


def test_rings_are_what_reconstruction_makes_of_one_error_in_all_views() -> None:
    """The error of two opposite elements, backprojected view by view."""
    geometry = Geometry(128, 128, 1.0, 1.0, 720)
    t = geometry.ray_mm(torch.device("cpu"))
    error = torch.exp(-0.5 * ((t.abs() - 30) / 2) ** 2)
    by_views = tomography.backproject(error.expand(720, -1), geometry)
    filtered = tomography._filtered(error[None], geometry.pitch_mm)[0]
    profile = tomography._radial(filtered).numpy()
    radius = geometry.radius_mm(t.device).numpy()
    expected = np.interp(radius, np.arange(len(profile)), profile)
    assert np.abs(by_views.numpy() - expected).max() < 0.05 * np.abs(expected).max()


# --- thickness of the patient


def cupping(change: Tensor) -> float:
    """How much lower the middle of a 60 mm cylinder lies than its rim."""
    rim = (disk(SQUARE, 52) == 1) & (disk(SQUARE, 42) == 0)
    return float(change[rim].mean() - change[disk(SQUARE, 15) == 1].mean())


@pytest.mark.parametrize("operator", [tomography.hardened, tomography.scattered])
def test_cupping_is_zero_at_zero_grows_and_keeps_the_mean(operator) -> None:  # noqa: ANN001
    hu = water(SQUARE, 60)
    assert torch.equal(operator(hu, SQUARE, 0.0), hu)
    depths = []
    for strength in (0.005, 0.01, 0.02, 0.04):
        change = (operator(hu, SQUARE, strength) - hu)[0]
        depths.append(cupping(change))
        inside = disk(SQUARE, 62) > 0
        # Water on the whole stays at 0 HU.
        assert float(change[inside].mean()) == pytest.approx(0, abs=max(10, 0.1 * depths[-1]))
    assert depths == sorted(depths)
    assert depths[0] > 1


def test_hardening_is_linear_in_b() -> None:
    hu = water(SQUARE, 60)
    one, two = (tomography.hardened(hu, SQUARE, b) - hu for b in (0.01, 0.02))
    assert torch.allclose(two, 2 * one, atol=0.5)


def test_scatter_fills_the_deepest_shadow_most() -> None:
    """Between two dense rods lies a dark band."""
    rods = disk(SQUARE, 8, 0, -30) + disk(SQUARE, 8, 0, 30)
    hu = water(SQUARE, 60) + 1500 * rods[None]
    change = (tomography.scattered(hu, SQUARE, 0.1) - hu)[0]
    between, above = change[62:66, 60:68].mean(), change[36:40, 60:68].mean()
    assert float(between) < float(above) - 10


# --- metal

TWO = ((0.0, -30.0), (0.0, 30.0))


def test_two_rods_have_a_dark_band_between_them() -> None:
    hu = water(SQUARE, 60)
    bad = tomography.with_metal(hu, SQUARE, TWO, 4.0, 1e9, KEY)
    change = (bad - hu)[0]
    between = change[61:67, 52:76].mean()
    aside = change[96:100, 52:76].mean()
    assert float(between) < -50
    assert float(between) < 5 * float(aside) - 50
    # The rods themselves are by far the brightest.
    assert float(bad[disk(SQUARE, 3, 0, 30)[None] == 1].min()) > 2000


def test_few_photons_make_streaks_along_the_line_of_two_rods() -> None:
    hu = water(SQUARE, 60)
    many, few = (tomography.with_metal(hu, SQUARE, TWO, 4.0, n, KEY)[0] for n in (1e9, 1e5))
    streaks = few - many
    columns = slice(54, 74)
    along = streaks[58:70, columns].std()
    aside = streaks[96:108, columns].std()
    assert float(along) > 1.5 * float(aside)
    # They run along the line: rows differ, columns are alike.
    assert streaks[58:70, columns].mean(dim=1).std() > 2 * streaks[58:70, columns].mean(dim=0).std()


def test_hardening_by_metal_is_what_its_spectrum_says() -> None:
    """Twice the iron attenuates less than twice; without iron, water is corrected exactly."""
    shares = np.array([line[1] for line in tomography.SPECTRUM])
    assert shares.sum() == pytest.approx(1)
    relative = np.array([line[2] for line in tomography.SPECTRUM]) / 0.1929
    water_lengths = np.array([0.0, 0.5, 2.0, 6.0])
    measured = -np.log(np.exp(-np.outer(water_lengths, relative)) @ shares)
    corrected = tomography._water_equivalent(torch.from_numpy(measured))
    assert torch.allclose(corrected, torch.from_numpy(water_lengths), atol=1e-4)
    iron = np.array([line[3] for line in tomography.SPECTRUM]) * tomography.IRON_DENSITY / 10
    one, two = (-np.log(np.exp(-iron * mm) @ shares) for mm in (5.0, 10.0))
    assert two < 1.9 * one


def test_rods_of_no_size_change_nothing_and_small_ones_little() -> None:
    hu = water(SQUARE, 60)
    assert torch.equal(tomography.with_metal(hu, SQUARE, TWO, 0.0, 1e5, KEY), hu)
    small = tomography.with_metal(hu, SQUARE, TWO, 0.01, 1e5, KEY) - hu
    assert float(small.abs().max()) < 10


# --- motion


def test_a_slice_that_lies_elsewhere_all_the_time_is_reconstructed_there() -> None:
    """Shifting every view is shifting the slice."""
    hu = scipy.ndimage.gaussian_filter(water(SQUARE, 30)[0].numpy(), 2.0)
    shifted = scipy.ndimage.shift(hu, (3, -2), cval=-1000)
    found = tomography.moved(
        torch.from_numpy(hu)[None], SQUARE, [(3 * 1.4, -2 * 1.4)] * SQUARE.views
    )[0]
    assert float((found - torch.from_numpy(shifted)).abs().max()) < 25
    assert float((found - torch.from_numpy(hu)).abs().max()) > 150


def test_motion_grows_with_the_amplitude_and_leaves_the_place() -> None:
    hu = (1000 * disk(SQUARE, 20) - 1000)[None]
    damage, places = [], []
    for level in (1, 3, 5):
        bad = degradations.apply(
            hu[None], f"ct/motion:{level}", domain="hu", ids=["a"], seed=0, spacing_mm=(1.4, 1.4)
        )[0]
        damage.append(float((bad - hu).square().mean()))
        mu = tomography.attenuation(bad.clamp(min=-990) + 0).double()
        places.append(float((mu.sum(dim=0) * (torch.arange(128) - 63.5)).sum() / mu.sum()) * 1.4)
    assert damage == sorted(damage)
    assert max(abs(place) for place in places) < 2.0


# --- truncation, blur, window


def test_truncation_brightens_the_rim_of_the_field_and_spares_what_fits() -> None:
    hu = water(SQUARE, 60)
    width = 128 * 1.4
    assert float((tomography.truncated(hu, SQUARE, 128 / width) - hu).abs().max()) < 1e-3
    change = (tomography.truncated(hu, SQUARE, 80 / width) - hu)[0]
    rim = (disk(SQUARE, 39) == 1) & (disk(SQUARE, 35) == 0)
    middle = disk(SQUARE, 15) == 1
    assert float(change[rim].mean()) > float(change[middle].mean()) + 200
    deeper = (tomography.truncated(hu, SQUARE, 60 / width) - hu)[0]
    assert float(deeper.square().mean()) > float(change.square().mean())


def test_blur_along_the_detector_is_a_gaussian_blur_of_the_slice() -> None:
    """Fourier slice theorem: G(t) in every view is G(x, y) in the slice, in all directions."""
    geometry = Geometry(128, 128, 1.0, 1.0, 360)
    sharp = 1000 * (disk(geometry, 30) + disk(geometry, 6, 10, -8)) - 1000
    hu = torch.from_numpy(scipy.ndimage.gaussian_filter(sharp.numpy(), 1.5))[None]
    found = tomography.detector_blurred(hu, geometry, 2.5)[0]
    expected = scipy.ndimage.gaussian_filter(hu[0].double().numpy(), 2.5)
    assert np.abs(found.numpy() - expected).mean() < 3
    assert np.abs(found.numpy() - expected).max() < 40
    assert torch.equal(tomography.detector_blurred(hu, geometry, 0.0), hu)


def test_a_wrong_window_shows_as_the_wrong_window_does(head: Tensor) -> None:
    """At the end of the way, the picture is the one that another preset makes of the slice."""
    hu = head[None, :, ::2, ::2]
    shown = set()
    for image_id in "abcdefgh":
        bad = degradations.apply(hu, "ct/wrong_window:5", domain="hu", ids=[image_id], seed=0)
        picture = ((bad - 40) / 400 + 0.5).clamp(0, 1)
        for organ, (centre_hu, width) in degradations.ct.WINDOWS.items():
            if torch.allclose(picture, ((hu - centre_hu) / width + 0.5).clamp(0, 1), atol=1e-4):
                shown.add(organ)
    assert shown == {"lung", "bone", "brain"}


# --- volumes
