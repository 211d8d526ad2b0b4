"""Compiled tables between display values and linear light, and to and from 8 bits."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def look_up(values, table, out):
    """``out[i] = table[values[i]]`` for flat uint8 ``values``."""
    for place in range(values.size):
        out[place] = table[values[place]]


@numba.njit(cache=True, nogil=True)
def interpolate(values, table, root, out):
    """Read a table over [0, 1] between its entries, at flat float32 values or their roots.

    Values outside [0, 1] are clamped; NaN reads the first entry.
    """
    last = table.size - 2
    steps = numba.float32(table.size - 1)
    for place in range(values.size):
        value = values[place]
        value = min(value, numba.float32(1.0)) if value > numba.float32(0.0) else numba.float32(0.0)
        if root:
            value = np.sqrt(value)
        at = value * steps
        below = min(numba.int32(at), last)
        share = at - numba.float32(below)
        low = table[below]
        out[place] = low + share * (table[below + 1] - low)


@numba.njit(cache=True, nogil=True)
def nearest(values, table, out):
    """Read a table over [0, 1] at the entry nearest to each flat float32 value, clamped."""
    last = numba.float32(table.size - 1)
    for place in range(values.size):
        at = values[place] * last + numba.float32(0.5)
        at = min(at, last) if at > numba.float32(0.0) else numba.float32(0.0)
        out[place] = table[numba.int32(at)]


@numba.njit(cache=True, nogil=True)
def to_levels(values, out):
    """Flat float32 values in [0, 1] to the nearest of 256 levels, clamped."""
    for place in range(values.size):
        at = values[place] * numba.float32(255.0) + numba.float32(0.5)
        at = min(at, numba.float32(255.0)) if at > numba.float32(0.0) else numba.float32(0.0)
        out[place] = numba.int32(at)
