"""Dyes, cells, dust and ink absorb by Beer-Lambert; glass, folds and scanners do what they do."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import degradations
from degradations import Key, kernels, scenes
from degradations.operators import slide, stain

KEY = Key(0, "a", "pathology/test")


def restain(pixels: Tensor, severity: float = 3, image_id: str = "a") -> Tensor:
    return degradations.apply(
        pixels[None], f"pathology/stain:{severity}", domain="display", ids=[image_id], seed=0
    )[0]


def numbers(severity: float, image_id: str) -> dict[str, float]:
    return told("stain", severity, 8, image_id)


def worsen(name: str, pixels: Tensor, severity: float, image_id: str = "a") -> Tensor:
    bad: Tensor
    (bad,) = degradations.apply(
        pixels[None], f"pathology/{name}:{severity}", domain="display", ids=[image_id], seed=0
    )
    return bad


def told(name: str, severity: float, size: int, image_id: str = "a") -> dict[str, float]:
    spec = f"pathology/{name}:{severity}"
    found: dict[str, float] = degradations.explain(spec, (3, size, size), id=image_id)[0]["numbers"]
    return found


def density(pixels: Tensor) -> Tensor:
    return -torch.log10(pixels.double())


def tinted(size: int = 64) -> Tensor:
    """Tissue of smooth optical densities between 0.05 and 0.4, different in every channel."""
    place = torch.arange(size) / size
    wave = torch.stack([torch.sin(3 * place[:, None] + phase + 4 * place) for phase in range(3)])
    return 10 ** -(0.225 + 0.175 * wave)


# --- stain


def test_the_basis_is_of_unit_vectors_with_the_remainder_normal_to_both_stains() -> None:
    basis = stain.basis()
    gram = basis @ basis.T
    assert torch.allclose(gram.diagonal(), torch.ones(3, dtype=torch.float64))
    assert gram[2, :2].abs().max() < 1e-12


def test_stain_amounts_are_recovered_from_transmitted_light(tissue: tuple[Tensor, Tensor]) -> None:
    amounts, picture = tissue
    found = stain.concentrations(picture)
    assert torch.allclose(found[:2], amounts, atol=1e-5)
    assert found[2].abs().max() < 1e-5


def test_white_stays_white() -> None:
    white = torch.ones(3, 16, 16)
    for image_id in "abcdef":
        assert torch.equal(restain(white, 5, image_id), white)


def test_black_stays_black() -> None:
    assert restain(torch.zeros(3, 8, 8), 5).max() == 0


def test_amounts_are_scaled_and_shifted_as_explained(tissue: tuple[Tensor, Tensor]) -> None:
    amounts, picture = tissue
    for image_id in "abcd":
        drawn = numbers(1, image_id)
        weight = 1 - torch.exp(-amounts.sum(dim=0) / drawn["tissue_density"])
        found = stain.concentrations(restain(picture, 1, image_id))
        for row, dye in enumerate(("haematoxylin", "eosin")):
            expected = drawn[f"{dye}_scale"] * amounts[row] + drawn[f"{dye}_shift"] * weight
            # Where the light would exceed white it is clamped, and no amount can be read.
            unclamped = restain(picture, 1, image_id).amax(dim=0) < 1
            error = (found[row] - expected)[unclamped]
            assert error.abs().max() < 2e-4


def test_the_remainder_of_the_optical_density_is_kept(pictures: dict[str, Tensor]) -> None:
    """OD(out) - OD(in) lies in the plane of the two stain vectors."""
    picture = pictures["histology"].clamp(min=0.02)
    out = restain(picture, 0.5)
    change = torch.log10(picture) - torch.log10(out)
    normal = stain.basis()[2].float()
    kept = torch.einsum("dhw,d->hw", change, normal)[out.amax(dim=0) < 1]
    assert kept.numel() > 0.5 * picture[0].numel()
    assert kept.abs().max() < 1e-4


def test_which_stain_suffers_depends_on_the_image_but_by_how_much_does_not() -> None:
    drawn = [numbers(4, str(image_id)) for image_id in range(40)]
    fade = degradations.get("pathology/stain").parameters(4)["fade"]
    assert len({n["haematoxylin_scale"] for n in drawn}) == 40
    for n in drawn:
        mean_scale = (n["haematoxylin_scale"] + n["eosin_scale"]) / 2
        assert mean_scale == pytest.approx(1 - fade)
        assert abs(n["haematoxylin_shift"]) == pytest.approx(0.2 * fade)
        assert n["eosin_shift"] == -n["haematoxylin_shift"]
    assert {n["eosin_shift"] > 0 for n in drawn} == {True, False}


def test_every_pixel_moves_further_with_every_level(tissue: tuple[Tensor, Tensor]) -> None:
    picture = tissue[1]
    for image_id in "abcd":
        moved = torch.stack([(restain(picture, s, image_id) - picture).abs() for s in range(1, 6)])
        assert (moved.diff(dim=0) >= -1e-6).all()


def test_eight_bit_stain_is_the_float_one_rounded_on_every_level() -> None:
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (3, 128, 128), generator=draw, dtype=torch.uint8)
    for name in ("stain", "stain_separation"):
        for severity in (1, 5):
            exact = worsen(name, levels.float() / 255, severity).double() * 255
            error = worsen(name, levels, severity).double() - exact
            assert error.abs().max() < 0.8
            assert error.mean().abs() < 0.02


def test_eight_bit_stain_without_compiled_loops_is_the_same_to_a_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not kernels.compiled():
        pytest.fail("numba is not installed, and both paths must be compared: make install")
    draw = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (3, 64, 64), generator=draw, dtype=torch.uint8)
    for name in ("stain", "stain_separation"):
        fast = worsen(name, levels, 2).int()
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "compiled", lambda: False)
            plain = worsen(name, levels, 2).int()
        assert (fast - plain).abs().max() <= 1


def test_separation_turns_each_dye_by_the_angle_told_and_keeps_its_amount() -> None:
    amount = torch.linspace(0.05, 0.35, 16).expand(16, 16)
    vectors = stain.basis()[:2]
    drawn = told("stain_separation", 3, 16)
    found = []
    for vector, angle in zip(vectors, (drawn["haematoxylin_deg"], drawn["eosin_deg"]), strict=True):
        pure = 10 ** -(amount * vector.float()[:, None, None])
        turned = density(worsen("stain_separation", pure, 3)) / amount
        # The same unit vector at every amount: change is in proportion to the stain.
        assert turned.std(dim=(1, 2)).max() < 1e-4
        mean = turned.mean(dim=(1, 2))
        assert float(mean.norm()) == pytest.approx(1.0, abs=1e-4)
        assert math.degrees(math.acos(float(mean @ vector))) == pytest.approx(angle, abs=0.05)
        assert abs(float(mean @ stain.basis()[2])) < 1e-4
        found.append(mean)
    closed = stain.ANGLE_DEG - math.degrees(math.acos(float(found[0] @ found[1])))
    total = degradations.get("pathology/stain_separation").parameters(3)["angle_deg"]
    assert closed == pytest.approx(total, abs=0.05)


@pytest.mark.parametrize("name", ["stain_separation", "thickness", "fold", "knife_marks"])
def test_clear_glass_stays_white(name: str) -> None:
    white = torch.ones(3, 32, 32)
    assert (worsen(name, white, 5) - white).abs().max() < 1e-6


def test_a_section_of_another_thickness_has_all_densities_in_one_proportion() -> None:
    factors = set()
    for image_id in "abcdefgh":
        ratio = density(worsen("thickness", tinted(), 2, image_id)) / density(tinted())
        factor = told("thickness", 2, 64, image_id)["density_factor"]
        assert (ratio - factor).abs().max() < 1e-3
        factors.add(round(factor, 6))
    thicker, thinner = max(factors), min(factors)
    assert thicker * thinner == pytest.approx(1.0, abs=1e-5)


# --- the section


def test_distances_from_a_curved_line_are_distances() -> None:
    for image_id in "abcd":
        line = slide._line(torch.ones(1, 96, 128), Key(0, image_id, "x"), "fold")
        down, right = torch.gradient(line.away)
        assert ((down**2 + right**2).sqrt()[1:-1, 1:-1] - 1).abs().max() < 2e-3
        assert (right - line.x)[1:-1, 1:-1].abs().max() < 2e-3
        assert (down - line.y)[1:-1, 1:-1].abs().max() < 2e-3


def test_a_fold_adds_the_density_of_the_tissue_mirrored_at_its_line() -> None:
    """Density that falls with the distance from the line: the two layers make it constant."""
    away = slide._line(torch.ones(1, 128, 128), KEY, "fold").away
    picture = (10 ** -(0.5 + away / 1000))[None]
    folded = density(slide.fold(picture, 14.0, KEY))[0]
    inside = (away > 1) & (away < 13)
    outside = (away < -1) | (away > 15)
    at_border = torch.ones(128, 128, dtype=torch.bool)
    at_border[16:-16, 16:-16] = False  # there the mirrored place is outside the picture
    assert inside.sum() > 200
    assert (folded[inside & ~at_border] - 1.0).abs().max() < 1e-4
    assert torch.equal(folded[outside], density(picture)[0][outside])


def test_a_wider_fold_keeps_what_a_narrower_one_covers() -> None:
    picture = torch.full((1, 96, 96), 0.7)
    covers = [degradations.touched(picture[None], worsen("fold", picture, s)[None]) for s in
              (0.5, 1, 2, 3, 5)]  # fmt: skip
    for less, more in itertools.pairwise(covers):
        assert more[less].all()
        assert more.sum() > less.sum()


def test_scratches_leave_glass_in_parallel_lines_and_nothing_else() -> None:
    picture = tinted(128)
    count, width = 4.0, 2.0
    bad = slide.knife_marks(picture, count, width, KEY)
    share = 1 - density(bad) / density(picture)
    assert float(share.min()) > -1e-5
    assert float(share.max()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(bad[:, share.amax(0) < 1e-7], picture[:, share.amax(0) < 1e-7])
    assert float((share > 0.01).double().mean()) < 2 * count * (width + 1) / 128


# --- on and under the coverslip


def test_specks_are_equally_dense_in_all_channels_and_add_up() -> None:
    picture = tinted(128)
    added = density(slide.dark_spots(picture, 9.0, (2.0, 6.0), 1.2, KEY)) - density(picture)
    assert (added - added[:1]).abs().max() < 1e-4
    assert added.min() > -1e-5
    alone = density(slide.dark_spots(torch.ones(3, 128, 128), 9.0, (2.0, 6.0), 1.2, KEY))
    assert (added - alone).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["dark_spots", "blood_cells"])
def test_more_specks_and_cells_keep_the_former_ones(name: str) -> None:
    picture = torch.ones(3, 96, 96)
    series = [density(worsen(name, picture, s).clamp(min=1e-6)) for s in (0.7, 1, 1.4, 2, 3, 5)]
    for less, more in itertools.pairwise(series):
        assert (more - less).min() > -1e-5
        assert more.sum() > less.sum()


def test_blood_cells_add_eosin_and_nothing_else() -> None:
    picture = tinted(128)
    added = density(slide.blood_cells(picture, 20.0, 5.0, 0.6, KEY)) - density(picture)
    amount = torch.einsum("dhw,d->hw", added, stain.basis()[1])
    assert (added - amount * stain.basis()[1][:, None, None]).abs().max() < 1e-4
    assert float(amount.max()) > 0.5


def test_a_blood_cell_is_a_disk_of_seven_and_a_half_micrometres_with_a_pale_middle() -> None:
    numbers = degradations.explain("pathology/blood_cells:1", (3, 64, 64), (0.00025, 0.00025),
                                   id="a")[0]["numbers"]  # fmt: skip
    assert numbers["radius_px"] == pytest.approx(15.0)
    for image_id in "abcdefgh":
        alone = density(slide.blood_cells(torch.ones(3, 256, 256), 1.0, 15.0, 0.6,
                                          Key(0, image_id, "x")))[1]  # fmt: skip
        cover = alone > 0.05
        rows, columns = torch.nonzero(cover, as_tuple=True)
        if min(rows.min(), columns.min()) < 1 or max(rows.max(), columns.max()) > 254:
            continue  # cut by the border
        area = math.pi * 15.0**2
        assert 0.6 * area < float(cover.sum()) < 1.3 * area
        middle = alone[rows.float().mean().round().long(), columns.float().mean().round().long()]
        assert 0.4 < float(middle / alone.max()) < 0.7
        return
    pytest.fail("no cell lies inside the picture")


def test_a_bubble_veils_its_inside_and_darkens_its_rim() -> None:
    picture = torch.full((1, 200, 200), 0.4)
    spot = next(slide._spots((200, 200), 1.0, (30.0, 30.0), KEY))
    bad = slide.bubbles(picture, 1.0, (30.0, 30.0), 0.25, 0.7, KEY)[0]
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    distance = ((x - spot.x) ** 2 + (y - spot.y) ** 2).sqrt() / 30.0
    inside = bad[distance < 0.7]
    assert (inside - (0.75 * 0.4 + 0.25)).abs().max() < 1e-3
    assert (bad[distance > 1.35] - 0.4).abs().max() < 1e-6
    ring = bad[(distance - 1).abs() < 0.02]
    assert float(ring.max()) < 0.45 * (0.75 * 0.4 + 0.25)


def test_rays_are_bent_inwards_at_the_rim_of_a_bubble() -> None:
    """On a ramp, what is seen right of the centre comes from further left."""
    ramp = (torch.arange(200.0) / 400 + 0.2).expand(1, 200, 200)
    spot = next(slide._spots((200, 200), 1.0, (40.0, 40.0), KEY))
    bad = slide.bubbles(ramp, 1.0, (40.0, 40.0), 0.0, 1e-6, KEY)[0]
    row = round(spot.y)
    for offset in (-30, -15, 15, 30):
        column = round(spot.x + offset)
        if not 0 <= row < 200 or not 0 <= column < 200:
            continue
        pull = float(ramp[0, row, column] - bad[row, column]) * 400
        at = column - spot.x
        assert pull == pytest.approx(0.35 * (at / 40) ** 2 * at, abs=0.1)


def test_marker_ink_adds_one_ink_whatever_lies_below() -> None:
    seen = set()
    for image_id in map(str, range(12)):
        key = Key(0, image_id, "pathology/marker_ink")
        on_glass = density(slide.marker_ink(torch.ones(3, 64, 64), 1.0, 12.0, 0.8, key,
                                            black=False))  # fmt: skip
        on_tissue = density(slide.marker_ink(tinted(), 1.0, 12.0, 0.8, key, black=False))
        assert (on_tissue - density(tinted()) - on_glass).abs().max() < 1e-4
        fits = []
        for ink in slide.INKS:
            colour = torch.tensor(ink, dtype=torch.float64)
            amount = torch.einsum("dhw,d->hw", on_glass, colour) / colour.square().sum()
            fits.append(float((on_glass - amount * colour[:, None, None]).abs().max()))
        assert min(fits) < 1e-4
        seen.add(fits.index(min(fits)))
    assert seen == {0, 1, 2}


# --- in the scanner


def test_tiles_of_a_scan_are_displaced_and_shaded_as_wholes() -> None:
    ramp = (torch.arange(128.0) / 256 + 0.25).expand(1, 128, 128)
    moved = (slide.stitching(ramp, 3.0, 0.0, 3.5, KEY) - ramp)[0, :, 6:-6] * 256
    assert moved.abs().max() <= 3.001
    distinct = torch.unique((moved * 100).round())
    assert 4 <= len(distinct) <= 20
    flat = torch.full((1, 128, 128), 0.6)
    gains = slide.stitching(flat, 3.0, 0.1, 3.5, KEY) / flat
    assert gains.max() <= 1
    assert gains.min() >= 0.9
    assert 9 <= len(torch.unique((gains * 1e5).round())) <= 25


def test_white_balance_sets_red_over_blue_in_linear_light_and_keeps_the_brightest() -> None:
    for image_id in "abcd":
        glass = worsen("white_balance", torch.ones(3, 4, 4), 3, image_id)[:, 0, 0].double()
        assert float(glass.max()) == pytest.approx(1.0, abs=1e-5)
        light = ((glass + 0.055) / 1.055) ** 2.4
        stops = told("white_balance", 3, 4, image_id)["red_over_blue_stops"]
        assert math.log2(float(light[0] / light[2])) == pytest.approx(stops, abs=1e-3)


def test_a_whole_tile_is_what_pillow_makes_of_it() -> None:
    picture = scenes.draw("pathology", 256)
    side, quality = 80, 20
    top, left = (int(KEY.uniform(axis) * side) for axis in ("rows", "columns"))
    found = slide.tiled_jpeg(picture.float() / 255, quality, side, 1.0, KEY) * 255
    rows, columns = slice(side - top, 2 * side - top), slice(side - left, 2 * side - left)
    tile = np.ascontiguousarray(picture[:, rows, columns].permute(1, 2, 0).numpy())
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "JPEG", quality=quality, subsampling=2)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()
    assert (found[:, rows, columns] - expected).abs().mean() < 0.2


def test_light_of_a_sharp_edge_out_of_focus_is_half_at_the_edge() -> None:
    edge = torch.zeros(3, 64, 64)
    edge[..., 32:] = 1.0
    edge[0] *= 0.9  # in colour
    soft = worsen("defocus", edge, 5)[1, 32].double()
    light = torch.where(soft <= 0.04045, soft / 12.92, ((soft + 0.055) / 1.055) ** 2.4)
    assert float(light[31] + light[32]) / 2 == pytest.approx(0.5, abs=0.01)
    assert float(light.mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "shares"),
    [("dark_spots", (0.116, 0.488)), ("bubble", (0.0, 0.002)), ("blood_cells", (0.0, 0.013))],
)
def test_published_levels_change_as_many_pixels_as_the_published_examples(
    name: str, shares: tuple[float, float]
) -> None:
    for level, share in enumerate(shares, 1):
        found = []
        for seed in (0, 1):
            clean = scenes.draw("pathology", 128, seed)[None]
            for image_id in "0123":
                bad = degradations.apply(
                    clean,
                    f"pathology/{name}@medq-deg:{level}",
                    domain="display",
                    ids=[image_id],
                    seed=0,
                )
                found.append(float(degradations.touched(clean, bad, threshold=64).double().mean()))
        assert sum(found) / len(found) == pytest.approx(share, abs=0.03)
