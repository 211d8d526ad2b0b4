"""Lossy storage as baseline JPEG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Round to 8 bits, encode and decode with libjpeg.

    Gray is stored as one component, RGB as YCbCr with 4:2:0 chroma. The codec runs on the CPU.

    Args:
        image: (1, H, W) or (3, H, W) in [0, 1].
        quality: libjpeg quality, 1 to 100.

    Returns:
        Same shape; multiples of 1/255.
    """
    levels = image.mul(255.0).round().to(torch.uint8).cpu().numpy()
    gray = levels.shape[0] == 1
    picture = Image.fromarray(
        levels[0] if gray else np.ascontiguousarray(levels.transpose(1, 2, 0))
    )
    buffer = io.BytesIO()
    if gray:
        picture.save(buffer, "JPEG", quality=quality)
    else:
        picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as stored:
        decoded = np.array(stored)
    decoded = decoded[None] if gray else decoded.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(decoded)).to(image.device).float().div(255.0)
