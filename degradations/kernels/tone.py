"""Compiled maps of levels, in 16-bit arithmetic, of which one instruction does sixteen."""

from __future__ import annotations

import numba
import numpy as np

_7, _8 = np.uint16(7), np.uint16(8)


@numba.njit(cache=True, nogil=True)
def scale(image, row, gain, reach, out):
    """Scale levels about one level in every column.

    Args:
        image: (H, N) uint8.
        row: (3, N) uint16: the level to start from, what is then taken off the product, and what
            is added, in 1/128 level.
        gain: Factor in 1/32768.
        reach: Most levels above the start that count.
        out: (H, N) uint8; clamped.
    """
    # The product is taken by parts: high + low is the whole in 1/128 level, rounded down.
    high, low, reach = np.uint16(gain >> 8), np.uint16(gain & 255), np.uint16(reach)
    top = np.uint16(256 * 128 - 1)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            black, minus, plus = row[0, x], row[1, x], row[2, x]
            # Written so that the compiler sees saturating differences.
            above = min(np.uint16(max(np.uint16(image[y, x]), black) - black), reach)
            part = np.uint16(np.uint16(above * low) >> _8)
            value = np.uint16(np.uint16(above * high) + part)
            value = np.uint16(np.uint16(max(value, minus) - minus) + plus)
            out[y, x] = np.uint8(min(value, top) >> _7)
