"""Lossy storage: baseline JPEG, and blocks whose detail is lost."""

from __future__ import annotations

import imagecodecs
import numpy as np
import simplejpeg
import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators import layout


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Encode and decode with libjpeg-turbo; float32 is rounded to 8 bits before.

    RGB is stored as YCbCr with 4:2:0 chroma, gray as one component, and so is each channel of an
    image of any other number of channels. The codec runs on the CPU.

    Args:
        image: (C, H, W), float32 in [0, 1] or uint8.
        quality: libjpeg quality, 1 to 100.

    Returns:
        Same shape and type; float32 holds multiples of 1/255.
    """
    eight_bit = image.dtype == torch.uint8
    levels = image if eight_bit else image.mul(255.0).round_().to(torch.uint8)
    levels = levels.cpu()
    if len(levels) in (1, 3):
        stored = _through(levels, quality)
    else:
        stored = torch.cat([_through(plane[None], quality) for plane in levels])
    stored = stored.to(image.device)
    return stored if eight_bit else stored.float().div_(255.0)


def _through(levels: Tensor, quality: int) -> Tensor:
    pixels = layout.interleaved(levels)
    gray = pixels.shape[2] == 1
    stored = encode(pixels[..., 0] if gray else pixels, quality)
    # The quicker decoder of the two; with the exact transform and interpolated chroma, its
    # result is the other's, bit for bit.
    decoded = simplejpeg.decode_jpeg(
        stored, colorspace="GRAY" if gray else "RGB", fastdct=False, fastupsample=False
    )
    return layout.tensor(decoded)


def encode(pixels: layout.Array, quality: int) -> bytes:
    """The JPEG file of (H, W) gray or (H, W, 3) RGB uint8 pixels, with 4:2:0 chroma."""
    # The codec wants the usual strides even of a side of one pixel, where NumPy does not care.
    usual = pixels.copy(order="C") if 1 in pixels.shape else np.ascontiguousarray(pixels)
    # Not by simplejpeg, whose transform is exact at the highest qualities only.
    return bytes(imagecodecs.jpeg8_encode(usual, level=quality, subsampling="420", optimize=False))


def lose_blocks(image: Tensor, fraction: float, block_px: int, key: Key) -> Tensor:
    """Keep only the mean of some square blocks, as where a codec's detail coefficients are lost.

    Which blocks is decided by one uniform field that is compared with the fraction: those lost
    at a small fraction are lost at a larger one too.

    Args:
        image: (C, H, W), float32 in [0, 1] or uint8.
        fraction: Expected share of lost blocks, 0 to 1.
        block_px: Side of a block; those at the right and lower border may be cut.
        key: Which blocks.

    Returns:
        (C, H, W) of the same type; uint8 means are rounded.
    """
    height, width = image.shape[-2:]
    rows, columns = -(-height // block_px), -(-width // block_px)
    lost = random_fields.uniform(key, "blocks", (rows, columns), image.device) < fraction
    # One layout, for sums may round differently in another.
    pixels = image.contiguous().float()
    means = torch.nn.functional.avg_pool2d(pixels[None], block_px, ceil_mode=True)[0]
    if image.dtype == torch.uint8:
        means = means.round_().to(torch.uint8)
    row = torch.arange(height, device=image.device) // block_px
    column = torch.arange(width, device=image.device) // block_px
    spread = means.index_select(1, row).index_select(2, column)
    return torch.where(lost.index_select(0, row).index_select(1, column), spread, image)
