"""Error bars and tests that know which samples belong together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmeval.metrics.arrays import FloatArray, same_length

__all__ = [
    "Interval",
    "Statistic",
    "benjamini_hochberg",
    "clustered_bootstrap",
    "holm",
    "mean",
    "paired_difference",
    "resampled_totals",
]

Statistic = Callable[[FloatArray, FloatArray], FloatArray]
"""Maps column totals (R, k) and sample counts (R,) of R resamples to R values."""

_DRAWS_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """An estimate with its confidence interval; NaN bounds where there is only one cluster."""

    value: float
    low: float
    high: float


def mean(totals: FloatArray, counts: FloatArray) -> FloatArray:
    """The statistic "mean of the first column"."""
    return totals[:, 0] / counts


def clustered_bootstrap(
    values: npt.ArrayLike,
    clusters: Sequence[Hashable] | npt.NDArray[np.generic],
    statistic: Statistic = mean,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence_level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval in which whole clusters (patients, images) are drawn.

    Drawing clusters with replacement keeps the dependence between questions on one patient (Davison
    and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8). The statistic is a
    function of column totals, so a resample is one row of a matrix product and no Python loop runs
    over resamples: a mean, a difference of means, a ratio, a binned error.

    With few clusters, or values that are all equal, the interval is too narrow.

    Args:
        values: Shape (n,) or (n, k): what is summed, one row per sample.
        clusters: n labels.
        statistic: Called with totals (R, k) and numbers of samples (R,); by default the mean.
        n_resamples: Number of resamples.
        seed: The same seed gives the same interval.
        confidence_level: Coverage, within (0, 1).

    Returns:
        The statistic of the sample and the two percentiles.

    Raises:
        ValueError: On empty, unequal or non-finite input.

    Examples:
        >>> values = [1, 1, 0, 0, 1, 1, 0, 0]
        >>> wide = clustered_bootstrap(values, ["a", "a", "b", "b", "c", "c", "d", "d"])
        >>> narrow = clustered_bootstrap(values, range(8))
        >>> wide.value, wide.high - wide.low > narrow.high - narrow.low
        (0.5, True)
    """
    columns = np.asarray(values, dtype=np.float64)
    if columns.ndim == 1:
        columns = columns[:, None]
    if columns.ndim != 2:
        raise ValueError(f"values must have one or two dimensions, found shape {columns.shape}")
    if not len(columns):
        raise ValueError("values is empty; the interval of no samples is undefined")
    if not np.isfinite(columns).all():
        raise ValueError("values contains NaN or infinity; leave those samples out")
    if len(clusters) != len(columns):
        raise ValueError(f"{len(columns)} values, but {len(clusters)} clusters")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, not {n_resamples}")
    if not 0 < confidence_level < 1:
        raise ValueError(f"confidence_level must lie between 0 and 1, not {confidence_level}")

    index = _cluster_index(clusters)
    totals = np.column_stack([columns, np.ones(len(columns))])
    estimate, resampled = resampled_totals(totals, index, n_resamples, seed)
    value = float(statistic(estimate[:, :-1], estimate[:, -1])[0])
    if index.max() == 0:
        return Interval(value, np.nan, np.nan)
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(statistic(resampled[:, :-1], resampled[:, -1]), [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _cluster_index(
    clusters: Sequence[Hashable] | npt.NDArray[np.generic],
) -> npt.NDArray[np.int64]:
    """Numbers clusters in order of appearance, so that labels may be of any hashable type."""
    number: dict[Hashable, int] = {}
    return np.fromiter(
        (number.setdefault(label, len(number)) for label in clusters), np.int64, len(clusters)
    )


def resampled_totals(
    columns: FloatArray, cluster_index: npt.NDArray[np.int64], n_resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Column totals of the sample, shape (1, k), and of each resample of its clusters, (R, k).

    Args:
        columns: Shape (n, k).
        cluster_index: Shape (n,), cluster numbers 0 to m - 1, each occurring.
        n_resamples: R.
        seed: Seed of the draws; equal seed, m and R mean equal draws.
    """
    n_clusters = int(cluster_index.max()) + 1
    by_cluster = np.stack(
        [np.bincount(cluster_index, column, n_clusters) for column in columns.T], axis=1
    )
    generator = np.random.default_rng(seed)
    resampled = np.empty((n_resamples, columns.shape[1]))
    step = max(1, _DRAWS_AT_ONCE // n_clusters)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        # How often each cluster was drawn: a row of multinomial weights per resample.
        drawn = generator.integers(n_clusters, size=(rows, n_clusters), dtype=np.int32)
        drawn += (np.arange(rows, dtype=np.int32) * n_clusters)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * n_clusters)
        resampled[start : start + rows] = weights.reshape(rows, n_clusters) @ by_cluster
    return by_cluster.sum(axis=0, keepdims=True), resampled


def paired_difference(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    clusters: Sequence[Hashable] | npt.NDArray[np.generic],
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence_level: float = 0.95,
) -> Interval:
    """Mean of `after` minus mean of `before` on the same samples, with a clustered interval.

    Each sample is compared with itself, so what makes it easy or hard cancels.

    Raises:
        ValueError: On empty, unequal or non-finite input.

    Examples:
        >>> paired_difference([1, 1, 1, 0], [1, 0, 0, 0], clusters=range(4)).value
        -0.5
    """
    first = np.asarray(before, dtype=np.float64)
    second = np.asarray(after, dtype=np.float64)
    same_length(before=first, after=second)
    return clustered_bootstrap(second - first, clusters, mean, n_resamples, seed, confidence_level)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjusted p-values that keep the chance of any false finding below the level tested at.

    Holm 1979 (Scandinavian Journal of Statistics 6): the k-th smallest of m is multiplied by m - k
    + 1, then made monotone. Valid whatever the dependence between the tests.

    Raises:
        ValueError: If a value lies outside [0, 1].

    Examples:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    values = _p_values(p_values)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def benjamini_hochberg(p_values: npt.ArrayLike) -> FloatArray:
    """Adjusted p-values that keep the expected share of false findings below the level tested at.

    Benjamini and Hochberg 1995 (Journal of the Royal Statistical Society B 57).

    Raises:
        ValueError: If a value lies outside [0, 1].

    Examples:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.04, 0.04]
    """
    from scipy.stats import false_discovery_control

    adjusted: FloatArray = false_discovery_control(_p_values(p_values), method="bh")
    return adjusted


def _p_values(p_values: npt.ArrayLike) -> FloatArray:
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(
            f"p_values must be a list of at least one value, found shape {values.shape}"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p_values must lie in [0, 1]")
    return values
