"""Blur and resolution obey optics, and the fast path says what the plain one says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import skimage.transform
import torch
from PIL import Image
from torch import Tensor

import degradations
from degradations import kernels
from degradations.operators import blur, light, resample
from degradations.operators.sizes import fast_length

HALF = torch.full((1, 1, 256, 256), 0.5)
ENTRIES = [
    f"general/{name}"
    for name in (
        "gaussian_blur",
        "defocus_blur",
        "motion_blur",
        "zoom_blur",
        "glass_blur",
        "low_resolution",
    )
]
Pictures = dict[str, Tensor]


def degrade(pixels: Tensor, spec: str, image_id: str = "a", seed: int = 0) -> Tensor:
    return degradations.apply(pixels, spec, domain="display", ids=[image_id], seed=seed)


def levels(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)


def transfer(kernel: np.ndarray, frequency: float, angle: float) -> float:
    """Of a kernel, at cycles per pixel along a direction."""
    radius = len(kernel) // 2
    y, x = np.mgrid[radius : -radius - 1 : -1, -radius : radius + 1]
    phase = 2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle))
    return float((kernel * np.cos(phase)).sum())


@pytest.mark.parametrize("cycles", [2, 5, 12, 40])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("severity", [1, 2, 4])
def test_gaussian_blur_has_the_modulation_transfer_of_a_gaussian(
    cycles: int, axis: int, severity: int
) -> None:
    size = 256
    place = (torch.arange(size) + 0.5) / size
    # Whole half-cycles mirror into themselves, so that the border does not disturb the wave.
    wave = torch.cos(math.pi * cycles * place)
    wave = wave[None] if axis == -1 else wave[:, None]
    pattern = (0.5 + 0.4 * wave.expand(size, size))[None, None]
    out = degrade(pattern, f"general/gaussian_blur:{severity}")
    sigma = degradations.explain(f"general/gaussian_blur:{severity}", out.shape)[0]["numbers"][
        "sigma_px"
    ]
    expected = math.exp(-2 * math.pi**2 * (sigma * cycles / 2 / size) ** 2)
    found = float(((out - 0.5) * wave).sum() / ((pattern - 0.5) * wave).sum())
    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.7, 2.8, 5.0, 5.6, 11.5, 30.0])
@pytest.mark.parametrize("kind", ["retina", "histology", "noise"])
def test_gaussian_blur_is_scipys(sigma: float, kind: str, pictures: Pictures) -> None:
    clean = pictures.get(kind, torch.rand(3, 133, 90, generator=torch.Generator().manual_seed(0)))
    peer = scipy.ndimage.gaussian_filter(
        clean.double().numpy(), (0, sigma, sigma), truncate=6, mode="reflect"
    )
    found = blur.gaussian(clean, sigma).numpy()
    assert np.abs(found - peer).max() < 0.5 / 255
    assert np.abs(found - peer).mean() < 0.05 / 255


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("kind", ["retina", "mr"])
def test_medq_deg_blur_is_scipys_rounded(level: int, kind: str, pictures: Pictures) -> None:
    clean = levels(pictures[kind])
    out = degrade(clean[None], f"general/gaussian_blur@medq-deg:{level}")[0]
    sigma = (3.0, 7.0)[level - 1]
    peer = scipy.ndimage.gaussian_filter(clean.double().numpy(), (0, sigma, sigma))
    off = out.numpy() - peer
    assert np.abs(off).max() < 0.75
    assert (out.numpy() == np.rint(peer)).mean() > 0.97
    assert abs(off.mean()) < 0.02


@pytest.mark.parametrize("radius", [1.5, 3.0, 6.3, 20.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, math.pi / 2])
def test_defocus_has_the_modulation_transfer_of_a_disk(radius: float, angle: float) -> None:
    """The jinc function of the radius, times at most the antialiasing of one pixel."""
    kernel = blur.disk_kernel(radius)
    for argument in (0.5, 1.0, 2.0, 3.0, 5.0):
        frequency = argument / (2 * math.pi * radius)
        expected = 2 * scipy.special.j1(argument) / argument
        # Second moments of up to 1/4 pixel^2 along each axis.
        antialias = 2 * math.pi**2 * frequency**2 / 4
        assert transfer(kernel, frequency, angle) == pytest.approx(expected, abs=antialias + 0.01)


@pytest.mark.parametrize("radius", [0.1, 0.7, 1.5, 4.0, 12.3])
def test_the_disk_has_the_second_moment_of_a_disk_and_one_pixel(radius: float) -> None:
    kernel = blur.disk_kernel(radius)
    reach = len(kernel) // 2
    place = np.arange(-reach, reach + 1)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.min() >= 0
    for axis in (0, 1):
        moment = (kernel.sum(axis=axis) * place**2).sum()
        assert radius**2 / 4 - 1e-3 <= moment <= radius**2 / 4 + 0.26


@pytest.mark.parametrize(("radius", "alias"), [(3, 0.1), (6, 0.5), (10, 0.5)])
def test_the_disk_of_imagenet_c_covers_whole_pixels(radius: int, alias: float) -> None:
    kernel = blur.imagenet_c_disk(radius, alias)
    reach = len(kernel) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    hard = (x**2 + y**2 <= radius**2).astype(float)
    side = 1 if radius <= 8 else 2
    expected = scipy.ndimage.gaussian_filter(
        hard / hard.sum(), alias, truncate=(side + 0.01) / alias, mode="mirror"
    )
    assert np.allclose(kernel, expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("length", [3.0, 10.0, 41.5])
@pytest.mark.parametrize("angle", [0.0, 17.0, 30.0, 45.0, 90.0, 140.0])
def test_the_motion_kernel_is_a_line_of_the_stated_length(length: float, angle: float) -> None:
    kernel = blur.line_kernel(length, angle)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    radius = kernel.shape[0] // 2
    y, x = np.mgrid[radius : -radius - 1 : -1, -radius : radius + 1]
    direction = math.radians(angle)
    along = x * math.cos(direction) + y * math.sin(direction)
    across = y * math.cos(direction) - x * math.sin(direction)
    assert (kernel * along).sum() == pytest.approx(0, abs=1e-9)
    antialias = 0.25
    assert length**2 / 12 - 0.01 <= (kernel * along**2).sum() <= length**2 / 12 + antialias
    assert (kernel * across**2).sum() <= antialias


@pytest.mark.parametrize("angle", [0.0, 20.0, 63.0, 110.0])
def test_motion_has_the_modulation_transfer_of_a_line(angle: float) -> None:
    """The sinc function of the length along the line, and hardly any loss across it."""
    length = 24.0
    kernel = blur.line_kernel(length, angle)
    direction = math.radians(angle)
    for cycles in (0.3, 0.7, 1.5, 2.5):
        found = transfer(kernel, cycles / length, direction)
        assert found == pytest.approx(np.sinc(cycles), abs=0.03)
        assert transfer(kernel, cycles / length, direction + math.pi / 2) > 0.94


def test_motion_without_length_is_no_motion() -> None:
    assert blur.line_kernel(0.0, 33.0).max() == 1
    assert blur.line_kernel(0.01, 33.0).max() > 0.98


def test_motion_follows_the_angle_that_explain_tells() -> None:
    point = torch.zeros(1, 1, 256, 256)
    point[..., 128, 128] = 1
    for image_id in ("a", "b", "c"):
        spec = "general/motion_blur:5"
        numbers = degradations.explain(spec, (1, 256, 256), id=image_id)[0]["numbers"]
        trace = degrade(point, spec, image_id)[0, 0].double()
        y, x = torch.meshgrid(128.0 - torch.arange(256), torch.arange(256) - 128.0, indexing="ij")
        xx, yy, xy = ((trace * moment).sum() for moment in (x * x, y * y, x * y))
        axis = 0.5 * math.degrees(math.atan2(float(2 * xy), float(xx - yy))) % 180
        assert axis == pytest.approx(numbers["angle_deg"], abs=1.0)


def test_directions_of_motion_are_spread_evenly() -> None:
    angles = np.radians(
        [
            degradations.explain("general/motion_blur:1", (8, 8), id=str(n))[0]["numbers"][
                "angle_deg"
            ]
            for n in range(2000)
        ]
    )
    assert abs(np.exp(2j * angles).mean()) < 3 / math.sqrt(2000)


@pytest.mark.parametrize("factor", [1.03, 1.13, 1.36])
def test_zoom_blur_is_the_mean_of_scipys_zooms(factor: float, pictures: Pictures) -> None:
    clean = pictures["retina"]
    count, size = 2 ** resample.zoom_rounds(256), 256
    middle = (size - 1) / 2
    total = np.zeros(clean.shape)
    for turn in range(count):
        scale = factor ** (-turn / (count - 1))
        for channel, plane in enumerate(clean.double().numpy()):
            total[channel] += scipy.ndimage.affine_transform(
                plane, [scale, scale], offset=middle * (1 - scale), order=1
            )
    off = np.abs(resample.zoom(clean, factor).numpy() - total / count) * 255
    # Interpolating several times smooths the finest detail a little.
    assert off.mean() < 0.5
    assert off.max() < 12
    assert np.quantile(off, 0.99) < 3


def test_zoom_blur_leaves_the_centre_and_smears_along_the_radius() -> None:
    size = 257
    dots = torch.zeros(1, size, size)
    for row, column in ((128, 128), (128, 208), (188, 188)):
        dots[0, row - 1 : row + 2, column - 1 : column + 2] = 1
    out = resample.zoom(dots, 1.2)[0]
    assert float(out[128, 128]) > 0.95
    y, x = np.mgrid[:size, :size] - 128.0
    for row, column in ((0, 80), (60, 60)):
        radius, direction = math.hypot(row, column), math.atan2(row, column)
        along = x * math.cos(direction) + y * math.sin(direction)
        across = np.abs(y * math.cos(direction) - x * math.sin(direction))
        part = out.numpy() * (across < 12) * (along > 20)
        mean = (part * along).sum() / part.sum()
        spread = math.sqrt((part * (along - mean) ** 2).sum() / part.sum())
        assert mean == pytest.approx(radius * 1.1, rel=0.02)
        assert spread == pytest.approx(radius * 0.2 / math.sqrt(12), rel=0.15)
        assert (part * across).sum() / part.sum() < 1.5


def test_glass_scatters_as_far_as_it_says_and_on_all_sides_alike() -> None:
    ramp = torch.linspace(0, 1, 256).expand(1, 256, 256).contiguous()
    key = degradations.Key(0, "a", "test")
    reach = 8.0
    for image in (ramp, ramp.transpose(1, 2)):
        shift = (resample.glass(image, reach, 0.0, 1.0, key) - image)[:, 20:-20, 20:-20] * 255
        assert float(shift.abs().max()) <= reach + 1e-3
        assert abs(float(shift.mean())) < 0.1
        # Uniform, and averaged over the four grid points around each pixel's centre.
        assert float(shift.std()) == pytest.approx(reach / math.sqrt(3) / 2, rel=0.03)


def test_one_pane_of_glass_looks_alike_at_any_resolution(
    radiograph: Callable[[int], Tensor],
) -> None:
    large, small = (degrade(radiograph(side)[None], "general/glass_blur:5") for side in (512, 256))
    other = degrade(radiograph(256)[None], "general/glass_blur:5", "b")
    seen = torch.nn.functional.avg_pool2d(large, 2)
    assert (seen - small).abs().mean() < (seen - other).abs().mean() / 3


@pytest.mark.parametrize("scale", [0.6, 0.5, 0.25, 0.1])
@pytest.mark.parametrize("kind", ["retina", "mr"])
def test_imagenet_c_pixelate_is_pillows_box(scale: float, kind: str, pictures: Pictures) -> None:
    clean = levels(pictures[kind])
    planes = []
    for plane in clean.numpy():
        height, width = plane.shape
        small = (round(width * scale), round(height * scale))
        # In floating point Pillow does not round between its two passes.
        picture = Image.fromarray(plane.astype(np.float32)).resize(small, Image.Resampling.BOX)
        planes.append(np.asarray(picture.resize((width, height), Image.Resampling.NEAREST)))
    found = resample.low_resolution(clean, scale, smooth=False).numpy()
    off = np.abs(found - np.stack(planes))
    if 256 % round(256 * scale) == 0:
        assert off.max() <= 0.501
    else:
        # Pillow gives a pixel on a cell border to one cell, rather than to both in proportion.
        assert off.mean() < 3


@pytest.mark.parametrize("scale", [0.83, 0.4, 0.07])
def test_low_resolution_is_an_area_average(scale: float) -> None:
    image = torch.rand(1, 75, 120, generator=torch.Generator().manual_seed(3))
    cells = (round(75 * scale), round(120 * scale))
    # Repeating pixels makes the cells whole numbers of pixels.
    fine = image[0].repeat_interleave(cells[0], 0).repeat_interleave(cells[1], 1)
    expected = skimage.transform.downscale_local_mean(fine.double().numpy(), (75, 120))
    found = resample.low_resolution(image, scale, smooth=False)[0].numpy()
    rows = [int((n + 0.5) * cells[0] / 75) for n in range(75)]
    columns = [int((n + 0.5) * cells[1] / 120) for n in range(120)]
    assert np.allclose(found, expected[np.ix_(rows, columns)], atol=1e-6)


@pytest.mark.parametrize("name", ENTRIES)
def test_uniform_images_stay_as_they_are(name: str) -> None:
    for level in (1, 5):
        assert torch.allclose(degrade(HALF, f"{name}:{level}"), HALF, atol=2e-6)
    colour = torch.tensor([0, 77, 255], dtype=torch.uint8)[None, :, None, None]
    colour = colour.expand(1, 3, 64, 48).contiguous()
    assert torch.equal(degrade(colour, f"{name}:4"), colour)


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "motion_blur"])
def test_blur_loses_no_light(name: str) -> None:
    point = torch.zeros(1, 1, 256, 256)
    point[..., 128, 128] = 1
    assert float(degrade(point, f"general/{name}:5").sum()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur"])
def test_colour_is_blurred_in_linear_light_and_gray_is_not(name: str) -> None:
    """Fine black and white lines average to half the light, which is displayed as 0.735."""
    lines = torch.zeros(3, 128, 128)
    lines[:, ::2, ::2] = 1
    lines[:, 1::2, 1::2] = 1
    colour = lines.clone()
    colour[0] = 0
    for image, expected in ((lines, 0.5), (colour, light.encode(np.array(0.5)))):
        out = degrade(image[None], f"general/{name}:5")[0, 2]
        assert float(out[4:40, 4:40].mean()) == pytest.approx(float(expected), abs=0.03)


def test_light_is_decoded_and_encoded_by_the_standard() -> None:
    shades = torch.linspace(0, 1, 5001)
    linear = light.to_linear(shades)
    # IEC 61966-2-1, by hand.
    assert float(light.to_linear(torch.tensor([0.5]))) == pytest.approx(0.21404114, abs=1e-6)
    assert float(light.to_linear(torch.tensor([0.04]))) == pytest.approx(0.04 / 12.92, abs=1e-7)
    assert torch.allclose(light.to_display(linear, torch.float32), shades, atol=3e-6)
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(light.to_display(light.to_linear(every), torch.uint8), every)


def test_tables_of_light_are_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    shades = torch.linspace(-0.1, 1.1, 4001).reshape(1, 4001, 1).transpose(0, 2)
    inside = shades.clamp(0, 1)
    found = [light.to_linear(inside), light.to_display(shades, torch.float32)]
    rounded = light.to_display(shades, torch.uint8)
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    expected = [light.to_linear(inside), light.to_display(shades, torch.float32)]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=2e-6)
    assert (rounded.int() - light.to_display(shades, torch.uint8).int()).abs().max() <= 1


OPERATIONS = {
    "gaussian 0.3": lambda image: blur.gaussian(image, 0.3),
    "gaussian 2": lambda image: blur.gaussian(image, 2.0),
    "gaussian 3": lambda image: blur.gaussian(image, 3.0),
    "gaussian 13": lambda image: blur.gaussian(image, 13.0),
    "disk 1": lambda image: blur.defocus(image, 1.1, linear=True),
    "disk 2": lambda image: blur.defocus(image, 2.0),
    "disk 7": lambda image: blur.defocus(image, 7.4, linear=True),
    "line": lambda image: blur.motion(image, 17.0, 70.0, linear=True),
    "one-sided line": lambda image: blur.convolve(image, blur.imagenet_c_line(8, 5, 30.0)),
    "zoom": lambda image: resample.zoom(image, 1.15, linear=True),
    "glass": lambda image: resample.glass(image, 5.0, 1.2, 2.0, degradations.Key(0, "a", "b")),
    "cells": lambda image: resample.low_resolution(image, 0.37, smooth=True),
    "blocks": lambda image: resample.low_resolution(image, 0.37, smooth=False),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", [(3, 60, 83), (1, 64, 64), (5, 31, 20), (3, 9, 1), (1, 1, 7)])
def test_the_fast_path_agrees_with_the_plain_one(
    operation: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    run = OPERATIONS[operation]
    draw = torch.Generator().manual_seed(1)
    levels_in = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
    display = levels_in / 255
    strided = levels_in.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    fast, exact = run(levels_in), run(display)
    assert fast.dtype == torch.uint8
    assert torch.equal(run(strided), fast)
    assert (fast - exact * 255).abs().max() < 0.6
    if operation.startswith("gaussian"):
        monkeypatch.setattr(blur, "is_cpu", lambda image: False)
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    plain = run(levels_in)
    assert (plain.int() - fast.int()).abs().max() <= 1
    assert (run(display) - exact).abs().max() * 255 < 0.4


@pytest.mark.parametrize("size", [1, 2, 97, 256, 373, 1021])
def test_transform_lengths_are_even_and_have_small_factors(size: int) -> None:
    length = fast_length(size)
    assert size <= length <= 1.15 * size + 3
    assert length % 2 == 0
    assert pow(30, 30, length) == 0


@pytest.mark.parametrize("sigma", [2.8, 4.0, 5.6, 13.0])
@pytest.mark.parametrize("shape", [(1, 64, 96), (3, 63, 51), (1, 7, 5), (1, 1, 1)])
def test_compiled_wide_gaussians_of_levels_are_those_of_opencv_and_of_fourier(
    shape: tuple[int, int, int], sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    compiled = blur.gaussian(levels, sigma)
    beside = levels.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(blur.gaussian(beside, sigma), compiled)
    fourier = blur._gaussian_by_fourier(levels, sigma)
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    for other in (blur.gaussian(levels, sigma), fourier):
        assert int((other.int() - compiled.int()).abs().max()) <= 1
