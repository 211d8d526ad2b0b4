"""Compiled recolouring in optical density, by tables over 8-bit levels.

The power of a sum of densities is a product of powers, one for each channel that the density comes
from, so that no logarithm and no exponential is left for the pixels.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def recolour(pixels, gains, fades, steps, out):
    """Change (H, W, 3) levels.

    Args:
        pixels: uint8 (H, W, 3), any strides.
        gains: float32 (3, 256, 8): by channel and level, factors of R, G, B, of which that of the
            channel itself is multiplied by its level; then amounts of two stains.
        fades: float32 (N, 4): factors of R, G, B over the amount of both stains.
        steps: float32, entries of ``fades`` per unit of amount.
        out: Like ``pixels``.
    """
    zero, half, white = np.float32(0.0), np.float32(0.5), np.float32(255.0)
    last = np.float32(fades.shape[0] - 1)
    reds, greens, blues = gains[0], gains[1], gains[2]
    for row in range(pixels.shape[0]):
        line, target = pixels[row], out[row]
        for column in range(pixels.shape[1]):
            # Unsigned, because numba otherwise tests every index for being negative.
            r, g = np.uint64(line[column, 0]), np.uint64(line[column, 1])
            b = np.uint64(line[column, 2])
            first = max(reds[r, 3] + greens[g, 3] + blues[b, 3], zero)
            second = max(reds[r, 4] + greens[g, 4] + blues[b, 4], zero)
            at = np.uint64(np.int32(min((first + second) * steps + half, last)))
            for channel in range(3):
                value = reds[r, channel] * greens[g, channel] * blues[b, channel]
                target[column, channel] = np.int32(min(value * fades[at, channel] + half, white))
