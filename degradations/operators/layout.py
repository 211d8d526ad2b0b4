"""Between (C, H, W) tensors and the (H, W, C) arrays that OpenCV and the codecs work on."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def interleaved(image: Tensor) -> Array:
    """An image on the CPU as a C-contiguous (H, W, C) array; not copied if it lies so already.

    Args:
        image: (C, H, W), of any memory layout.

    Returns:
        (H, W, C), which may share the image's memory: read it only.
    """
    pixels = image.permute(1, 2, 0)
    if pixels.is_contiguous():
        return pixels.numpy()
    height, width, channels = pixels.shape
    if channels == 1:
        return image.contiguous().numpy().reshape(height, width, 1)
    planes = [plane.contiguous().numpy() for plane in image]
    return np.asarray(cv2.merge(planes)).reshape(height, width, channels)


def tensor(pixels: Array) -> Tensor:
    """An (H, W) or (H, W, C) array as a (C, H, W) tensor that shares its memory."""
    found = torch.from_numpy(pixels)
    return found[None] if found.ndim == 2 else found.permute(2, 0, 1)
