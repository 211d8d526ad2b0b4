"""How alike two pictures are: PSNR and SSIM, as the severities are calibrated with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

__all__ = ["psnr", "ssim"]


def psnr(clean: Picture, bad: Picture) -> float:
    """Peak signal-to-noise ratio.

    Args:
        clean: (H, W) or (H, W, C), uint8 or float in [0, 1].
        bad: The same shape and type.

    Returns:
        Decibels; infinite for equal pictures.
    """
    a, b = _scaled(clean), _scaled(bad)
    error = float(((a - b) ** 2).mean())
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def ssim(clean: Picture, bad: Picture) -> float:
    """Mean structural similarity with the Gaussian window of Wang et al. 2004.

    Window of standard deviation 1.5 and 11 pixels, K1 0.01, K2 0.03, population covariance; the
    five pixels along each edge are left out. Channels are averaged.

    Args:
        clean: (H, W) or (H, W, C), uint8 or float in [0, 1], each side at least 11.
        bad: The same shape and type.

    Returns:
        At most 1, for equal pictures.

    Raises:
        ValueError: A side is shorter than the window.
    """
    import cv2
    import numpy as np

    if min(clean.shape[:2]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11 pixels, got {clean.shape[:2]}")
    a, b = _scaled(clean), _scaled(bad)

    def local(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT))

    mean_a, mean_b = local(a), local(b)
    variances = local(a * a) + local(b * b) - mean_a**2 - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index /= (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    return float(index[5:-5, 5:-5].mean())


def _scaled(picture: Picture) -> npt.NDArray[np.float64]:
    import numpy as np

    values = picture.astype(np.float64)
    return values / 255.0 if picture.dtype == np.uint8 else values
