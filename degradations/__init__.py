"""Graded, physically motivated image degradations.

A degradation is named ``<modality or general>/<name>`` and graded by a severity from 0 (the
identity, bit for bit) to 5. The same image id and seed give the same bits, whatever the batch.

Importing this package loads no torch: listing, parsing and looking up are cheap.

Example:
    >>> import degradations
    >>> (step,) = degradations.parse("general/gaussian_noise:3")
    >>> degradations.get(step.name).parameters(step.severity)
    {'sigma': 0.18}
"""

from __future__ import annotations

from degradations import ct, general, pathology
from degradations.degradation import (
    Curve,
    Degradation,
    DegradationError,
    Numbers,
    Profile,
    Step,
    apply,
    explain,
    get,
    names,
    parse,
    register,
)
from degradations.keys import Key

__all__ = [
    "Curve",
    "Degradation",
    "DegradationError",
    "Key",
    "Numbers",
    "Profile",
    "Step",
    "apply",
    "ct",
    "explain",
    "general",
    "get",
    "names",
    "parse",
    "pathology",
    "register",
]
