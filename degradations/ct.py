"""Degradations of computed tomography, on Hounsfield units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor


def _scan_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = dict(parameters)
    assumed = numbers.pop("assumed_spacing_mm")
    row_mm, column_mm = spacing_mm or (assumed, assumed)
    return numbers | {"row_mm": row_mm, "column_mm": column_mm}


@register("ct/low_dose", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def low_dose(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Few photons: quantum and electronic noise in the projections, reconstructed."""
    from degradations.operators import tomography

    geometry = tomography.Geometry(
        height=image.shape[-2],
        width=image.shape[-1],
        row_mm=numbers["row_mm"],
        column_mm=numbers["column_mm"],
        views=int(numbers["views"]),
    )
    return tomography.low_dose(image, geometry, numbers["photons"], numbers["electronic"], key)
