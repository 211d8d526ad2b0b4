"""Compiled maps of levels, in 16-bit arithmetic, of which one instruction does sixteen."""

from __future__ import annotations

import numba
import numpy as np

_7, _8 = np.uint16(7), np.uint16(8)
#: White in 1/128 level.
_TOP = np.uint16(256 * 128 - 1)


@numba.njit(inline="always")
def _scaled(level, black, minus, plus, high, low, reach):
    # The product is taken by parts: high + low is the whole in 1/128 level, rounded down.
    # Written so that the compiler sees saturating differences.
    above = min(np.uint16(max(np.uint16(level), black) - black), reach)
    part = np.uint16(np.uint16(above * low) >> _8)
    value = np.uint16(np.uint16(above * high) + part)
    value = np.uint16(np.uint16(max(value, minus) - minus) + plus)
    return np.uint8(min(value, _TOP) >> _7)


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
    high, low, reach = np.uint16(gain >> 8), np.uint16(gain & 255), np.uint16(reach)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = _scaled(image[y, x], row[0, x], row[1, x], row[2, x], high, low, reach)


@numba.njit(cache=True, nogil=True)
def scale_plane(values, black, minus, plus, gain, reach, out):
    """`scale` of (N,) uint8 with one line for all."""
    black, minus, plus = np.uint16(black), np.uint16(minus), np.uint16(plus)
    high, low, reach = np.uint16(gain >> 8), np.uint16(gain & 255), np.uint16(reach)
    for place in range(len(values)):
        out[place] = _scaled(values[place], black, minus, plus, high, low, reach)
