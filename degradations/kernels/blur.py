"""Compiled loops over image rows: convolution, zoom, displacement and resampling.

An image is a float32 array (rows, columns * step): ``step`` channels lie beside each other in a
row, so that the inner loops run over neighbours in memory and the compiler can vectorise them.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def spread(levels, table, rows, columns, out):
    """``out[y, x] = table[levels[rows[y], columns[x]]]``: a picture with a margin."""
    for y in range(rows.size):
        source = levels[rows[y]]
        target = out[y]
        for x in range(columns.size):
            target[x] = table[source[columns[x]]]


@numba.njit(cache=True, nogil=True)
def extend(values, rows, columns, out):
    """``out[y, x] = values[rows[y], columns[x]]``."""
    for y in range(rows.size):
        source = values[rows[y]]
        target = out[y]
        for x in range(columns.size):
            target[x] = source[columns[x]]


@numba.njit(cache=True, nogil=True)
def sum_taps(padded, row_of, column_of, weights, out):
    """``out[y, x]`` is the sum over taps of ``weight * padded[y + row, x + column]``.

    The number of taps must be a multiple of 4; fill up with weights of 0.
    """
    width = out.shape[1]
    for y in range(out.shape[0]):
        total = out[y]
        total[:] = 0.0
        for tap in range(0, weights.size, 4):
            a = padded[y + row_of[tap], column_of[tap] : column_of[tap] + width]
            b = padded[y + row_of[tap + 1], column_of[tap + 1] : column_of[tap + 1] + width]
            c = padded[y + row_of[tap + 2], column_of[tap + 2] : column_of[tap + 2] + width]
            d = padded[y + row_of[tap + 3], column_of[tap + 3] : column_of[tap + 3] + width]
            wa, wb, wc, wd = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
            for x in range(width):
                total[x] += (wa * a[x] + wb * b[x]) + (wc * c[x] + wd * d[x])


@numba.njit(cache=True, nogil=True)
def sum_runs(padded, step, half, share, weights, sums, out):
    """Sum over rows of a kernel that is uniform along each row, at a cost per row that is fixed.

    Args:
        padded: The image with margins of ``half.size // 2`` rows and ``half.max() + 2`` columns.
        step: Channels beside each other.
        half: For each kernel row the whole pixels of its half width.
        share: The rest of the half width, in [0, 1).
        weights: What the row adds to the result, divided by its width.
        sums: Scratch of the padded shape with ``step`` more columns.
        out: The result.
    """
    height, width = out.shape
    taps = half.size
    middle = half.max() + 2
    for y in range(padded.shape[0]):
        running = sums[y]
        values = padded[y]
        running[:step] = 0.0
        for x in range(values.size):
            running[x + step] = running[x] + values[x]
    for y in range(height):
        total = out[y]
        total[:] = 0.0
        # The kernel is symmetric: rows above and below the middle share their weights.
        for tap in range((taps + 1) // 2):
            u = share[tap]
            outer = weights[tap] * (u * u * np.float32(0.5))
            inner = weights[tap] * ((np.float32(1.0) - u) * (np.float32(1.0) - u) * np.float32(0.5))
            between = weights[tap] - outer - inner
            right = (middle + half[tap]) * step
            left = (middle - half[tap] - 1) * step
            above = sums[y + tap]
            r0 = above[right : right + width]
            r1 = above[right + step : right + step + width]
            r2 = above[right + 2 * step : right + 2 * step + width]
            l0 = above[left : left + width]
            l1 = above[left + step : left + step + width]
            l2 = above[left + 2 * step : left + 2 * step + width]
            if tap == taps // 2:
                for x in range(width):
                    total[x] += (
                        inner * (r0[x] - l2[x])
                        + between * (r1[x] - l1[x])
                        + outer * (r2[x] - l0[x])
                    )
                continue
            below = sums[y + taps - 1 - tap]
            s0 = below[right : right + width]
            s1 = below[right + step : right + step + width]
            s2 = below[right + 2 * step : right + 2 * step + width]
            m0 = below[left : left + width]
            m1 = below[left + step : left + step + width]
            m2 = below[left + 2 * step : left + 2 * step + width]
            for x in range(width):
                total[x] += (
                    inner * ((r0[x] - l2[x]) + (s0[x] - m2[x]))
                    + between * ((r1[x] - l1[x]) + (s1[x] - m1[x]))
                    + outer * ((r2[x] - l0[x]) + (s2[x] - m0[x]))
                )


@numba.njit(cache=True, nogil=True)
def average_with_zoomed(image, step, row_of, row_share, starts, left, column_share, line, out):
    """The mean of an image and the same enlarged, by linear interpolation.

    Args:
        image: The image.
        step: Channels beside each other.
        row_of: For each row the upper of the two rows that it comes from.
        row_share: Weight of the lower one.
        starts: Elements of a row that begin a run, over which target and source keep their
            distance, and the row's length.
        left: For each run the left of the two elements that its first element comes from.
        column_share: For each element the weight of the right one.
        line: Scratch of one row and ``step`` elements.
        out: The result.
    """
    height, width = image.shape
    last = height - 1
    line[width:] = 0.0
    for y in range(height):
        upper = image[row_of[y]]
        lower = image[min(row_of[y] + 1, last)]
        down = row_share[y]
        for x in range(width):
            line[x] = upper[x] + down * (lower[x] - upper[x])
        own, target = image[y], out[y]
        for run in range(left.size):
            start, stop, source = starts[run], starts[run + 1], left[run]
            near = line[source : source + stop - start]
            far = line[source + step : source + step + stop - start]
            kept, result, share = own[start:stop], target[start:stop], column_share[start:stop]
            for x in range(stop - start):
                zoomed = near[x] + share[x] * (far[x] - near[x])
                result[x] = np.float32(0.5) * (kept[x] + zoomed)


@numba.njit(cache=True, nogil=True)
def displace(image, step, grid, reach, row_of, row_share, column_of, column_share, out):
    """Fetch every pixel from a place off its own, between pixels and mirrored at the borders.

    Args:
        image: The image.
        step: Channels beside each other.
        grid: (2, rows, columns) displacements in [-1, 1] along rows and columns.
        reach: Their size in pixels.
        row_of: For each image row the grid row above it.
        row_share: Weight of the grid row below.
        column_of: For each image column the grid column before it.
        column_share: Weight of the grid column after.
        out: The result.
    """
    height = image.shape[0]
    width = image.shape[1] // step
    line = np.empty((2, grid.shape[2]), dtype=np.float32)
    zero, half = np.float32(0.0), np.float32(0.5)
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for y in range(height):
        for axis in range(2):
            upper, lower = grid[axis, row_of[y]], grid[axis, row_of[y] + 1]
            for x in range(line.shape[1]):
                line[axis, x] = upper[x] + row_share[y] * (lower[x] - upper[x])
        for x in range(width):
            place, share = column_of[x], column_share[x]
            down = line[0, place] + share * (line[0, place + 1] - line[0, place])
            along = line[1, place] + share * (line[1, place + 1] - line[1, place])
            row = np.float32(y) + reach * down
            column = np.float32(x) + reach * along
            # Half-sample mirror once, then hold: reach stays below the side of any image but
            # the tiniest.
            row = -(row + half) - half if row < -half else row
            row = bottom + bottom + np.float32(1.0) - row if row > bottom + half else row
            column = -(column + half) - half if column < -half else column
            column = right + right + np.float32(1.0) - column if column > right + half else column
            row = min(max(row, zero), bottom)
            column = min(max(column, zero), right)
            above, before = int(row), int(column)
            v, u = row - np.float32(above), column - np.float32(before)
            under = min(above + 1, height - 1)
            after = min(before + 1, width - 1)
            for channel in range(step):
                a = image[above, before * step + channel]
                b = image[above, after * step + channel]
                c = image[under, before * step + channel]
                d = image[under, after * step + channel]
                top = a + u * (b - a)
                low = c + u * (d - c)
                out[y, x * step + channel] = top + v * (low - top)


@numba.njit(cache=True, nogil=True)
def bin_down(image, step, row_first, row_weight, column_first, column_weight, out):
    """Average over cells with fractional borders.

    Args:
        image: uint8 or float32 image.
        step: Channels beside each other.
        row_first: For each image row the first cell row that it belongs to.
        row_weight: (rows, 2) its weight there and in the next.
        column_first: The same for columns.
        column_weight: (columns, 2).
        out: float32 (cell rows + 1, (cell columns + 1) * step); the last of each is scratch.
    """
    height, width = image.shape
    line = np.zeros((2, width), dtype=np.float32)
    current = 0
    for y in range(height + 1):
        cell = row_first[y] if y < height else current + 1
        if cell != current:
            target = out[current]
            done = line[0]
            for channel in range(step):
                # What a pixel gives to the next cell is the first that this cell gets.
                total, rest, filled = np.float32(0.0), np.float32(0.0), 0
                for column in range(width // step):
                    if column_first[column] != filled:
                        target[filled * step + channel] = total
                        total, filled = rest, column_first[column]
                    value = done[column * step + channel]
                    total += column_weight[column, 0] * value
                    rest = column_weight[column, 1] * value
                target[filled * step + channel] = total
            line[0] = line[1]
            line[1] = 0.0
            current = cell
        if y == height:
            break
        values = image[y]
        first, second = row_weight[y, 0], row_weight[y, 1]
        here, there = line[0], line[1]
        for x in range(width):
            here[x] += first * np.float32(values[x])
        if second != 0.0:
            for x in range(width):
                there[x] += second * np.float32(values[x])


@numba.njit(cache=True, nogil=True)
def enlarge(cells, row_of, row_share, left, right, column_share, scratch, out):
    """Linear interpolation of a small image, each of its rows enlarged once.

    Args:
        cells: The small image.
        row_of: For each row of the result the cell row above it.
        row_share: Weight of the next cell row.
        left: For each element of a row of the result the element before it.
        right: The element after.
        column_share: Weight of that.
        scratch: Two rows of the result.
        out: float32 result.
    """
    held = -2
    last = cells.shape[0] - 1
    for y in range(out.shape[0]):
        if row_of[y] != held:
            fresh = 1 if row_of[y] == held + 1 else 0
            if fresh == 1:
                scratch[0] = scratch[1]
            for which in range(fresh, 2):
                source = cells[min(row_of[y] + which, last)]
                target = scratch[which]
                for x in range(left.size):
                    before = source[left[x]]
                    target[x] = before + column_share[x] * (source[right[x]] - before)
            held = row_of[y]
        upper, lower, share, result = scratch[0], scratch[1], row_share[y], out[y]
        for x in range(left.size):
            result[x] = upper[x] + share * (lower[x] - upper[x])


@numba.njit(cache=True, nogil=True)
def halve(plane, rows, columns, start, line, pairs, out):
    """Every other pixel of a plane filtered by 1, 4, 6, 4, 1 along both axes, with margins.

    Args:
        plane: (H, W) uint8.
        rows: (2 R + 3,) rows of the plane under the filter: row r takes five from 2 r on.
        columns: (2 C + 4,) places in the line where each of them finds its value.
        start: Place in the line of the plane's first column, even.
        line: (2 C + 4,) uint16 to work in.
        pairs: The same memory as int32.
        out: (R, C) float32, in levels.
    """
    width = plane.shape[1]
    inside = line[start : start + width]
    four, six = np.uint16(4), np.uint16(6)
    first, middle, last = pairs[:-2], pairs[1:-1], pairs[2:]
    low, sixteen, unit = np.int32(0xFFFF), np.int32(16), np.float32(1.0 / 256.0)
    for row in range(out.shape[0]):
        a, b, c = plane[rows[2 * row]], plane[rows[2 * row + 1]], plane[rows[2 * row + 2]]
        d, e = plane[rows[2 * row + 3]], plane[rows[2 * row + 4]]
        for x in range(width):
            outer = np.uint16(np.uint16(a[x]) + np.uint16(e[x]))
            inner = np.uint16(np.uint16(np.uint16(b[x]) + np.uint16(d[x])) * four)
            inside[x] = np.uint16(np.uint16(outer + inner) + np.uint16(np.uint16(c[x]) * six))
        for x in range(start):
            line[x] = line[columns[x]]
        for x in range(start + width, len(line)):
            line[x] = line[columns[x]]
        result = out[row]
        # Pairs of neighbours, for the compiler is poor at taking every other value.
        for x in range(len(result)):
            ends = (first[x] & low) + (last[x] & low)
            sides = (first[x] >> sixteen) + (middle[x] >> sixteen)
            result[x] = np.float32(ends + 4 * sides + 6 * (middle[x] & low)) * unit


@numba.njit(cache=True, nogil=True)
def double(small, margin, lines, pairs, levels, out):
    """Undo `halve`: zeros between the pixels, filtered by 1, 4, 6, 4, 1 along both axes.

    Args:
        small: (R, C) float32, in levels.
        margin: Of its pixels on each side, at least 1.
        lines: (2, W / 2 + 2) float32 to work in.
        pairs: (W / 2,) uint16 to work in.
        levels: The same memory as uint8.
        out: (H, W) uint8, rounded.
    """
    height, width = out.shape
    count = len(pairs)
    eighth, half = np.float32(0.125), np.float32(0.5)
    most, least = np.int32(255), np.int32(0)
    for row in range((height + 1) // 2):
        above, here, below = small[margin + row - 1], small[margin + row], small[margin + row + 1]
        above, here = above[margin - 1 :][: count + 2], here[margin - 1 :][: count + 2]
        below = below[margin - 1 :][: count + 2]
        even, odd = lines[0], lines[1]
        for x in range(count + 2):
            even[x] = (above[x] + below[x]) * eighth + here[x] * np.float32(0.75)
            odd[x] = (here[x] + below[x]) * half
        for turn in range(min(2, height - 2 * row)):
            left = lines[turn][:count]
            middle = lines[turn][1 : count + 1]
            right = lines[turn][2 : count + 2]
            for x in range(count):
                one = (left[x] + right[x]) * eighth + middle[x] * np.float32(0.75)
                two = (middle[x] + right[x]) * half
                whole_one = min(max(np.int32(one + half), least), most)
                whole_two = min(max(np.int32(two + half), least), most)
                pairs[x] = np.uint16(whole_one | (whole_two << 8))
            result = out[2 * row + turn]
            for x in range(width):
                result[x] = levels[x]
