"""Compiled random fields, and noise that is drawn, applied and rounded in one pass.

Images come flat, in the order of memory: ``step`` is 1 for planes one after the other and the
number of channels for interleaved ones. Positions in a random field count plane by plane in both
cases, so that the memory layout does not show.
"""

from __future__ import annotations

import math

import numba
import numpy as np

#: Values worked on at a time: their words stay in the first-level cache.
_BLOCK = 1024
_u32 = numba.uint32
_f32 = numba.float32


@numba.njit(cache=True, nogil=True)
def _fill(out, first, low, high):
    """The words of counters ``first``, ``first + 1``, ...: `random_fields._hash`.

    All arguments must be uint32: wider ones make it wider arithmetic, at a third of the speed.
    """
    for place in range(out.size):
        x = _u32(_u32(first + place) ^ low)
        x = _u32(x ^ (x >> _u32(17)))
        x = _u32(x * _u32(0xED5AD4BB) + high)
        x = _u32(x ^ (x >> _u32(11)))
        x = _u32(x * _u32(0xAC4C1B51))
        x = _u32(x ^ (x >> _u32(15)))
        x = _u32(x * _u32(0x31848BAB))
        out[place] = _u32(x ^ (x >> _u32(14)))


@numba.njit(cache=True, nogil=True)
def fill_words(out, key):
    """Flat field of uint32 words; ``key`` holds the two words of the key, as uint32 too."""
    _fill(out, _u32(0), key[0], key[1])


@numba.njit(cache=True, nogil=True)
def fill_uniform(out, key):
    """Flat float32 field of `random_fields.uniform`."""
    words = np.empty(_BLOCK, np.uint32)
    for start in range(0, out.size, _BLOCK):
        here = out[start : start + _BLOCK]
        _fill(words, _u32(start), key[0], key[1])
        for place in range(here.size):
            share = _f32(np.int32(words[place] >> _u32(9))) + _f32(0.5)
            here[place] = share * _f32(2.0**-23)


@numba.njit(cache=True, nogil=True)
def fill_normal(out, table, key):
    """Flat float32 field of `random_fields.normal`."""
    words = np.empty(_BLOCK // 2, np.uint32)
    halves = words.view(np.int16)
    for start in range(0, out.size, _BLOCK):
        here = out[start : start + _BLOCK]
        _fill(words, _u32(start // 2), key[0], key[1])
        for place in range(here.size):
            here[place] = table[np.int64(halves[place]) + 32768]


@numba.njit(cache=True, nogil=True)
def spline_columns(nodes, place, weights, out):
    """Cubic B-splines through the columns: ``out[i] = sum(weights[i] * nodes[place[i] ...])``."""
    for row in range(out.shape[0]):
        first = place[row]
        a, b, c, d = weights[row]
        for column in range(out.shape[1]):
            value = a * nodes[first, column]
            value += b * nodes[first + 1, column]
            value += c * nodes[first + 2, column]
            value += d * nodes[first + 3, column]
            out[row, column] = value


@numba.njit(cache=True, nogil=True)
def spline_rows(nodes, place, weights, out):
    """As `spline_columns`, along the rows."""
    taps = weights.T.copy()
    for row in range(out.shape[0]):
        line = nodes[row]
        for column in range(out.shape[1]):
            first = place[column]
            value = taps[0, column] * line[first]
            value += taps[1, column] * line[first + 1]
            value += taps[2, column] * line[first + 2]
            value += taps[3, column] * line[first + 3]
            out[row, column] = value


@numba.njit(cache=True, nogil=True)
def _interleave(plane, place, step, out):
    for column in range(out.size // step):
        out[column * step + place] = plane[column]


@numba.njit(cache=True, nogil=True)
def _interleave_three(red, green, blue, out):
    """The common case, written so that it becomes vector shuffles."""
    for column in range(out.size // 3):
        out[3 * column] = red[column]
        out[3 * column + 1] = green[column]
        out[3 * column + 2] = blue[column]


@numba.njit(cache=True, nogil=True)
def _draw(start, count, step, key, planes, out):
    """Words of a block in the order of memory.

    Args:
        start: First position of the block in every plane.
        count: Values of a plane.
        step: Planes that are interleaved.
        key: Two words.
        planes: (step, at least a plane's part of the block) to work in.
        out: The block.
    """
    if step == 1:
        _fill(out, _u32(start), key[0], key[1])
        return
    for plane in range(step):
        _fill(planes[plane], _u32(plane * count + start), key[0], key[1])
    if step == 3:
        _interleave_three(planes[0], planes[1], planes[2], out)
        return
    for plane in range(step):
        _interleave(planes[plane], plane, step, out)


@numba.njit(cache=True, nogil=True)
def _draw_halves(start, count, step, key, planes, out):
    """As `_draw`, for the 16-bit halves of words; ``start`` is even."""
    if step == 1:
        words = planes[0]
        _fill(words, _u32(start // 2), key[0], key[1])
        halves = words.view(np.int16)
        for place in range(out.size):
            out[place] = halves[place]
        return
    for plane in range(step):
        _fill(planes[plane], _u32((plane * count + start) >> 1), key[0], key[1])
    if step == 3:
        red = planes[0].view(np.int16)[start & 1 :]
        green = planes[1].view(np.int16)[(count + start) & 1 :]
        blue = planes[2].view(np.int16)[(2 * count + start) & 1 :]
        _interleave_three(red, green, blue, out)
        return
    for plane in range(step):
        halves = planes[plane].view(np.int16)
        _interleave(halves[(plane * count + start) & 1 :], plane, step, out)


@numba.njit(cache=True, nogil=True)
def _add(values, halves, table, sigma, out):
    for place in range(values.size):
        out[place] = table[np.int64(halves[place]) + 32768] * sigma + values[place]


@numba.njit(cache=True, nogil=True)
def add_normal(values, step, table, sigma, key, out):
    """``values + sigma * normal`` for float32; ``table`` holds the normal values."""
    planes = np.empty((step, _BLOCK // 2 + 1), np.uint32)
    halves = np.empty(_BLOCK * step, np.int16)
    count = values.size // step
    for start in range(0, count, _BLOCK):
        here = slice(start * step, min(start + _BLOCK, count) * step)
        drawn = halves[: here.stop - here.start]
        _draw_halves(start, count, step, key, planes, drawn)
        _add(values[here], drawn, table, sigma, out[here])


@numba.njit(cache=True, nogil=True)
def _add_levels(values, halves, steps, out):
    for place in range(values.size):
        level = np.int32(values[place]) + np.int32(steps[np.int64(halves[place]) + 32768])
        out[place] = min(max(level, np.int32(0)), np.int32(255))


@numba.njit(cache=True, nogil=True)
def add_normal_levels(values, step, steps, key, out):
    """As `add_normal` for uint8; ``steps`` holds the normal values in whole levels."""
    planes = np.empty((step, _BLOCK // 2 + 1), np.uint32)
    halves = np.empty(_BLOCK * step, np.int16)
    count = values.size // step
    for start in range(0, count, _BLOCK):
        here = slice(start * step, min(start + _BLOCK, count) * step)
        drawn = halves[: here.stop - here.start]
        _draw_halves(start, count, step, key, planes, drawn)
        _add_levels(values[here], drawn, steps, out[here])


@numba.njit(cache=True, nogil=True)
def _multiply(values, halves, table, sigma, out):
    for place in range(values.size):
        value = values[place]
        out[place] = table[np.int64(halves[place]) + 32768] * sigma * value + value


@numba.njit(cache=True, nogil=True)
def _multiply_levels(values, halves, table, sigma, out):
    for place in range(values.size):
        value = _f32(values[place])
        value = table[np.int64(halves[place]) + 32768] * sigma * value + value
        out[place] = np.int32(min(max(value, _f32(0.0)), _f32(255.0)) + _f32(0.5))


@numba.njit(cache=True, nogil=True)
def multiply_normal(values, step, table, sigma, eight_bit, key, out):
    """``values * (1 + sigma * normal)``, rounded to levels for uint8."""
    planes = np.empty((step, _BLOCK // 2 + 1), np.uint32)
    halves = np.empty(_BLOCK * step, np.int16)
    count = values.size // step
    for start in range(0, count, _BLOCK):
        here = slice(start * step, min(start + _BLOCK, count) * step)
        drawn = halves[: here.stop - here.start]
        _draw_halves(start, count, step, key, planes, drawn)
        if eight_bit:
            _multiply_levels(values[here], drawn, table, sigma, out[here])
        else:
            _multiply(values[here], drawn, table, sigma, out[here])


@numba.njit(cache=True, nogil=True)
def _replace(values, words, below, ends, out):
    above = _u32((1 << 23) - below)
    black, white = ends
    for place in range(values.size):
        drawn = words[place] >> _u32(9)
        value = white if drawn >= above else values[place]
        out[place] = black if drawn < below else value


@numba.njit(cache=True, nogil=True)
def replace(values, step, below, ends, key, out):
    """Black where the top 23 bits of the word are less than ``below``, white where at the top."""
    planes = np.empty((step, _BLOCK), np.uint32)
    words = np.empty(_BLOCK * step, np.uint32)
    count = values.size // step
    for start in range(0, count, _BLOCK):
        here = slice(start * step, min(start + _BLOCK, count) * step)
        drawn = words[: here.stop - here.start]
        _draw(start, count, step, key, planes, drawn)
        _replace(values[here], drawn, below, (ends[0], ends[1]), out[here])


@numba.njit(cache=True, nogil=True)
def index_thresholds(first, thresholds):
    """Where the search of each row of ``thresholds`` starts, by the top 8 bits of a word."""
    rows = first.size - 1
    index = np.empty((rows, 256), np.uint16)
    for row in range(rows):
        place = first[row]
        for top in range(256):
            while thresholds[place] < _u32(top << 24):
                place += 1
            index[row, top] = place - first[row]
    return index


@numba.njit(cache=True, nogil=True)
def _few(rate, word):
    """Poisson count of a small rate, as `random_fields.invert_poisson`."""
    level = (word + 0.5) * 2.0**-32
    # exp(-rate) is at least 1 - rate, which settles most draws.
    if level <= 1.0 - rate:
        return 0
    probability = math.exp(-rate)
    cumulative = probability
    count = 0
    while level > cumulative and count < 1000:
        count += 1
        probability = probability * rate / count
        cumulative += probability
    return count


@numba.njit(cache=True, nogil=True)
def _many(rate, z):
    """Poisson count of a large rate, as `random_fields.expand_poisson`."""
    root = math.sqrt(rate)
    square = z * z
    count = rate + root * z + (square - 1.0) / 6.0 + z * (1.0 - square) / (72.0 * root)
    return max(np.rint(count), 0.0)


@numba.njit(cache=True, nogil=True)
def _display(share, curve):
    """What a share of white is shown as; ``curve`` over its root, or empty for a straight line."""
    share = min(share, 1.0)
    if curve.size == 0:
        return share
    at = math.sqrt(share) * (curve.size - 1)
    below = min(int(at), curve.size - 2)
    return curve[below] + (at - below) * (curve[below + 1] - curve[below])


@numba.njit(cache=True, nogil=True)
def _count_levels(levels, words, law, shown, white, table, curve, out):
    rates, first, fewest, thresholds, index = law
    exact = first.size - 1
    for place in range(levels.size):
        level = np.int64(levels[place])
        word = words[place]
        if level < exact:
            skipped = np.int64(index[level, word >> _u32(24)])
            start = first[level]
            while thresholds[start + skipped] < word:
                skipped += 1
            out[place] = shown[fewest[level] + skipped]
        else:
            count = _many(rates[level], np.float64(table[word >> _u32(16)]))
            out[place] = np.uint8(np.rint(_display(count / white, curve) * 255.0))


@numba.njit(cache=True, nogil=True)
def _count_values(values, words, others, law, shown, white, table, curve, limit, out):
    rates, first, fewest, thresholds, index = law
    exact = first.size - 1
    for place in range(values.size):
        scaled = values[place] * _f32(255.0)
        level = np.int64(scaled)
        word = words[place]
        rate = rates[level]
        more = np.float64(scaled - _f32(level)) * (rates[level + 1] - rate)
        if level < exact and rate + more < limit:
            skipped = np.int64(index[level, word >> _u32(24)])
            start = first[level]
            while thresholds[start + skipped] < word:
                skipped += 1
            count = fewest[level] + skipped
            if more > 0.0:
                count += _few(more, others[place])
            out[place] = shown[count]
        else:
            many = _many(rate + more, np.float64(table[word >> _u32(16)]))
            out[place] = _display(many / white, curve)


@numba.njit(cache=True, nogil=True)
def count_levels(values, step, key, law, shown, white, table, curve, out):
    """uint8 levels that Poisson counts of uint8 levels stand for: `operators.noise.shot`."""
    planes = np.empty((step, _BLOCK), np.uint32)
    words = np.empty(_BLOCK * step, np.uint32)
    count = values.size // step
    for start in range(0, count, _BLOCK):
        here = slice(start * step, min(start + _BLOCK, count) * step)
        drawn = words[: here.stop - here.start]
        _draw(start, count, step, key, planes, drawn)
        _count_levels(values[here], drawn, law, shown, white, table, curve, out[here])


@numba.njit(cache=True, nogil=True)
def count_values(values, step, key, other, law, shown, white, table, curve, limit, out):
    """As `count_levels` for float32; the part between two levels is drawn from a second key."""
    planes = np.empty((step, _BLOCK), np.uint32)
    words = np.empty(_BLOCK * step, np.uint32)
    others = np.empty(_BLOCK * step, np.uint32)
    count = values.size // step
    for start in range(0, count, _BLOCK):
        here = slice(start * step, min(start + _BLOCK, count) * step)
        drawn, more = words[: here.stop - here.start], others[: here.stop - here.start]
        _draw(start, count, step, key, planes, drawn)
        _draw(start, count, step, other, planes, more)
        _count_values(values[here], drawn, more, law, shown, white, table, curve, limit, out[here])
