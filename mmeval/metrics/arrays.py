"""Checks shared by the metric functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "as_correct", "as_probability", "same_length"]

FloatArray = npt.NDArray[np.float64]


def as_probability(values: npt.ArrayLike, name: str) -> FloatArray:
    """A 1-D float array of at least one value, all within [0, 1].

    Raises:
        ValueError: Otherwise; the message names the argument and what was found.
    """
    array = _vector(values, name)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} contains NaN or infinity; leave those samples out of every argument"
        )
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name} must lie in [0, 1], found {array.min():g} to {array.max():g}")
    return array


def as_correct(values: npt.ArrayLike, name: str = "correct") -> FloatArray:
    """A 1-D array of zeros and ones, as floats.

    Raises:
        ValueError: If anything else is in it, or nothing at all.
    """
    array = _vector(values, name)
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"{name} must hold only 0 and 1, found {wrong[0]:g}")
    return array


def same_length(**arrays: npt.NDArray[Any]) -> None:
    """Check that paired arguments belong to the same samples.

    Raises:
        ValueError: If their lengths differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"arguments must describe the same samples: {found} values")


def _vector(values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, found shape {array.shape}")
    if not array.size:
        raise ValueError(f"{name} is empty; the metric of no samples is undefined")
    return array
