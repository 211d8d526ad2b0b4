"""Degradations of stained tissue, on display RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor


def _stain_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    fade, shift = parameters["fade"], parameters["shift"]
    numbers = {"tissue_density": parameters["tissue_density"]}
    if key is None:
        return numbers | {"fade": fade, "shift": shift}
    # The image id decides which stain suffers more; severity alone decides by how much.
    imbalance = parameters["imbalance"] * (2.0 * key.uniform("fade") - 1.0)
    sign = 1.0 if key.uniform("shift") < 0.5 else -1.0
    return numbers | {
        "haematoxylin_scale": 1.0 - fade * (1.0 + imbalance),
        "eosin_scale": 1.0 - fade * (1.0 - imbalance),
        "haematoxylin_shift": sign * shift,
        "eosin_shift": -sign * shift,
    }


@register("pathology/stain", modalities=("pathology",), channels=3, resolve=_stain_numbers)
def stain(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Haematoxylin and eosin faded and off balance, in optical density; glass stays white."""
    from degradations.operators import stain

    return stain.restain(
        image,
        scale=(numbers["haematoxylin_scale"], numbers["eosin_scale"]),
        shift=(numbers["haematoxylin_shift"], numbers["eosin_shift"]),
        tissue_density=numbers["tissue_density"],
    )
