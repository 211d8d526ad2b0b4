"""Compiled resampling and shading. Whole-number arithmetic, bit for bit that of the tensor code.

Positions are in 1/64 pixel; see `degradations.operators.geometry`. Index arithmetic is unsigned
because numba otherwise tests every index for being negative.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = Any

_ONE = np.int32(1)
_ZERO = np.int32(0)
_SIX = np.int32(6)
_TEN = np.int32(10)
_HALF = np.int32(512)
_64 = np.int32(64)
_63 = np.int32(63)
_ROUND = np.int32(2048)
_TWELVE = np.int32(12)
_BYTE = np.uint32(255)


@numba.njit(cache=True, nogil=True)
def _row(
    y: int,
    height: int,
    width: int,
    column_x: Array,
    column_y: Array,
    row_x: Array,
    row_y: Array,
    nodes: Array,
    column_weights: Array,
    row_weights: Array,
    bounds: Array,
    row_cell: Array,
    line: Array,
    qx: Array,
    qy: Array,
) -> None:
    """Positions in the padded image that one row of the result reads, in 1/64 pixel."""
    x0, y0 = row_x[y], row_y[y]
    last_x = np.int32((width + 1) * 64)
    last_y = np.int32((height + 1) * 64)
    if nodes.shape[0] == 0:
        for x in range(width):
            qx[x] = min(max((column_x[x] + x0) >> _TEN, _ZERO), last_x)
            qy[x] = min(max((column_y[x] + y0) >> _TEN, _ZERO), last_y)
        return
    cell = row_cell[y]
    for axis in range(2):
        for i in range(nodes.shape[2]):
            total = _HALF
            for j in range(4):
                total += row_weights[j, y] * nodes[axis, cell + j, i]
            line[axis, i] = total >> _TEN
    for c in range(bounds.shape[0] - 1):
        a0, a1, a2, a3 = line[0, c], line[0, c + 1], line[0, c + 2], line[0, c + 3]
        b0, b1, b2, b3 = line[1, c], line[1, c + 1], line[1, c + 2], line[1, c + 3]
        for x in range(bounds[c], bounds[c + 1]):
            w0, w1 = column_weights[0, x], column_weights[1, x]
            w2, w3 = column_weights[2, x], column_weights[3, x]
            dx = (w0 * a0 + w1 * a1 + w2 * a2 + w3 * a3) >> _SIX
            dy = (w0 * b0 + w1 * b1 + w2 * b2 + w3 * b3) >> _SIX
            qx[x] = min(max((column_x[x] + x0 + dx) >> _TEN, _ZERO), last_x)
            qy[x] = min(max((column_y[x] + y0 + dy) >> _TEN, _ZERO), last_y)


@numba.njit(cache=True, nogil=True)
def _clamp(value: int, size: int) -> int:
    return min(max(value, 0), size - 1)


@numba.njit(cache=True, nogil=True)
def warp_gray_uint8(image: Array, nearest: bool, tables: Array, field: Array, out: Array) -> None:
    """Resample (H, W) uint8 into ``out``."""
    column_x, column_y, row_x, row_y = tables
    nodes, column_weights, row_weights, bounds, row_cell = field
    height, width = image.shape
    pitch = width + 3
    # Each word holds the four neighbours of a position, so that one load fetches them.
    packed = np.empty((height + 2) * pitch, dtype=np.uint32)
    above = np.zeros(pitch + 1, dtype=np.uint32)
    below = np.zeros(pitch + 1, dtype=np.uint32)
    if nearest:
        for x in range(pitch + 1):
            above[x] = image[0, _clamp(x - 1, width)]
    for y in range(height + 2):
        if y < height or nearest:
            source = min(y, height - 1)
            for x in range(width):
                below[x + 1] = image[source, x]
            if nearest:
                below[0] = below[1]
                below[width + 1 :] = below[width]
        else:
            below[:] = 0
        start = np.uint64(y * pitch)
        for x in range(np.uint64(pitch)):
            packed[start + x] = (
                above[x]
                | (above[x + np.uint64(1)] << np.uint32(8))
                | (below[x] << np.uint32(16))
                | (below[x + np.uint64(1)] << np.uint32(24))
            )
        above, below = below, above
    line = np.empty((2, nodes.shape[2]), dtype=np.int32)
    qx, qy = np.empty(width, dtype=np.int32), np.empty(width, dtype=np.int32)
    index, got = np.empty(width, dtype=np.uint32), np.empty(width, dtype=np.uint32)
    pitch32 = np.int32(pitch)
    for y in range(height):
        _row(
            y, height, width, column_x, column_y, row_x, row_y,
            nodes, column_weights, row_weights, bounds, row_cell, line, qx, qy,
        )  # fmt: skip
        for x in range(width):
            index[x] = np.uint32((qy[x] >> _SIX) * pitch32 + (qx[x] >> _SIX))
        for x in range(width):
            got[x] = packed[index[x]]
        for x in range(width):
            four = got[x]
            fx, fy = qx[x] & _63, qy[x] & _63
            upper = np.int32(four & _BYTE) * (_64 - fx)
            upper += np.int32((four >> np.uint32(8)) & _BYTE) * fx
            lower = np.int32((four >> np.uint32(16)) & _BYTE) * (_64 - fx)
            lower += np.int32(four >> np.uint32(24)) * fx
            out[y, x] = np.uint8((upper * (_64 - fy) + lower * fy + _ROUND) >> _TWELVE)


@numba.njit(cache=True, nogil=True)
def warp_rgb_uint8(image: Array, nearest: bool, tables: Array, field: Array, out: Array) -> None:
    """Resample (H, W, 3) uint8 into ``out``; the channels ride in three lanes of one word."""
    column_x, column_y, row_x, row_y = tables
    nodes, column_weights, row_weights, bounds, row_cell = field
    height, width = image.shape[:2]
    pitch = width + 3
    packed = np.empty((height + 3) * pitch, dtype=np.uint64)
    for y in range(height + 3):
        start = y * pitch
        inside = 1 <= y <= height
        if not inside and not nearest:
            packed[start : start + pitch] = 0
            continue
        source = _clamp(y - 1, height)
        for x in range(width):
            packed[start + 1 + x] = (
                np.uint64(image[source, x, 0])
                | (np.uint64(image[source, x, 1]) << np.uint64(21))
                | (np.uint64(image[source, x, 2]) << np.uint64(42))
            )
        packed[start] = packed[start + 1] if nearest else np.uint64(0)
        packed[start + width + 1 : start + pitch] = (
            packed[start + width] if nearest else np.uint64(0)
        )
    line = np.empty((2, nodes.shape[2]), dtype=np.int32)
    qx, qy = np.empty(width, dtype=np.int32), np.empty(width, dtype=np.int32)
    index = np.empty(width, dtype=np.uint32)
    fx_row, fy_row = np.empty(width, dtype=np.uint64), np.empty(width, dtype=np.uint64)
    pitch32, one, full = np.int32(pitch), np.uint64(1), np.uint64(64)
    rounding = np.uint64(2048 | (2048 << 21) | (2048 << 42))
    byte = np.uint64(255)
    for y in range(height):
        _row(
            y, height, width, column_x, column_y, row_x, row_y,
            nodes, column_weights, row_weights, bounds, row_cell, line, qx, qy,
        )  # fmt: skip
        for x in range(width):
            index[x] = np.uint32((qy[x] >> _SIX) * pitch32 + (qx[x] >> _SIX))
            fx_row[x] = np.uint64(qx[x] & _63)
            fy_row[x] = np.uint64(qy[x] & _63)
        for x in range(width):
            i = np.uint64(index[x])
            j = i + np.uint64(pitch)
            fx, fy = fx_row[x], fy_row[x]
            upper = packed[i] * (full - fx) + packed[i + one] * fx
            lower = packed[j] * (full - fx) + packed[j + one] * fx
            total = upper * (full - fy) + lower * fy + rounding
            out[y, x, 0] = np.uint8((total >> np.uint64(12)) & byte)
            out[y, x, 1] = np.uint8((total >> np.uint64(33)) & byte)
            out[y, x, 2] = np.uint8((total >> np.uint64(54)) & byte)


@numba.njit(cache=True, nogil=True)
def warp_float32(
    image: Array, nearest: bool, tables: Array, field: Array, strides: Array, out: Array
) -> None:
    """Resample (H, W, C) float32, of one or three channels, into ``out``.

    Args:
        image: What to resample.
        nearest: Whether the border is continued, rather than black.
        tables: Positions.
        field: Displacement.
        strides: Distance of rows, columns and channels in ``out``, in values.
        out: Flat.
    """
    column_x, column_y, row_x, row_y = tables
    nodes, column_weights, row_weights, bounds, row_cell = field
    height, width, channels = image.shape
    # The odd pitch of the copy also keeps columns of it from meeting in one set of the cache.
    pitch = (width + 3) * channels
    padded = np.empty((height + 3) * pitch, dtype=np.float32)
    for y in range(height + 3):
        start = y * pitch
        inside = 1 <= y <= height
        if not inside and not nearest:
            padded[start : start + pitch] = 0.0
            continue
        source = _clamp(y - 1, height)
        for c in range(channels):
            place = np.uint64(start + channels + c)
            for x in range(width):
                padded[place] = image[source, x, c]
                place += np.uint64(channels)
        for c in range(channels):
            end = start + (width + 1) * channels + c
            right = padded[end - channels] if nearest else np.float32(0.0)
            padded[start + c] = padded[start + channels + c] if nearest else np.float32(0.0)
            padded[end] = right
            padded[end + channels] = right
    line = np.empty((2, nodes.shape[2]), dtype=np.int32)
    qx, qy = np.empty(width, dtype=np.int32), np.empty(width, dtype=np.int32)
    fx_row, fy_row = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    index = np.empty(width, dtype=np.uint32)
    pitch32, step32 = np.int32(pitch), np.int32(channels)
    right, down = np.uint64(channels), np.uint64(pitch)
    part, full, one, two = np.float32(1.0 / 64.0), np.float32(1.0), np.uint64(1), np.uint64(2)
    row_step, column_step = np.uint64(strides[0]), np.uint64(strides[1])
    second, third = np.uint64(strides[2]), np.uint64(2 * strides[2])
    for y in range(height):
        _row(
            y, height, width, column_x, column_y, row_x, row_y,
            nodes, column_weights, row_weights, bounds, row_cell, line, qx, qy,
        )  # fmt: skip
        for x in range(width):
            index[x] = np.uint32((qy[x] >> _SIX) * pitch32 + (qx[x] >> _SIX) * step32)
            fx_row[x] = np.float32(qx[x] & _63) * part
            fy_row[x] = np.float32(qy[x] & _63) * part
        place = np.uint64(y) * row_step
        for x in range(np.uint64(width)):
            i = np.uint64(index[x])
            j, k, m = i + right, i + down, i + down + right
            fx, fy = fx_row[x], fy_row[x]
            gx, gy = full - fx, full - fy
            a, b, c, d = gx * gy, fx * gy, gx * fy, fx * fy
            out[place] = padded[i] * a + padded[j] * b + padded[k] * c + padded[m] * d
            # Written out: a loop over channels here takes six times as long.
            if channels == 3:
                out[place + second] = (
                    padded[i + one] * a
                    + padded[j + one] * b
                    + padded[k + one] * c
                    + padded[m + one] * d
                )
                out[place + third] = (
                    padded[i + two] * a
                    + padded[j + two] * b
                    + padded[k + two] * c
                    + padded[m + two] * d
                )
            place += column_step


# Added to a float32 and taken off again, it leaves the nearest whole number.
_WHOLE = np.float32(12582912.0)


@numba.njit(cache=True, nogil=True)
def shade_uint8(image: Array, step: int, gain: Array, out: Array) -> None:
    """Multiply (H, W * step), ``step`` channels beside each other, by (H, W); half to even."""
    height, elements = image.shape
    factor = np.empty(elements, dtype=np.float32)
    for y in range(height):
        for x in range(elements // step):
            for c in range(step):
                factor[x * step + c] = gain[y, x]
        for i in range(elements):
            shaded = np.float32(image[y, i]) * factor[i]
            out[y, i] = np.uint8(np.int32((shaded + _WHOLE) - _WHOLE))


@numba.njit(cache=True, nogil=True)
def shade_srgb_uint8(
    image: Array,
    step: int,
    gain: Array,
    root: Array,
    linear: Array,
    offset: np.float32,
    out: Array,
) -> None:
    """Multiply sRGB-coded (H, W * step) light by (H, W), and round half to even.

    Args:
        image: What to shade.
        step: Channels beside each other.
        gain: Factor on light.
        root: ``gain ** (1 / 2.4)``: the factor on ``value + offset`` above the toe.
        linear: Light of each of the 256 values, as a value of the toe's straight line.
        offset: Of the sRGB curve, in levels.
        out: The result.
    """
    height, elements = image.shape
    toe = np.float32(0.04045 * 255.0)
    factor = np.empty(elements, dtype=np.float32)
    for y in range(height):
        for x in range(elements // step):
            for c in range(step):
                factor[x * step + c] = root[y, x]
        darkest = np.float32(255.0)
        for i in range(elements):
            coded = np.float32(image[y, i]) * factor[i] + (offset * factor[i] - offset)
            darkest = min(darkest, coded)
            out[y, i] = np.uint8(np.int32((max(coded, np.float32(0.0)) + _WHOLE) - _WHOLE))
        if darkest > toe:
            continue
        for i in range(elements):
            coded = np.float32(image[y, i]) * factor[i] + (offset * factor[i] - offset)
            if coded <= toe:
                straight = linear[image[y, i]] * gain[y, i // step]
                out[y, i] = np.uint8(np.int32((straight + _WHOLE) - _WHOLE))
