"""Does the model know when it is right? Confidence against correctness."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmeval.metrics.arrays import FloatArray, as_correct, as_probability, same_length

__all__ = [
    "ReliabilityCurve",
    "area_under_risk_coverage",
    "auroc",
    "bin_index",
    "brier_score",
    "calibration_shift",
    "expected_calibration_error",
    "reliability_curve",
    "voting_confidence",
]

Strategy = Literal["width", "mass"]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Mean confidence and accuracy of the occupied bins, in order of confidence.

    Attributes:
        confidence: Mean confidence of each bin.
        accuracy: Share of right answers in each bin.
        count: Samples in each bin.
    """

    confidence: FloatArray
    accuracy: FloatArray
    count: npt.NDArray[np.int64]


def bin_index(
    confidence: FloatArray, n_bins: int = 15, strategy: Strategy = "width"
) -> npt.NDArray[np.int64]:
    """Bin number, 0 to n_bins - 1, of each confidence.

    "width": bins [k/n, (k+1)/n), the last closed, so that a confidence of exactly 1.0 shares the
    bin of 0.99. "mass": samples in order of confidence, cut into n_bins runs whose sizes differ by
    at most one; equal confidences may fall on both sides of a cut, in order of position.

    Raises:
        ValueError: If n_bins is below 1 or the strategy unknown.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    if strategy == "width":
        return np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    if strategy == "mass":
        rank = np.empty(len(confidence), dtype=np.int64)
        rank[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
        return rank * n_bins // len(confidence)
    raise ValueError(f"strategy must be 'width' or 'mass', not {strategy!r}")


def reliability_curve(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    n_bins: int = 15,
    strategy: Strategy = "width",
) -> ReliabilityCurve:
    """Accuracy against confidence, bin by bin.

    Args:
        confidence: Shape (n,), in [0, 1].
        correct: Shape (n,), 0 or 1.
        n_bins: Number of bins; empty ones are left out of the result.
        strategy: "width" or "mass", see `bin_index`.

    Raises:
        ValueError: On empty, unequal or out-of-range input.

    Examples:
        >>> curve = reliability_curve([0.2, 0.3, 0.9, 1.0], [0, 1, 1, 1], n_bins=2)
        >>> curve.confidence.tolist(), curve.accuracy.tolist(), curve.count.tolist()
        ([0.25, 0.95], [0.5, 1.0], [2, 2])
    """
    conf, right = _pair(confidence, correct)
    index = bin_index(conf, n_bins, strategy)
    count = np.bincount(index, minlength=n_bins)
    used = count > 0
    return ReliabilityCurve(
        confidence=np.bincount(index, conf, n_bins)[used] / count[used],
        accuracy=np.bincount(index, right, n_bins)[used] / count[used],
        count=count[used],
    )


def expected_calibration_error(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    n_bins: int = 15,
    strategy: Strategy = "width",
) -> float:
    """Mean distance between confidence and accuracy over bins, weighted by their samples.

    Naeini et al. 2015 (AAAI, "Obtaining well calibrated probabilities using Bayesian binning") and
    Guo et al. 2017 (arXiv:1706.04599, eq. 3). Confidence 1.0 belongs to the last bin; giving it a
    bin of its own changes the value wherever a model is certain. Biased upwards when samples are
    few.

    Args:
        confidence: Shape (n,), in [0, 1].
        correct: Shape (n,), 0 or 1.
        n_bins: Number of bins.
        strategy: "width" (equal width) or "mass" (equal number of samples).

    Raises:
        ValueError: On empty, unequal or out-of-range input.

    Examples:
        >>> confidence = [1.0] * 50 + [0.95] * 50
        >>> correct = [1] * 40 + [0] * 10 + [1] * 50
        >>> round(expected_calibration_error(confidence, correct), 6)
        0.075
    """
    curve = reliability_curve(confidence, correct, n_bins, strategy)
    gaps = np.abs(curve.confidence - curve.accuracy)
    return float(np.average(gaps, weights=curve.count))


def brier_score(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean squared distance between confidence and correctness: 0 is best, 1 worst.

    Brier 1950 (Monthly Weather Review 78), of the event "the given answer is right".

    Raises:
        ValueError: On empty, unequal or out-of-range input.

    Examples:
        >>> brier_score([1.0, 0.5], [1, 0])
        0.125
    """
    conf, right = _pair(confidence, correct)
    return float(np.mean((conf - right) ** 2))


def calibration_shift(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean confidence minus accuracy: above 0 over-confident, below 0 under-confident.

    MedQ-Deg (arXiv:2603.07769), section on calibration; a difference of two means, so that over-
    and under-confident samples cancel.

    Raises:
        ValueError: On empty, unequal or out-of-range input.

    Examples:
        >>> calibration_shift([0.75, 1.0], [1, 0])
        0.375
    """
    conf, right = _pair(confidence, correct)
    return float(conf.mean() - right.mean())


def voting_confidence(votes: Sequence[Hashable], n_options: int) -> float:
    """Agreement of repeated answers to one question: 1 − H/log K, in [0, 1].

    H is the entropy of the votes over the K options (MedQ-Deg, arXiv:2603.07769, asks each question
    10 times at temperature 1.0). 1: every vote the same; 0: all options equally often. Leave out
    votes that are not one of the options.

    Args:
        votes: The answers given.
        n_options: Number of options K, at least 2.

    Raises:
        ValueError: Without votes, with fewer than two options, or more different votes than
        options.

    Examples:
        >>> round(voting_confidence(["B"] * 7 + ["A"] * 3, n_options=4), 6)
        0.559355
    """
    counts = Counter(votes)
    if not counts:
        raise ValueError("votes is empty; the confidence of no answers is undefined")
    if n_options < 2:
        raise ValueError(f"n_options must be at least 2, not {n_options}")
    if len(counts) > n_options:
        raise ValueError(f"{len(counts)} different votes on {n_options} options")
    total = counts.total()
    entropy = -math.fsum(n / total * math.log(n / total) for n in counts.values())
    return max(0.0, 1.0 - entropy / math.log(n_options))


def auroc(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Probability that a right answer has more confidence than a wrong one; ties count half.

    The Mann–Whitney statistic (Hanley and McNeil 1982, Radiology 143). NaN if all answers are right
    or all are wrong.

    Raises:
        ValueError: On empty, unequal or out-of-range input.

    Examples:
        >>> auroc([0.9, 0.6, 0.7, 0.2], [1, 1, 0, 0])
        0.75
    """
    from scipy.stats import rankdata

    conf, right = _pair(confidence, correct)
    n_right = int(right.sum())
    n_wrong = len(right) - n_right
    if not n_right or not n_wrong:
        return math.nan
    rank_sum = float(rankdata(conf)[right == 1].sum())
    return (rank_sum - n_right * (n_right + 1) / 2) / (n_right * n_wrong)


def area_under_risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean error rate over all coverages when the least confident answers are withheld first.

    Geifman et al. 2019 (arXiv:1805.08206, section 2): the mean over k of the error rate among the k
    most confident answers. Lower is better. Answers of equal confidence share their mean error, so
    that the order of the samples does not matter.

    Raises:
        ValueError: On empty, unequal or out-of-range input.

    Examples:
        >>> round(area_under_risk_coverage([0.9, 0.8, 0.7], [1, 0, 1]), 4)
        0.2778
    """
    conf, right = _pair(confidence, correct)
    _, group = np.unique(-conf, return_inverse=True)
    error = (np.bincount(group, 1 - right) / np.bincount(group))[group]
    error = error[np.argsort(group, kind="stable")]
    return float(np.mean(np.cumsum(error) / np.arange(1, len(error) + 1)))


def _pair(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    conf, right = as_probability(confidence, "confidence"), as_correct(correct)
    same_length(confidence=conf, correct=right)
    return conf, right
