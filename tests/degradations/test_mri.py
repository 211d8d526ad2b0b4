"""Magnetic resonance artefacts obey k-space: energy, symmetry, places and amplitudes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
import torch
from torch import Tensor

import degradations
from degradations import Key, kernels, scenes
from degradations.operators import kspace
from degradations.operators.kspace import Pose, Segment

KEY = Key(0, "a", "mri/test")
MRI = [name for name in degradations.names() if name.startswith("mri/")]
SIZES = [(64, 64), (45, 60), (49, 77), (60, 45)]


@pytest.fixture(params=["loops", "tensors"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Once with compiled loops, once with the tensor code that runs on every device."""
    if request.param == "tensors":
        monkeypatch.setattr(kernels, "compiled", lambda: False)
    elif not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    return str(request.param)


def picture(height: int = 64, width: int = 64, channels: int = 1, seed: int = 0) -> Tensor:
    """Smooth and bright, so that little goes below zero."""
    drawn = np.random.default_rng(seed).random((channels, height, width))
    return torch.from_numpy(
        0.6 + 0.3 * (scipy.ndimage.gaussian_filter(drawn, (0, 1, 1), mode="wrap") - 0.5)
    ).float()


def spectrum(image: Tensor) -> np.ndarray:
    return np.fft.fft2(image.double().numpy())


def head(size: int = 128) -> Tensor:
    return scenes.draw("mri", size).float() / 255.0


# --- every entry


@pytest.mark.parametrize("name", MRI)
def test_magnitudes_are_never_negative(name: str) -> None:
    dark = head(64) * torch.tensor([1.0, 0.02])[:, None, None]
    for severity in (1, 5):
        out = degradations.apply(
            dark[None], f"{name}:{severity}", domain="linear", ids=["a"], seed=1
        )
        assert float(out.min()) >= -1e-6


@pytest.mark.parametrize("name", MRI)
def test_strengths_are_relative_to_the_image(name: str) -> None:
    """A scanner's units are arbitrary."""
    pixels = head(64)[None]
    one, thousand = (
        degradations.apply(pixels * scale, f"{name}:3", domain="linear", ids=["a"], seed=0) / scale
        for scale in (1.0, 1000.0)
    )
    assert torch.allclose(one, thousand, atol=1e-4)


@pytest.mark.parametrize("name", MRI)
def test_only_b0_moves_anatomy_and_all_are_for_mri(name: str) -> None:
    entry = degradations.get(name)
    assert entry.modalities == ("mri",)
    assert entry.geometric == (name == "mri/b0_distortion")


# --- masks


@pytest.mark.parametrize("size", SIZES)
def test_a_full_mask_changes_nothing(size: tuple[int, int], path: str) -> None:
    """Hermitian symmetry: nothing leaks into an imaginary part at even and odd sizes."""
    image = picture(*size, channels=2)
    ones = torch.ones(size[0] // 2 + 1)
    for out in (
        kspace.filter_lines(image, ones),
        kspace.filter_lines(image, ones, ones),
        kspace.undersample_random(image, 1.1, 0.0, KEY),
        kspace.undersample_regular(image, 4, math.inf),
        kspace.truncate(image, max(size)),
        kspace.acquire(image, [Segment(-math.inf, -2.0, Pose(0.0, 0.0, 0.0))]),
    ):
        assert torch.allclose(out, image, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_any_mask_of_lines_is_the_one_in_full_k_space(size: tuple[int, int], path: str) -> None:
    """Against a transform of both axes and a mask over all lines, in double precision."""
    image = picture(*size, channels=2, seed=3)
    draw = np.random.default_rng(5)
    mask = draw.random(size[0])  # by line, as numpy.fft orders them
    half = size[0] // 2 + 1
    positive = torch.from_numpy(mask[:half]).float()
    negative = torch.from_numpy(mask[-np.arange(half)]).float()
    expected = np.abs(np.fft.ifft2(spectrum(image) * mask[:, None]))
    out = kspace.filter_lines(image, positive, negative)
    assert np.allclose(out.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("acceleration", [2, 4, 6])
def test_regular_undersampling_keeps_its_lines_their_energy_and_the_mean(
    acceleration: int, path: str
) -> None:
    image = picture(96, 64)
    out = kspace.undersample_regular(image, acceleration, 3.0)
    line = np.abs(np.fft.fftfreq(96, 1 / 96))
    kept = (line % acceleration == 0) | (line <= 3)
    before, after = spectrum(image)[0], spectrum(out)[0]
    assert np.allclose(after[kept], before[kept], atol=1e-3)
    assert np.abs(after[~kept]).max() < 1e-3
    # Parseval: what is left is the energy of the lines kept.
    share = (np.abs(before[kept]) ** 2).sum() / (np.abs(before) ** 2).sum()
    assert float(out.square().sum() / image.square().sum()) == pytest.approx(share, abs=1e-5)
    assert float(out.mean() / image.mean()) == pytest.approx(1.0, abs=1e-5)


def test_regular_undersampling_aliases_a_point_to_equal_distances() -> None:
    image = torch.zeros(1, 64, 64)
    image[0, 20, 30] = 1.0
    column = kspace.undersample_regular(image, 4, -1.0)[0, :, 30]
    peaks = torch.zeros(64)
    peaks[[4, 20, 36, 52]] = 0.25
    assert torch.allclose(column, peaks, atol=1e-6)


def test_random_undersampling_keeps_energy_in_proportion_and_is_nested() -> None:
    """On white noise, whose lines all have the same energy; magnitudes keep the energy."""
    noise = torch.randn(1, 512, 32, generator=torch.Generator().manual_seed(0))
    for share in (0.2, 0.5, 0.8):
        out = kspace.undersample_random(noise, share, 0.0, KEY)
        kept = float(out.square().sum() / noise.square().sum())
        assert kept == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 512))
    # Waves of one line each, lit up one by one: which lines survive.
    line = torch.arange(1, 20)
    waves = 1.0 + torch.cos(2 * math.pi * line[:, None] * torch.arange(64) / 64)
    images = waves[:, :, None].expand(-1, -1, 8).contiguous()
    lost = [
        (images - kspace.undersample_random(images, share, 0.0, KEY)).square().mean(dim=(1, 2))
        for share in (0.9, 0.6, 0.3, 0.1)
    ]
    for fewer, more in itertools.pairwise(lost):
        assert (more >= fewer - 1e-6).all()


def test_the_same_random_lines_are_left_out_at_any_resolution() -> None:
    def kept(size: int) -> Tensor:
        line = torch.arange(1, 25)
        waves = 1.0 + 0.1 * torch.cos(2 * math.pi * line[:, None] * torch.arange(size) / size)
        images = waves[:, :, None].expand(-1, -1, 8).contiguous()
        return kspace.undersample_random(images, 0.5, 0.0, KEY).std(dim=(1, 2)) / 0.1

    assert torch.allclose(kept(64), kept(128), atol=0.02)


# --- Gibbs


def test_a_truncated_edge_overshoots_by_nine_percent_of_its_height(path: str) -> None:
    """Wilbraham and Gibbs: Si(pi) / pi - 1/2 = 8.949 percent, at 1 / (2 cutoff) from the edge."""
    size, cutoff = 4096, 100
    image = torch.full((1, 8, size), 1.0)
    image[..., size // 4 : 3 * size // 4] = 2.0
    profile = kspace.truncate(image, cutoff)[0, 4].numpy()
    overshoot = scipy.special.sici(np.pi)[0] / np.pi - 0.5
    assert profile.max() - 2.0 == pytest.approx(overshoot, abs=0.001)
    assert 1.0 - profile.min() == pytest.approx(overshoot, abs=0.001)
    edge = profile[size // 4 : size // 4 + size // cutoff]
    assert np.argmax(edge) + 0.5 == pytest.approx(size / (2 * cutoff), rel=0.05)


@pytest.mark.parametrize("size", SIZES)
def test_truncation_is_a_square_window_about_the_centre(size: tuple[int, int], path: str) -> None:
    image = picture(*size, seed=2)
    out = kspace.truncate(image, 9.0)
    far = [np.abs(np.fft.fftfreq(side, 1 / side)) > 8.5 for side in size]
    outside = far[0][:, None] | far[1][None]
    before, after = spectrum(image)[0], spectrum(out)[0]
    assert np.abs(after[outside]).max() < 1e-3
    assert np.allclose(after[~outside], before[~outside], atol=1e-3)


# --- motion


def test_a_whole_pixel_move_is_a_roll_and_a_turn_is_a_turn() -> None:
    image = head(64)
    moved = kspace.move(image, Pose(right_px=3.0, down_px=-5.0, angle_deg=0.0))
    assert torch.allclose(moved, image.roll((-5, 3), (-2, -1)), atol=2e-6)
    smooth = torch.from_numpy(scipy.ndimage.gaussian_filter(head(128)[0].numpy(), 3.0))
    turned = kspace.move(smooth[None], Pose(0.0, 0.0, 12.0))[0]
    # SciPy turns counter-clockwise as seen, with rows downward.
    peer = scipy.ndimage.rotate(smooth.numpy(), 12.0, reshape=False, order=3)
    assert np.abs(turned.numpy() - peer)[16:-16, 16:-16].max() < 0.002


def test_moving_loses_no_energy() -> None:
    """A phase takes no energy away, where interpolation would blur."""
    image = picture(65, 65, seed=1) - 0.6
    moved = kspace.move(image, Pose(1.3, -0.4, 5.0))
    assert float(moved.square().sum() / image.square().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_lines_come_from_the_pose_of_their_time(size: tuple[int, int], path: str) -> None:
    """Against k-space put together line by line in double precision."""
    image = head(96)[:, : size[0], : size[1]].contiguous()
    segments = [
        Segment(-math.inf, -6.0, Pose(1.5, 0.7, 2.0)),
        Segment(5.0, 12.0, Pose(-2.0, 1.2, -3.0)),
        Segment(12.0, math.inf, Pose(0.5, -3.0, 1.0)),
    ]
    line = np.fft.fftfreq(size[0], 1 / size[0]).round()
    full = spectrum(image)[0]
    for segment in segments:
        rows = (line >= segment.first) & (line < segment.last)
        full[rows] = spectrum(kspace.move(image, segment.pose, 1.1))[0][rows]
    out = kspace.acquire(image, segments, 1.1)
    assert np.allclose(out[0].numpy(), np.abs(np.fft.ifft2(full)), atol=5e-6)


def test_the_centre_of_k_space_is_unmoved_and_energy_is_kept() -> None:
    image = picture(128, 128)[None]
    out = degradations.apply(image, "mri/motion:3", domain="linear", ids=["a"], seed=0)
    assert float(out.mean() / image.mean()) == pytest.approx(1.0, abs=0.002)
    assert float(out.square().sum() / image.square().sum()) == pytest.approx(1.0, abs=1e-3)


def test_tall_pixels_are_turned_in_millimetres() -> None:
    (told,) = degradations.explain("mri/motion:3", (1, 1, 64, 64), (2.0, 1.0))
    assert told["numbers"]["pixel_aspect"] == 2.0
    # The same scene, its rows averaged two by two before the turn and after it.
    fine = torch.from_numpy(scipy.ndimage.gaussian_filter(head(128).numpy(), (0, 4, 4)))
    tall, expected = (
        torch.nn.functional.avg_pool2d(image, (2, 1))
        for image in (fine, kspace.move(fine, Pose(0.0, 0.0, 10.0)))
    )
    turned = kspace.move(tall, Pose(0.0, 0.0, 10.0), pixel_aspect=2.0)
    assert float((turned - expected)[:, 8:-8, 16:-16].abs().max()) < 0.003


# --- ghosts and spikes


@pytest.mark.parametrize("period", [3, 4, 5, 6])
def test_ghosts_of_a_point_are_a_field_of_view_over_n_apart(period: int, path: str) -> None:
    image = torch.zeros(1, 60, 16)
    image[0, 10, 7] = 1.0
    column = kspace.ghost(image, period, 0.9)[0, :, 7]
    weights = kspace.ghost_weights(period, 0.9)
    expected = torch.zeros(60)
    for copy, weight in enumerate(weights):
        expected[(10 + copy * 60 // period) % 60] = abs(weight)
    assert torch.allclose(column, expected, atol=1e-6)
    assert sum(w * w for w in weights) == pytest.approx(1.0)
    # And it is what the periodic phase does to every line of k-space.
    line = np.fft.fftfreq(60, 1 / 60)
    error = np.exp(0.9j * np.sin(2 * np.pi * line / period))
    full = np.abs(np.fft.ifft2(spectrum(image)[0] * error[:, None]))
    assert np.allclose(full[:, 7], expected.numpy(), atol=1e-6)


def test_ghosts_of_long_periods_are_bessel_functions_and_the_centre_is_right() -> None:
    weights = kspace.ghost_weights(64, 1.1)
    assert np.allclose(np.abs(weights[:5]), scipy.special.jv(np.arange(5), 1.1), atol=1e-12)
    for period in (3, 4, 5, 6):
        assert sum(kspace.ghost_weights(period, 0.7)) == pytest.approx(1.0)
    image = picture(61, 40)
    ghosted = kspace.ghost(image, 4, 0.3)
    assert float(ghosted.mean() / image.mean()) == pytest.approx(1.0, abs=1e-5)


def test_a_spike_is_one_sample_of_k_space_of_the_strength_and_place_asked_for(path: str) -> None:
    image = picture(64, 48)
    ratio, across, down, phase = 0.3, 7.0, -5.0, 0.8
    full = spectrum(image)[0]
    full[-5, 7] += ratio * full[0, 0].real * np.exp(1j * phase)
    out = kspace.spike(image, ratio, across, down, phase)
    assert np.allclose(out[0].numpy(), np.abs(np.fft.ifft2(full)), atol=2e-6)


def test_the_stripes_of_a_spike_have_its_frequency() -> None:
    pixels = torch.full((1, 1, 128, 128), 0.5)
    (told,) = degradations.explain("mri/spike:2", pixels.shape, id="a", seed=3)
    out = degradations.apply(pixels, "mri/spike:2", domain="linear", ids=["a"], seed=3)
    found = np.abs(spectrum(out[0])[0])
    found[0, 0] = 0.0
    row, column = np.unravel_index(found.argmax(), found.shape)
    place = {(int(row), int(column)), (int(-row % 128), int(-column % 128))}
    numbers = told["numbers"]
    assert (int(numbers["down_cycles"]) % 128, int(numbers["across_cycles"]) % 128) in place
    assert 7 <= math.hypot(numbers["down_cycles"], numbers["across_cycles"]) <= 33


def test_a_zipper_is_one_frequency_on_every_line() -> None:
    image = torch.full((1, 512, 256), 0.5)
    out = kspace.zipper(image, 0.5, 1.0, 0.25, KEY)
    change = (out - image)[0].square().mean(dim=0).sqrt()
    assert int(change.argmax()) in (63, 64)
    assert float(change[:58].max()) == 0.0
    assert float(change[70:].max()) == 0.0
    assert bool(((out - image)[0, :, 63].abs() > 1e-4).float().mean() > 0.95)


# --- noise and coil


def test_noise_without_signal_is_rayleigh(path: str) -> None:
    """Mean sigma sqrt(pi/2), standard deviation sigma sqrt(2 - pi/2)."""
    image = torch.zeros(1, 512, 512)
    image[0, 0, 0] = 2.0  # the maximum that sigma refers to
    noise = kspace.rician(image, 0.05, KEY).flatten()[1:].double()
    sigma, n = 0.1, noise.numel()
    assert float(noise.mean()) == pytest.approx(
        sigma * math.sqrt(math.pi / 2), abs=4 * 0.655 * sigma / math.sqrt(n)
    )
    assert float(noise.std()) == pytest.approx(sigma * math.sqrt(2 - math.pi / 2), rel=0.01)
    drawn = noise[:20000].numpy()
    assert scipy.stats.kstest(drawn, scipy.stats.rayleigh(scale=sigma).cdf).pvalue > 0.01


@pytest.mark.parametrize("signal", [1.0, 3.0, 10.0])
def test_noise_on_a_signal_is_rician(signal: float) -> None:
    """Moments of SciPy's Rice distribution, at a signal of so many standard deviations."""
    image = torch.full((1, 512, 512), signal)
    noisy = kspace.rician(image, 1.0 / signal, KEY).double()
    law = scipy.stats.rice(signal)
    assert float(noisy.mean()) == pytest.approx(law.mean(), abs=4 * law.std() / 512)
    assert float(noisy.std()) == pytest.approx(law.std(), rel=0.01)


def test_noise_differs_between_channels_and_images() -> None:
    image = torch.full((2, 128, 128), 0.5)
    change = kspace.rician(image, 0.1, KEY) - image
    other = kspace.rician(image, 0.1, Key(0, "b", "mri/test")) - image
    for a, b in ((change[0], change[1]), (change[0], other[0])):
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.03


@pytest.mark.parametrize("size", SIZES)
def test_a_bias_field_has_geometric_mean_one_the_spread_asked_for_and_no_detail(
    size: tuple[int, int],
) -> None:
    field = kspace.bias_field(*size, 0.4, KEY, torch.device("cpu")).double()
    assert float(field.mean()) == pytest.approx(0.0, abs=1e-7)
    assert float(field.square().mean().sqrt()) == pytest.approx(0.4, rel=1e-4)
    # Half periods of cosines: bins of SciPy's type II cosine transform.
    bins = np.abs(scipy.fft.dctn(field.numpy(), norm="ortho"))
    order = np.add.outer(np.arange(size[0]), np.arange(size[1]))
    assert bins[order > 3].max() < 1e-5 * bins.max()


def test_the_ratio_to_the_original_is_the_field() -> None:
    image = picture(64, 80, channels=3)
    field = kspace.bias_field(64, 80, 0.3, KEY, image.device).exp()
    ratio = kspace.shade(image, 0.3, 1.0, KEY) / image
    assert torch.allclose(ratio, field.expand_as(ratio), rtol=1e-5)
    darker = kspace.shade(image, 0.3, 0.5, KEY) / image
    assert float(darker.log().mean().exp()) == pytest.approx(0.5, rel=1e-4)


# --- field of view, resolution, geometry


@pytest.mark.parametrize("size", [(64, 32), (45, 30)])
def test_the_ends_fold_over_by_one_field_of_view(size: tuple[int, int]) -> None:
    image = picture(*size)
    field = size[0] * 3 // 4
    out = kspace.wrap_around(image, field)
    cut = size[0] - field
    assert torch.equal(out[:, :cut], image[:, :cut] + image[:, field:])
    assert torch.equal(out[:, field:], image[:, field:] + image[:, :cut])
    assert torch.equal(out[:, cut:field], image[:, cut:field])
    # Sampling k-space more coarsely makes the image periodic in the new field.
    assert torch.allclose(out[:, :cut], out[:, field:], atol=1e-6)


@pytest.mark.parametrize("cycles", [2, 5, 8])
def test_thick_slices_have_the_transfer_of_a_box_and_a_tent(cycles: int) -> None:
    """A sinc for the average over a slice, its square for the interpolation between centres."""
    size, slices = 960, 40
    rows = (torch.arange(size).double() + 0.5) / size
    wave = torch.cos(2 * math.pi * cycles * rows)
    image = (1.0 + wave)[None, :, None].expand(-1, -1, 4).float()
    seen = kspace.thick_slices(image, slices)[0, :, 0].double()
    weight = torch.hann_window(size, periodic=False, dtype=torch.float64)
    found = float((weight * wave * (seen - 1.0)).sum() / (weight * wave * wave).sum())
    assert found == pytest.approx(np.sinc(cycles / slices) ** 3, abs=0.005)


def test_thick_slices_leave_the_other_axis_and_as_many_slices_as_rows_alone() -> None:
    image = picture(48, 60)
    assert torch.allclose(kspace.thick_slices(image, 48), image, atol=1e-6)
    columns = image[:, :1].expand(-1, 48, -1)
    assert torch.allclose(kspace.thick_slices(columns, 7), columns, atol=1e-6)


def test_distortion_keeps_the_signal_of_every_line() -> None:
    """The Jacobian: what is squeezed gets brighter."""
    image = picture(40, 128)
    field = kspace.displacement(40, 128, KEY, image.device) * (0.08 * 128)
    out = kspace.distort(image, field)
    assert torch.allclose(out.sum(dim=-1), image.sum(dim=-1), rtol=1e-5)
    assert float(field.abs().max()) <= 0.0801 * 128
    assert float(field.diff(dim=-1).max()) < 1.0  # no fold


def test_distortion_displaces_as_the_formula_says() -> None:
    """On a smooth profile, y(u) = x(u - d(u)) (1 - d'(u))."""
    u = torch.arange(512).double() + 0.5

    def profile(at: Tensor) -> Tensor:
        return 1.0 + 0.5 * torch.sin(2 * math.pi * at / 171.0)

    edges = torch.arange(513).double()
    shift = 12.0 * torch.sin(math.pi * edges / 512)
    out = kspace.distort(profile(u).float()[None, None], shift[None])[0, 0].double()
    at, slope = 12.0 * torch.sin(math.pi * u / 512), 12.0 * math.pi / 512
    expected = profile(u - at) * (1.0 - slope * torch.cos(math.pi * u / 512))
    assert torch.allclose(out, expected, atol=2e-3)


def test_fat_moves_and_water_stays() -> None:
    image = torch.zeros(1, 8, 64)
    image[..., 10:14] = 0.4  # below half of the maximum
    image[..., 40:44] = 1.0
    out = kspace.chemical_shift(image, 3.0)
    expected = torch.zeros(1, 8, 64)
    expected[..., 10:14] = 0.4
    expected[..., 43:47] = 1.0
    assert torch.allclose(out, expected)
    between = kspace.chemical_shift(image, 2.5)
    assert torch.allclose(between.sum(), image.sum())


# --- profiles


def test_the_published_bias_field_is_mostly_darker() -> None:
    image = picture(128, 128)[None]
    for level, (median, low, high) in enumerate(((0.50, 0.37, 0.67), (0.37, 0.29, 0.52)), 1):
        spec = f"mri/bias_field@medq-deg:{level}"
        ratio = degradations.apply(image, spec, domain="linear", ids=["a"], seed=0) / image
        assert float(ratio.median()) == pytest.approx(median, rel=0.1)
        assert float(ratio.quantile(0.01)) > low * 0.8
        assert float(ratio.quantile(0.99)) < high * 1.2


def test_the_published_undersampling_removes_the_recovered_share_of_lines() -> None:
    for level, removed in ((1, 0.76), (2, 0.79)):
        (told,) = degradations.explain(f"mri/undersampling@medq-deg:{level}", (1, 1, 256, 256))
        numbers = told["numbers"]
        line = np.abs(np.fft.fftfreq(256, 1 / 256))
        kept = (line % numbers["acceleration"] == 0) | (line <= numbers["centre_cycles"])
        assert 1 - kept.mean() == pytest.approx(removed, abs=0.01)
