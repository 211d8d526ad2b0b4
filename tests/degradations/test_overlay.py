"""Text, labels, stops and dead detector parts: what they cover, and that nothing else changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import degradations
from degradations import kernels
from degradations.keys import Key
from degradations.operators import overlay

#: Those that leave the pixels beside them alone.
SPARSE = ("characters", "label", "dead_pixels", "dead_lines", "black_corner")
OVERLAYS = (*SPARSE, "vignette")


def degrade(pixels: Tensor, spec: str, image_id: str = "a", seed: int = 0) -> Tensor:
    ids = [image_id] * len(pixels)
    return degradations.apply(pixels, f"general/{spec}", domain="display", ids=ids, seed=seed)


def gray(size: tuple[int, int] = (256, 256), channels: int = 1) -> Tensor:
    return torch.full((1, channels, *size), 128, dtype=torch.uint8)


def colour(size: tuple[int, int] = (256, 256)) -> Tensor:
    """Between 90 and 160, so that neither black nor white is in it."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(90, 160, (1, 3, *size), dtype=torch.uint8, generator=generator)


def covered(spec: str, image_id: str = "a", size: tuple[int, int] = (256, 256)) -> np.ndarray:
    # No overlay has the level of the ground: a label has everything between paper and print.
    clean = gray(size) * 0 if spec.startswith("label") else gray(size)
    return degradations.touched(clean, degrade(clean, spec, image_id))[0, 0].numpy()


@pytest.mark.parametrize("name", OVERLAYS)
def test_anatomy_stays_where_it_is(name: str) -> None:
    assert not degradations.get(f"general/{name}").geometric


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("eight_bit", [True, False])
def test_pixels_beside_an_overlay_keep_their_bits(name: str, eight_bit: bool) -> None:
    clean = colour() if eight_bit else colour().float() / 255
    for severity in (0.4, 2, 5):
        bad = degrade(clean, f"{name}:{severity}")
        beside = ~torch.from_numpy(covered(f"{name}:{severity}"))
        assert 0 < beside.float().mean() < 1
        # Where the overlay on a flat picture is fainter than half a level, it may tint.
        near = torch.from_numpy(ndimage.binary_dilation(~beside.numpy(), iterations=1))
        assert torch.equal(bad[0][:, ~near], clean[0][:, ~near])


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("image_id", ["a", "b", "c"])
def test_a_higher_severity_covers_all_that_a_lower_one_does(name: str, image_id: str) -> None:
    before = np.zeros((200, 256), dtype=bool)
    for severity in (0.5, 1, 1.5, 2, 3, 4, 5):
        mask = covered(f"{name}:{severity}", image_id, (200, 256))
        # Rounded corners of a label are rastered anew at each size.
        missing = before & ~mask
        assert missing.sum() <= (2 if name == "label" else 0)
        assert mask.sum() > before.sum()
        before = mask


# --- characters


def test_text_is_strokes_of_one_height_inside_the_picture() -> None:
    """One sign of seven rows at 7 pixels: its dots are pixels, black or white, nothing between."""
    clean = gray((64, 64))
    bad = overlay.characters(clean[0], 1.0, 7.0, 6, Key(0, "a", "general/characters"))
    mask = (bad != clean[0])[0].numpy()
    rows, columns = np.nonzero(mask)
    assert np.ptp(rows) + 1 == 7
    assert np.ptp(columns) + 1 <= 5
    assert set(np.unique(bad.numpy())) <= {0, 128, 255}


def test_signs_are_scaled_by_area() -> None:
    for height in (7.0, 14.0, 10.3, 3.5):
        for index in range(len(overlay._SIGNS)):
            small, exact = overlay._sign(index, height), overlay._sign(index, 7.0)
            area = small.astype(float).sum() / 255 / height**2
            assert area == pytest.approx(exact.astype(float).sum() / 255 / 49, rel=0.02)
    assert np.array_equal(
        overlay._sign(3, 14.0), np.kron(overlay._sign(3, 7.0), np.ones((2, 2), dtype=np.uint8))
    )


def test_signs_all_differ_and_spell_no_words() -> None:
    assert len(set(overlay._SIGNS.values())) == len(overlay._SIGNS)
    assert not set(overlay._SIGNS) & set("AEIOUY")


def test_the_area_of_text_follows_the_number_of_signs() -> None:
    """Signs at severity s cover s's count times the area of an average sign."""
    mean_sign = np.mean([overlay._sign(k, 7.0).sum() / 255 for k in range(len(overlay._SIGNS))])
    for severity, count in ((1, 5), (3, 22), (5, 50)):
        shares = []
        for n in range(12):
            bad = degrade(gray((448, 448)), f"characters:{severity}", str(n)).float()
            # Full ink is 127 or 128 levels away from the ground.
            shares.append(float(((bad - 128).abs() / 127.5).sum()))
        expected = count * mean_sign / 49 * (0.06 * 448) ** 2
        assert np.mean(shares) == pytest.approx(expected, rel=0.1)


def test_text_contrasts_with_its_ground() -> None:
    dark, bright = gray() // 8, 255 - gray() // 8
    assert degrade(dark, "characters:3").max() == 255
    assert degrade(bright, "characters:3").min() == 0
    for clean in (colour() // 6, 255 - colour() // 6):
        bad = degrade(clean, "characters:3")
        changed = degradations.touched(clean, bad, threshold=60)
        assert changed.float().mean() > 0.02


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (300, 9), (1, 9)])
def test_text_fits_any_picture(size: tuple[int, int]) -> None:
    bad = degrade(gray(size), "characters:5")
    assert bad.shape == (1, 1, *size)


# --- label


@pytest.mark.parametrize("size", [(256, 256), (180, 400), (400, 180)])
@pytest.mark.parametrize(
    ("severity", "area"), [(1, 0.02), (2, 0.05), (3, 0.09), (4, 0.14), (5, 0.2)]
)
def test_a_label_covers_the_stated_area_at_a_border(
    severity: int, area: float, size: tuple[int, int]
) -> None:
    sides = set()
    for n in range(10):
        mask = covered(f"label:{severity}", str(n), size)
        assert mask.mean() == pytest.approx(area, rel=0.06)
        edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
        meeting = [edge.any() for edge in edges]
        assert any(meeting)
        sides.add(meeting.index(True))
        assert ndimage.label(mask)[1] == 1
        assert not ndimage.binary_fill_holes(mask)[~mask].any()
    assert len(sides) > 1


def test_a_label_is_opaque_and_has_print_on_it() -> None:
    dark, bright = degrade(gray() // 9, "label:5"), degrade(255 - gray() // 9, "label:5")
    inside = ndimage.binary_erosion(covered("label:5"), iterations=3)
    assert torch.equal(dark[0, 0][inside], bright[0, 0][inside])
    values = dark[0, 0][inside]
    assert 0.03 < float((values < 80).float().mean()) < 0.5
    assert float((values > 200).float().mean()) > 0.4


# --- dead detector parts


def test_dead_pixels_are_the_stated_fraction_black_or_white_at_uniform_places() -> None:
    counts = np.zeros((4, 4))
    states = []
    for n in range(20):
        bad = degrade(gray(), "dead_pixels:4", str(n))[0, 0].numpy()
        dead = bad != 128
        assert dead.sum() == round(0.03 * 256 * 256)
        assert set(np.unique(bad)) == {0, 128, 255}
        states.append((bad[dead] == 255).mean())
        counts += dead.reshape(4, 64, 4, 64).sum(axis=(1, 3))
    total = counts.sum()
    assert abs(np.mean(states) - 0.5) < 4 * 0.5 / math.sqrt(total)
    # Chi-squared with 15 degrees of freedom: 99.9 % lie below 37.7.
    assert ((counts - total / 16) ** 2 / (total / 16)).sum() < 37.7


@pytest.mark.parametrize("name", ["dead_pixels", "dead_lines"])
def test_defects_look_the_same_at_any_resolution(name: str) -> None:
    """The detector has 256 elements along the longer side; more pixels show it more finely."""
    small, large = degrade(gray(), f"{name}:3"), degrade(gray((512, 512)), f"{name}:3")
    enlarged = small.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    assert torch.equal(large, enlarged)


def test_dead_lines_are_whole_rows_and_columns() -> None:
    clean = gray((160, 256))
    for n in range(5):
        bad = degrade(clean, "dead_lines:5", str(n))[0, 0].numpy()
        dead = bad != 128
        rows, columns = dead.all(axis=1), dead.all(axis=0)
        assert np.array_equal(dead, rows[:, None] | columns[None])
        assert rows.any()
        assert columns.any()
        # 0.11 of 416 lines, less those drawn twice.
        assert 0.11 * 416 * 0.8 < rows.sum() + columns.sum() <= math.ceil(0.11 * 416)


# --- stop and vignette


@pytest.mark.parametrize("size", [(256, 256), (180, 320)])
def test_a_field_stop_is_a_black_surround_of_the_stated_radius(size: tuple[int, int]) -> None:
    bad = degrade(gray(size), "black_corner:4")[0, 0].numpy()
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(x - (size[1] - 1) / 2, y - (size[0] - 1) / 2)
    radius, edge = 0.46 * math.hypot(*size) / 2, 0.01 * max(size)
    assert (bad[distance > radius + edge / 2] == 0).all()
    assert (bad[distance < radius - edge / 2] == 128).all()
    between = (distance > radius - edge / 2) & (distance < radius + edge / 2)
    half = bad[between & (np.abs(distance - radius) < 0.05 * edge)].astype(float)
    assert half.mean() == pytest.approx(64, abs=8)


@pytest.mark.parametrize("eight_bit", [True, False])
def test_vignetting_is_cos4_of_the_angle_in_linear_light(eight_bit: bool) -> None:
    clean = colour((120, 160))
    clean = clean if eight_bit else clean.float() / 255
    bad = degrade(clean, "vignette:4")
    scale = 255.0 if eight_bit else 1.0

    def light(picture: Tensor) -> np.ndarray:
        v = picture[0].double().numpy() / scale
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)

    y, x = np.mgrid[:120, :160]
    reach = np.hypot(x - 79.5, y - 59.5) / np.hypot(80, 60)
    # At the corner, cos^4 of the angle leaves 1 - 0.84 of the light.
    widest = math.acos((1 - 0.84) ** 0.25)
    gain = np.cos(np.arctan(reach * math.tan(widest))) ** 4
    coded = light(clean) * gain
    expected = np.where(coded <= 0.0031308, coded * 12.92, 1.055 * coded ** (1 / 2.4) - 0.055)
    off = np.abs(bad[0].double().numpy() / scale - expected) * 255
    assert off.max() < (0.51 if eight_bit else 1e-3)


def test_gray_pictures_are_vignetted_as_they_are() -> None:
    bad = degrade(gray().float() / 255, "vignette:2")[0, 0]
    corner = 1 - float(bad[0, 0]) / (128 / 255)
    assert corner == pytest.approx(0.5, abs=0.01)
    assert float(bad[127, 127]) == pytest.approx(128 / 255, abs=1e-4)


@pytest.mark.parametrize("name", ["black_corner", "vignette"])
def test_compiled_and_tensor_shading_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    generator = torch.Generator().manual_seed(1)
    for channels in (1, 2, 3, 5):
        clean = torch.randint(0, 256, (1, channels, 64, 90), dtype=torch.uint8, generator=generator)
        fast = degrade(clean, f"{name}:5")
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "compiled", lambda: False)
            plain = degrade(clean, f"{name}:5")
        assert int((fast.int() - plain.int()).abs().max()) <= (name == "vignette")
