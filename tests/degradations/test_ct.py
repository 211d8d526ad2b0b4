"""Low dose CT obeys the physics of projections, photons and filtered backprojection."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.transform
import torch
from torch import Tensor

import degradations
from degradations import Key, random_fields
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
        assumed, degradations.apply(hu, "ct/low_dose:3", spacing_mm=(0.7, 0.7), **how)
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


def test_a_real_slice_keeps_its_mean(ct_slice: tuple[Tensor, tuple[float, float]]) -> None:
    hu, spacing_mm = ct_slice
    out = degradations.apply(
        hu[None], "ct/low_dose:2", domain="hu", ids=["a"], seed=0, spacing_mm=spacing_mm
    )
    assert float((out - hu).mean()) == pytest.approx(0, abs=1)
    assert 1 < float((out - hu).std()) < 100
