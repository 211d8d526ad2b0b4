"""Changes of brightness and contrast."""

from __future__ import annotations

from torch import Tensor


def contrast(image: Tensor, factor: float) -> Tensor:
    """Scale each channel about its mean: ``y = m + factor (x - m)``.

    Args:
        image: (C, H, W).
        factor: 1 keeps the image, 0 leaves the mean alone.

    Returns:
        (C, H, W).
    """
    mean = image.mean(dim=(-2, -1), keepdim=True, dtype=image.double().dtype).to(image.dtype)
    return mean + factor * (image - mean)
