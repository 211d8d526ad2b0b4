"""Compiled passes over the complex image that ends as a magnitude."""

from __future__ import annotations

import numba
import numpy as np

from degradations.kernels.noise import _fill

_BLOCK = 1024
_u32 = numba.uint32
_f32 = numba.float32


@numba.njit(cache=True, nogil=True)
def add_wave(values, rows, columns, out):
    """``abs(values + wave)`` of one plane, the wave being ``rows[:, None] * columns``.

    Args:
        values: (H, W) float32.
        rows: (2, H) float32, real and imaginary parts.
        columns: (2, W) float32.
        out: As values.
    """
    real, imaginary = columns[0], columns[1]
    for row in range(values.shape[0]):
        a, b = rows[0, row], rows[1, row]
        line, target = values[row], out[row]
        for column in range(values.shape[1]):
            c, d = real[column], imaginary[column]
            in_phase = line[column] + (a * c - b * d)
            quadrature = a * d + b * c
            target[column] = np.sqrt(in_phase * in_phase + quadrature * quadrature)


@numba.njit(cache=True, nogil=True)
def add_shifted(values, shifts, weights, out):
    """``abs(sum(weights[j] * values rolled down by shifts[j]))`` of one float32 plane (H, W)."""
    height = values.shape[0]
    for row in range(height):
        target = out[row]
        source = values[(row - shifts[0]) % height]
        weight = weights[0]
        for column in range(target.size):
            target[column] = weight * source[column]
        for copy in range(1, shifts.size):
            source = values[(row - shifts[copy]) % height]
            weight = weights[copy]
            for column in range(target.size):
                target[column] += weight * source[column]
        for column in range(target.size):
            target[column] = abs(target[column])


@numba.njit(cache=True, nogil=True)
def _magnitude(values, halves, table, sigma, out):
    for place in range(values.size):
        in_phase = values[place] + sigma * table[np.int64(halves[2 * place]) + 32768]
        quadrature = sigma * table[np.int64(halves[2 * place + 1]) + 32768]
        out[place] = np.sqrt(in_phase * in_phase + quadrature * quadrature)


@numba.njit(cache=True, nogil=True)
def add_complex_noise(values, table, sigma, key, out):
    """Magnitude of flat float32 values with normal noise of ``sigma`` in both parts."""
    words = np.empty(_BLOCK, np.uint32)
    halves = words.view(np.int16)
    for start in range(0, values.size, _BLOCK):
        here = slice(start, min(start + _BLOCK, values.size))
        _fill(words, _u32(start), key[0], key[1])
        _magnitude(values[here], halves, table, sigma, out[here])


@numba.njit(cache=True, nogil=True)
def hypotenuse(real, imaginary, out):
    """``sqrt(real ** 2 + imaginary ** 2)`` of flat float32 values."""
    for place in range(out.size):
        a, b = real[place], imaginary[place]
        out[place] = np.sqrt(a * a + b * b)


@numba.njit(cache=True, nogil=True)
def add_products(rows, columns, out):
    """Sum of four outer products: ``out = rows.T @ columns`` for (4, H) and (4, W) float32."""
    for row in range(out.shape[0]):
        a, b, c, d = rows[0, row], rows[1, row], rows[2, row], rows[3, row]
        target = out[row]
        for column in range(target.size):
            value = a * columns[0, column] + b * columns[1, column]
            target[column] = value + (c * columns[2, column] + d * columns[3, column])


@numba.njit(cache=True, nogil=True)
def shift_rows(packed, shifts, reached):
    """Shift rows to the right, given the transform of each, in place.

    Args:
        packed: (L, N) float32 transforms as OpenCV packs them: r0, r1, i1, r2, i2, ...
        shifts: (L,) float64, in pixels.
        reached: Number of bins worked on, those before.
    """
    size = packed.shape[1]
    fine = np.empty((2, 32), np.float32)
    for row in range(packed.shape[0]):
        line = packed[row]
        angle = -2.0 * np.pi * shifts[row] / size
        # Powers by multiplication in double precision; sines would take most of the time.
        step = complex(np.cos(angle), np.sin(angle))
        turned = complex(1.0, 0.0)
        for place in range(32):
            fine[0, place] = turned.real
            fine[1, place] = turned.imag
            turned *= step
        coarse = complex(1.0, 0.0)
        for start in range(0, reached, 32):
            c, s = _f32(coarse.real), _f32(coarse.imag)
            coarse *= turned
            for place in range(max(1 - start, 0), min(32, (size + 1) // 2 - start)):
                u = c * fine[0, place] - s * fine[1, place]
                v = c * fine[1, place] + s * fine[0, place]
                at = 2 * (start + place)
                a, b = line[at - 1], line[at]
                line[at - 1] = a * u - b * v
                line[at] = a * v + b * u
        if size % 2 == 0:
            line[size - 1] *= _f32(np.cos(angle * (size // 2)))


@numba.njit(cache=True, nogil=True)
def add_lines(packed, even, odd, first, last, to_even, to_odd):
    """Add weighted bins of packed transforms to the two parts of a complex image.

    Args:
        packed: (L, N) as for `shift_rows`.
        even: (2, N // 2 + 1) float32, weights for the real part: their real and imaginary parts.
        odd: The same for the imaginary part.
        first: First bin whose weights are not all zero.
        last: The bin after the last.
        to_even: (L, N); gets ``even * bins``.
        to_odd: (L, N); gets ``-i * odd * bins``.
    """
    size = packed.shape[1]
    for row in range(packed.shape[0]):
        line, real, imaginary = packed[row], to_even[row], to_odd[row]
        if first == 0:
            real[0] += even[0, 0] * line[0]
        for place in range(max(first, 1), min(last, (size + 1) // 2)):
            a, b = line[2 * place - 1], line[2 * place]
            real[2 * place - 1] += a * even[0, place] - b * even[1, place]
            real[2 * place] += a * even[1, place] + b * even[0, place]
            imaginary[2 * place - 1] += a * odd[1, place] + b * odd[0, place]
            imaginary[2 * place] += b * odd[1, place] - a * odd[0, place]
        if size % 2 == 0 and last > size // 2:
            real[size - 1] += even[0, size // 2] * line[size - 1]
