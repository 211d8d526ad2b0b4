"""Metrics over plain arrays: usable without a run, a model or an image.

Every function takes arrays or lists, checks them, and returns plain numbers. Errors of a model (no
answer at all) must be left out by the caller; answers that could not be read count as wrong.
"""

from __future__ import annotations

from mmeval.metrics.calibration import (
    ReliabilityCurve,
    area_under_risk_coverage,
    auroc,
    brier_score,
    calibration_shift,
    expected_calibration_error,
    reliability_curve,
    voting_confidence,
)
from mmeval.metrics.paired import FlipMatrix, McNemar, flip_matrix, mcnemar, paired_accuracy
from mmeval.metrics.statistics import (
    Interval,
    benjamini_hochberg,
    clustered_bootstrap,
    holm,
    paired_difference,
)

__all__ = [
    "FlipMatrix",
    "Interval",
    "McNemar",
    "ReliabilityCurve",
    "area_under_risk_coverage",
    "auroc",
    "benjamini_hochberg",
    "brier_score",
    "calibration_shift",
    "clustered_bootstrap",
    "expected_calibration_error",
    "flip_matrix",
    "holm",
    "mcnemar",
    "paired_accuracy",
    "paired_difference",
    "reliability_curve",
    "voting_confidence",
]
