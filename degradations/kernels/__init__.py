"""Loops compiled by numba for the CPU, where several tensor operations would be slower.

They are an accelerator, not a second definition: whatever they compute, the tensor code computes
to the same bits where the values are whole numbers or random words, and to the same 8-bit level
give or take one elsewhere, and the tests compare the two. Without numba (the extra ``fast``), and
on every other device, the tensor code runs.
"""

from __future__ import annotations

import functools
import importlib.util


@functools.cache
def compiled() -> bool:
    """Whether numba is installed, so that the modules of this package can be imported."""
    return importlib.util.find_spec("numba") is not None
