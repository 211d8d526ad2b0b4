"""Rotation, translation, crop and elastic deformation, against scenes drawn where they should be.

Coordinates here: x to the right, y downwards, pixel centres at whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

import degradations
from degradations import kernels
from degradations.keys import Key
from degradations.operators import geometry

GEOMETRIC = ("rotation", "translation", "crop", "elastic")
KEY = Key(0, "a", "general/elastic")


def degrade(pixels: Tensor, spec: str, image_id: str = "a", seed: int = 0) -> Tensor:
    ids = [image_id] * len(pixels)
    return degradations.apply(pixels, f"general/{spec}", domain="display", ids=ids, seed=seed)


def blobs(size: tuple[int, int], places: list[tuple[float, float]], width: float = 4.0) -> Tensor:
    """Gaussian spots about (x, y) places."""
    y, x = np.mgrid[: size[0], : size[1]]
    spots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width**2)) for px, py in places]
    return torch.from_numpy(np.sum(spots, axis=0).astype(np.float32))[None]


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(params=["compiled", "tensor"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    if request.param == "tensor":
        monkeypatch.setattr(kernels, "compiled", lambda: False)
    return str(request.param)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_what_moves_anatomy_says_so(name: str) -> None:
    assert degradations.get(f"general/{name}").geometric


# --- rotation


@pytest.mark.parametrize("angle", [-27.0, 5.0, 18.0, 140.0])
def test_a_rotated_scene_is_the_scene_drawn_rotated(angle: float, path: str) -> None:
    """Counter-clockwise on the screen: y points down, so a point right of the centre rises."""
    size = (97, 120)
    middle_x, middle_y = (size[1] - 1) / 2, (size[0] - 1) / 2
    places = [(middle_x + 25.0, middle_y), (middle_x - 7.0, middle_y + 18.0)]
    turn = math.radians(angle)
    turned = [
        (
            middle_x + (x - middle_x) * math.cos(turn) + (y - middle_y) * math.sin(turn),
            middle_y - (x - middle_x) * math.sin(turn) + (y - middle_y) * math.cos(turn),
        )
        for x, y in places
    ]
    found = geometry.rotate(blobs(size, places), angle)
    # Bilinear resampling takes at most f''/4 = 1 / (4 width^2) off the top of a spot.
    assert float((found - blobs(size, turned)).abs().max()) < 1 / (4 * 4.0**2)


def test_rotation_is_rigid_in_millimetres() -> None:
    """Pixels twice as high as wide: 20 mm to the right become 20 mm up, which is 10 rows."""
    found = geometry.rotate(blobs((101, 101), [(70.0, 50.0)]), 90.0, pixel_aspect=2.0)
    row, column = divmod(int(found.argmax()), 101)
    assert (row, column) == (40, 50)
    told = degradations.explain("general/rotation:2", (1, 64, 64), (2.0, 1.0), id="a")
    assert told[0]["numbers"]["pixel_aspect"] == 2.0


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("side", [16, 33])
def test_quarter_turns_are_exact(turns: int, side: int, path: str) -> None:
    for picture in (noise(3, side, side), noise(1, side, side), noise(3, side, side).float() / 255):
        expected = torch.rot90(picture, turns, dims=(1, 2))
        assert torch.equal(geometry.rotate(picture, 90.0 * turns), expected)


def test_rotation_agrees_with_scipy() -> None:
    """Both bilinear with zeros outside; ours rounds positions to 1/64 pixel."""
    picture = ndimage.gaussian_filter(noise(80, 64).numpy().astype(float), 1.5)
    turn = math.radians(13.0)
    matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    middle = (np.array(picture.shape) - 1) / 2
    peer = ndimage.affine_transform(
        picture, matrix, middle - matrix @ middle, order=1, mode="grid-constant"
    )
    found = geometry.rotate(torch.from_numpy(picture.astype(np.float32))[None], 13.0)[0]
    steepest = max(float(np.abs(np.diff(picture, axis=axis)).max()) for axis in (0, 1))
    inside = np.s_[2:-2, 2:-2]
    off = np.abs(found.numpy() - peer)
    # At the black border the picture itself is the step.
    assert off[inside].max() < 2 * max(steepest, picture.max()) / 128
    assert np.median(off) < 2 * steepest / 128


def test_the_angle_grows_with_severity_and_its_side_is_drawn_per_image() -> None:
    def angle(severity: float, image_id: str) -> float:
        told = degradations.explain(f"general/rotation:{severity}", (1, 64, 64), id=image_id)
        return float(told[0]["numbers"]["angle_deg"])

    for image_id in "abc":
        angles = [angle(severity, image_id) for severity in (1, 2, 3, 4, 5)]
        assert len({a > 0 for a in angles}) == 1
        assert [abs(a) for a in angles] == [3, 7, 12, 18, 27]
    left = sum(angle(1, str(n)) > 0 for n in range(1000))
    assert abs(left - 500) < 3 * math.sqrt(250)


# --- translation


@given(right=st.integers(-70, 70), down=st.integers(-50, 50))
@settings(max_examples=40, deadline=None)
def test_translation_copies_whole_pixels_and_fills_with_black(right: int, down: int) -> None:
    picture = noise(2, 40, 60)
    found = geometry.translate(picture, right, down)
    for y in range(0, 40, 7):
        for x in range(0, 60, 7):
            inside = 0 <= y - down < 40 and 0 <= x - right < 60
            value = picture[:, y - down, x - right] if inside else torch.zeros(2)
            assert found[:, y, x].tolist() == value.tolist()


def test_translation_is_as_far_as_stated_in_all_directions() -> None:
    angles = []
    for n in range(200):
        (told,) = degradations.explain("general/translation:4", (1, 1000, 700), id=str(n))
        right, down = told["numbers"]["right_px"], told["numbers"]["down_px"]
        assert math.hypot(right, down) == pytest.approx(90, abs=1)
        angles.append(math.atan2(-down, right))
    assert abs(np.exp(1j * np.array(angles)).mean()) < 3 / math.sqrt(200)


def test_a_whole_pixel_move_is_the_same_by_resampling() -> None:
    picture = noise(3, 40, 60)
    moved = geometry.affine(picture, (1.0, 0.0, -7.0), (0.0, 1.0, 3.0))
    assert torch.equal(moved, geometry.translate(picture, 7, -3))


# --- crop


def test_a_crop_shows_its_window_at_the_size_of_the_picture() -> None:
    """Pixel edges, not centres, of the window meet the edges of the picture."""
    window = (12, 20, 32, 30)
    zoom_y, zoom_x = 64 / 32, 60 / 30
    place = (31.0, 25.0)
    drawn = ((place[0] - 20 + 0.5) * zoom_x - 0.5, (place[1] - 12 + 0.5) * zoom_y - 0.5)
    found = geometry.crop(blobs((64, 60), [place], 3.0), *window)
    expected = blobs((64, 60), [drawn], 3.0 * zoom_x)
    assert float((found - expected).abs().max()) < 1 / (4 * 3.0**2)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_crop_is_what_torch_interpolates(channels: int) -> None:
    """The independent implementation that other devices use."""
    picture = noise(channels, 64, 60)
    peer = torch.nn.functional.interpolate(
        picture[None, :, 5:50, 7:47].float(), size=(64, 60), mode="bilinear", align_corners=False
    )[0]
    for laid_out in (picture, picture[None].contiguous(memory_format=torch.channels_last)[0]):
        found = geometry.crop(laid_out, 5, 7, 45, 40)
        assert float((found.float() - peer.round()).abs().max()) <= 1


@given(severity=st.floats(0.01, 5).map(lambda s: round(s, 3)), image_id=st.text(max_size=4))
@settings(max_examples=50, deadline=None)
def test_the_window_lies_in_the_picture_and_shrinks_with_severity(
    severity: float, image_id: str
) -> None:
    (told,) = degradations.explain(f"general/crop:{severity}", (1, 90, 130), id=image_id)
    n = told["numbers"]
    assert 0 <= n["top_px"] <= 90 - n["rows_px"]
    assert 0 <= n["left_px"] <= 130 - n["columns_px"]
    assert n["rows_px"] == round(90 * told["parameters"]["side"])


# --- elastic


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("size", [(256, 256), (120, 300)])
def test_an_elastic_deformation_does_not_fold(severity: int, size: tuple[int, int]) -> None:
    (told,) = degradations.explain(f"general/elastic:{severity}", (1, *size), id="a")
    n = told["numbers"]
    for seed in range(20):
        key = Key(seed, "a", "general/elastic")
        field = geometry.displacement(*size, n["amplitude_px"], int(n["cells"]), key)
        dx, dy = geometry.offsets(field)
        # Spline weights are rounded to 1/1024: an average over 4 pixels sees past that.
        step = 4
        xx, yx = (np.diff(d[::step, ::step], axis=1)[:-1] / step for d in (dx, dy))
        xy, yy = (np.diff(d[::step, ::step], axis=0)[:, :-1] / step for d in (dx, dy))
        jacobian = (1 + xx) * (1 + yy) - xy * yx
        assert jacobian.min() > 0
        assert max(np.abs(dx).max(), np.abs(dy).max()) <= n["amplitude_px"]


def test_the_strongest_elastic_level_is_below_the_bound_for_folding() -> None:
    entry = degradations.get("general/elastic")
    assert entry.parameters(5)["amplitude"] < 0.25 / entry.constants["cells"]


def test_the_displacement_is_a_cubic_spline_of_its_nodes() -> None:
    """Uniform B-spline synthesis by scipy, of the field's own nodes."""
    field = geometry.displacement(96, 96, 5.0, 6, KEY)
    place = (np.arange(96) + 0.5) / 16.0 + 1.0
    for axis in (0, 1):
        nodes = field.nodes[axis].astype(float) / 4096.0
        rows, columns = np.meshgrid(place, place, indexing="ij")
        peer = ndimage.map_coordinates(nodes, [rows, columns], order=3, prefilter=False)
        assert np.abs(geometry.offsets(field)[axis] - peer).max() < 5.0 * 8 / 1024


def test_typical_displacement_is_as_stated_and_has_no_direction() -> None:
    """Independent uniform nodes: a third of A^2, times the mean of the squared spline weights."""
    t = (np.arange(1000) + 0.5) / 1000
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3]
    )
    expected = 1 / math.sqrt(3) * float((weights**2).sum(axis=0).mean()) / 36
    moved = np.stack(
        [
            geometry.offsets(geometry.displacement(64, 64, 1.0, 6, Key(s, "a", "general/elastic")))
            for s in range(200)
        ]
    )
    assert expected == pytest.approx(0.28, abs=0.005)
    assert moved.std() == pytest.approx(expected, rel=0.03)
    assert abs(moved.mean()) < 0.01
    assert abs((moved[:, 0] * moved[:, 1]).mean()) < 0.05 * expected**2 * 3


def test_the_deformation_does_not_depend_on_resolution() -> None:
    small = geometry.offsets(geometry.displacement(128, 128, 0.04 * 128, 6, KEY))
    large = geometry.offsets(geometry.displacement(256, 256, 0.04 * 256, 6, KEY))
    averaged = large.reshape(2, 128, 2, 128, 2).mean(axis=(2, 4))
    assert np.abs(averaged / 256 - small / 128).max() < 2e-4


def test_an_elastic_deformation_shows_what_its_field_points_to(path: str) -> None:
    """Against scipy's interpolation at the same positions."""
    picture = ndimage.gaussian_filter(noise(90, 120).numpy().astype(np.float32), 2.0)
    field = geometry.displacement(90, 120, 4.8, 6, KEY)
    dx, dy = geometry.offsets(field)
    y, x = np.mgrid[:90, :120]
    peer = ndimage.map_coordinates(picture, [y + dy, x + dx], order=1, mode="nearest")
    found = geometry.elastic(torch.from_numpy(picture)[None], 4.8, 6, KEY)[0].numpy()
    steepest = max(float(np.abs(np.diff(picture, axis=axis)).max()) for axis in (0, 1))
    assert np.abs(found - peer).max() < 2 * steepest / 128 + 1e-3


def test_a_uniform_picture_stays_uniform_under_elastic_deformation(path: str) -> None:
    for value in (torch.full((3, 40, 60), 200, dtype=torch.uint8), torch.full((1, 40, 60), 0.5)):
        found = geometry.elastic(value, 2.0, 6, KEY)
        assert torch.allclose(found.float(), value.float(), atol=1e-6)


# --- both ways of computing


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 8), (31, 70)])
def test_compiled_and_tensor_code_give_the_same_bits(
    channels: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    eight_bit = noise(channels, *size)
    operations: list[Callable[[Tensor], Tensor]] = [
        lambda image: geometry.rotate(image, 23.0),
        lambda image: geometry.affine(image, (1.4, 0.1, -300.0), (0.0, 0.7, 2.3)),
        lambda image: geometry.elastic(image, 0.04 * max(size), 6, KEY),
    ]
    for image in (eight_bit, eight_bit.float() / 255):
        strided = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        for operation in operations:
            fast = operation(image)
            assert torch.equal(operation(strided), fast)
            with monkeypatch.context() as patch:
                patch.setattr(kernels, "compiled", lambda: False)
                assert torch.equal(operation(image), fast)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_every_channel_moves_alike(name: str) -> None:
    pixels = noise(1, 3, 48, 64)
    together = degrade(pixels, f"{name}:3")
    for channel in range(3):
        alone = degrade(pixels[:, channel : channel + 1], f"{name}:3")
        assert torch.equal(together[:, channel : channel + 1], alone)
