"""Stain degradation acts on the amounts of the two dyes and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import degradations
from degradations.operators import stain


def restain(pixels: Tensor, severity: float = 3, image_id: str = "a") -> Tensor:
    return degradations.apply(
        pixels[None], f"pathology/stain:{severity}", domain="display", ids=[image_id], seed=0
    )[0]


def numbers(severity: float, image_id: str) -> dict[str, float]:
    return degradations.explain(f"pathology/stain:{severity}", (3, 8, 8), id=image_id)[0]["numbers"]


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
        told = numbers(1, image_id)
        weight = 1 - torch.exp(-amounts.sum(dim=0) / told["tissue_density"])
        found = stain.concentrations(restain(picture, 1, image_id))
        for row, dye in enumerate(("haematoxylin", "eosin")):
            expected = told[f"{dye}_scale"] * amounts[row] + told[f"{dye}_shift"] * weight
            # Where the light would exceed white it is clamped, and no amount can be read.
            unclamped = restain(picture, 1, image_id).amax(dim=0) < 1
            error = (found[row] - expected)[unclamped]
            assert error.abs().max() < 2e-4


def test_the_remainder_of_the_optical_density_is_kept(pictures: dict[str, Tensor]) -> None:
    """OD(out) - OD(in) lies in the plane of the two stain vectors."""
    picture = pictures["histology"].clamp(min=0.02)
    out = restain(picture, 2)
    change = torch.log10(picture) - torch.log10(out)
    normal = stain.basis()[2].float()
    kept = torch.einsum("dhw,d->hw", change, normal)[out.amax(dim=0) < 1]
    assert kept.numel() > 0.5 * picture[0].numel()
    assert kept.abs().max() < 1e-4


def test_which_stain_suffers_depends_on_the_image_but_by_how_much_does_not() -> None:
    told = [numbers(4, str(image_id)) for image_id in range(40)]
    assert len({n["haematoxylin_scale"] for n in told}) == 40
    for n in told:
        mean_scale = (n["haematoxylin_scale"] + n["eosin_scale"]) / 2
        assert mean_scale == pytest.approx(1 - 0.70)
        assert abs(n["haematoxylin_shift"]) == pytest.approx(0.14)
        assert n["eosin_shift"] == -n["haematoxylin_shift"]
    assert {n["eosin_shift"] > 0 for n in told} == {True, False}


def test_every_pixel_moves_further_with_every_level(tissue: tuple[Tensor, Tensor]) -> None:
    picture = tissue[1]
    for image_id in "abcd":
        moved = torch.stack([(restain(picture, s, image_id) - picture).abs() for s in range(1, 6)])
        assert (moved.diff(dim=0) >= -1e-6).all()
