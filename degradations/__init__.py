"""Graded, physically motivated image degradations.

A degradation is named ``<modality or general>/<name>`` and graded by a severity from 0 (the
identity, bit for bit) to 5. The same image id and seed give the same bits, whatever the batch.

Importing this package loads no torch: listing, parsing and looking up are cheap.

Example:
    >>> import degradations
    >>> (step,) = degradations.parse("general/rotation:3")
    >>> degradations.get(step.name).parameters(step.severity)
    {'angle_deg': 12.0}
"""

from __future__ import annotations

from degradations import (
    ct,
    dermoscopy,
    endoscopy,
    fundus,
    general,
    mri,
    oct,
    pathology,
    ultrasound,
    xray,
)
from degradations.degradation import (
    DOMAINS,
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
    replay,
    touched,
)
from degradations.keys import Key

__all__ = [
    "DOMAINS",
    "Curve",
    "Degradation",
    "DegradationError",
    "Key",
    "Numbers",
    "Profile",
    "Step",
    "apply",
    "ct",
    "dermoscopy",
    "endoscopy",
    "explain",
    "fundus",
    "general",
    "get",
    "mri",
    "names",
    "oct",
    "parse",
    "pathology",
    "register",
    "replay",
    "touched",
    "ultrasound",
    "xray",
]
