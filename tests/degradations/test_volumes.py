"""Volumes: slices degraded as pictures of their own, and what needs the depth."""

from __future__ import annotations

import pytest
import torch

import degradations
from degradations import DegradationError
from degradations.operators import resample


def test_thick_slices_average_what_lies_within_them() -> None:
    volume = torch.rand(1, 9, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample.thickened(volume, 1.0), volume)
    thick = resample.thickened(volume, 3.0)
    assert torch.allclose(thick[0, 4], volume[0, 3:6].mean(dim=0))
    half = resample.thickened(volume, 2.0)[0, 4]
    assert torch.allclose(half, (volume[0, 3] / 2 + volume[0, 4] + volume[0, 5] / 2) / 2)


@pytest.mark.parametrize("thickness", [1.5, 4.2])
def test_thick_slices_keep_what_does_not_change_with_depth(thickness: float) -> None:
    flat = torch.rand(1, 1, 6, 6).expand(1, 7, 6, 6)
    assert torch.allclose(resample.thickened(flat, thickness), flat)


def test_the_slices_of_a_volume_are_images_of_their_own() -> None:
    volume = torch.rand(2, 1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    spec = "mri/rician:2+general/motion_blur:3"
    out = degradations.apply(volume, spec, domain="display", ids=["a", "b"], seed=1)
    for row, name in enumerate("ab"):
        for number in range(3):
            alone = degradations.apply(
                volume[row : row + 1, :, number], spec,
                domain="display", ids=[f"{name}/slice{number}"], seed=1,
            )  # fmt: skip
            assert torch.equal(out[row, :, number], alone[0])


def test_a_constant_volume_gets_other_noise_in_every_slice() -> None:
    volume = torch.full((1, 1, 2, 32, 32), 0.5)
    (out,) = degradations.apply(
        volume, "general/gaussian_noise:5", domain="display", ids=["a"], seed=0
    )
    first, second = (out[0] - 0.5).flatten(1)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 4 / 32


@pytest.mark.parametrize("name", ["ct/slice_thickness", "mri/slice_thickness"])
def test_thick_slices_blur_more_with_every_level_and_keep_the_mean(name: str) -> None:
    entry = degradations.get(name)
    volume = torch.rand(1, 1, 40, 12, 12, generator=torch.Generator().manual_seed(0))
    steps = [
        degradations.apply(volume, f"{name}:{level}", domain=entry.domain, ids=["a"], seed=0)
        for level in range(6)
    ]
    assert torch.equal(steps[0], volume)
    change = [float((step - volume).square().mean()) for step in steps]
    assert change == sorted(set(change))
    # Inside, away from the ends, nothing is lost.
    assert float(steps[2][:, :, 8:-8].mean()) == pytest.approx(0.5, abs=0.01)


def test_what_needs_a_volume_is_listed_apart_and_says_so() -> None:
    assert "ct/slice_thickness" not in degradations.names()
    assert "ct/slice_thickness" in degradations.names(volumes=True)
    with pytest.raises(DegradationError, match="needs volumes"):
        degradations.apply(
            torch.zeros(1, 1, 16, 16), "ct/slice_thickness:1", domain="hu", ids=["a"], seed=0
        )


def test_spacing_of_a_volume_may_name_the_slices() -> None:
    volume = torch.zeros(1, 1, 2, 16, 16)
    how = {"domain": "hu", "ids": ["a"], "seed": 0}
    thin = degradations.apply(volume, "ct/low_dose:5", spacing_mm=(5.0, 0.7, 0.7), **how)
    same = degradations.apply(volume, "ct/low_dose:5", spacing_mm=(0.7, 0.7), **how)
    assert torch.equal(thin, same)
