"""Compiled projection and backprojection of parallel rays, one view after the other.

Positions are worked out in one loop and looked up in the next: the first becomes vector
instructions, and keeps them although the second cannot.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_f32 = numba.float32
_i32 = numba.int32
_u32 = numba.uint32


@numba.njit(cache=True, nogil=True)
def project(lines, starts, slopes, steps, out):
    """Add up what rays cross; `operators.tomography._cross` works out the terms.

    Args:
        lines: (N, W + 3) float32 image, with a zero before each line and two behind.
        starts: (V,) float64, where the first ray of a view crosses the first line.
        slopes: (V,) float64, how much further it crosses the next line.
        steps: (V,) float64, how much further the next ray crosses a line; never 0.
        out: (V, rays) float32, zeros; receives the sums.
    """
    count, width = lines.shape
    rays = out.shape[1]
    # Between these places a line is not zero.
    first = np.empty(count, np.float64)
    last = np.empty(count, np.float64)
    for line in range(count):
        low, high = 0, width - 1
        while low < width and lines[line, low] == 0.0:
            low += 1
        while high > low and lines[line, high] == 0.0:
            high -= 1
        first[line], last[line] = low - 1.0, high + 1.0
    offsets = np.empty(rays, np.float32)
    index = np.empty(rays, np.int32)
    share = np.empty(rays, np.float32)
    for view in range(out.shape[0]):
        step = steps[view]
        for ray in range(rays):
            offsets[ray] = _f32(ray * step)
        for line in range(count):
            if first[line] >= width - 1.0:
                continue
            start = starts[view] + slopes[view] * line
            one, other = (first[line] - start) / step, (last[line] - start) / step
            low = max(math.ceil(min(one, other)), 0)
            high = min(math.floor(max(one, other)) + 1, rays)
            if low >= high:
                continue
            values = lines[line]
            here, total = offsets[low:high], out[view, low:high]
            origin = _f32(start)
            for ray in range(here.size):
                place = origin + here[ray]
                index[ray] = _i32(place)
                share[ray] = place - _f32(index[ray])
            for ray in range(here.size):
                # Unsigned, so that no index is counted from the end.
                below = _u32(index[ray])
                value = values[below]
                total[ray] += value + share[ray] * (values[below + _u32(1)] - value)


@numba.njit(cache=True, nogil=True)
def backproject(filtered, columns, rows, out):
    """Add up what the views tell about every pixel, interpolated between rays.

    Args:
        filtered: (V, rays) float32.
        columns: (V, W) float32; with ``rows``, the place of a pixel among the rays of a view.
        rows: (V, H) float32.
        out: (H, W) float32, zeros; receives the sums.
    """
    width = out.shape[1]
    index = np.empty(width, np.int32)
    share = np.empty(width, np.float32)
    for row in range(out.shape[0]):
        total = out[row]
        for view in range(filtered.shape[0]):
            values, here = filtered[view], columns[view]
            origin = rows[view, row]
            for column in range(width):
                place = origin + here[column]
                index[column] = _i32(place)
                share[column] = place - _f32(index[column])
            for column in range(width):
                below = _u32(index[column])
                value = values[below]
                total[column] += value + share[column] * (values[below + _u32(1)] - value)
