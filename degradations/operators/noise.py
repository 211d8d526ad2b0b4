"""Additive noise."""

from __future__ import annotations

from torch import Tensor

from degradations import random_fields
from degradations.keys import Key


def add_gaussian(image: Tensor, sigma: float, key: Key) -> Tensor:
    """Add independent normal noise to every value.

    Args:
        image: (C, H, W).
        sigma: Standard deviation, in the image's units.
        key: Whose noise.

    Returns:
        (C, H, W), not clamped.
    """
    field = random_fields.normal(key, "noise", image.shape, image.device)
    return field.mul_(sigma).add_(image)
