"""Resampling whole clusters once for all conditions and groups of a run.

Every condition and group sees the same resamples, so that differences between them are paired. A
resample is a weight for each cluster: how often it was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmeval.metrics.arrays import FloatArray
from mmeval.metrics.statistics import drawn_weights

__all__ = ["Cells", "cells", "resample_weights"]

Weights = npt.NDArray[np.uint8]

_ROWS_AT_ONCE = 2_048
_MOST_CELLS = 256


def resample_weights(n_clusters: int, n_resamples: int, seed: int) -> Weights:
    """How often each cluster is drawn in each resample.

    The same draws as `mmeval.metrics.clustered_bootstrap` makes with this seed, number of clusters
    and number of resamples. One byte each: a cluster of many is never drawn 256 times.

    Returns:
        Shape (n_clusters, n_resamples); each column adds up to n_clusters.
    """
    weights = np.empty((n_clusters, n_resamples), dtype=np.uint8)
    for some, drawn in drawn_weights(n_clusters, n_resamples, seed):
        weights[:, some] = drawn.T
    return weights


@dataclass(frozen=True)
class Cells:
    """Samples in the cells of several breakdowns taken together, within each the clusters.

    One row per cell and cluster that occur together, in order of cells. Totals of a group of
    questions are sums over its cells, so that each sample enters one matrix product, however many
    groups it is in.

    Attributes:
        row: Shape (m,), the row of each sample.
        cluster: The cluster of each row.
        cell: The cell of each row.
        member: Shape (groups, cells), whether a group has a cell.
    """

    row: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int64]
    member: npt.NDArray[np.bool_]

    @cached_property
    def bounds(self) -> npt.NDArray[np.int64]:
        """Where in the rows each cell begins; one more than there are cells."""
        return np.searchsorted(self.cell, np.arange(self.member.shape[1] + 1))

    def sums(self, column: FloatArray, samples: npt.NDArray[np.integer]) -> FloatArray:
        """Sums of a column of values per response over the rows."""
        return np.bincount(self.row[samples], column, len(self.cluster)).astype(np.float64)

    def totals(self, by_row: FloatArray) -> FloatArray:
        """Totals of each group, shape (groups, k), of row sums, shape (rows, k)."""
        by_cell = np.stack(
            [np.bincount(self.cell, column, self.member.shape[1]) for column in by_row.T], axis=1
        )
        return np.asarray(self.member @ by_cell, dtype=np.float64)

    def resampled(self, by_row: FloatArray, weights: Weights) -> FloatArray:
        """Totals of each group in each resample, shape (groups, k, resamples)."""
        found = np.zeros((len(self.member), by_row.shape[1], weights.shape[1]))
        for cell, (start, stop) in enumerate(zip(self.bounds[:-1], self.bounds[1:], strict=True)):
            here = by_row[start:stop]
            if not here.any():
                continue
            total = np.zeros(found.shape[1:])
            for first in range(start, stop, _ROWS_AT_ONCE):
                last = min(first + _ROWS_AT_ONCE, stop)
                drawn = weights[self.cluster[first:last]].astype(np.float64)
                total += by_row[first:last].T @ drawn
            for group in np.flatnonzero(self.member[:, cell]):
                found[group] += total
        return found

    def n_clusters(self, has: npt.NDArray[np.bool_], group: int) -> int:
        """Number of clusters in a group with a row where `has` is true."""
        return int(np.count_nonzero(np.bincount(self.cluster[has & self.member[group, self.cell]])))


def cells(
    cluster: npt.NDArray[np.integer], families: Sequence[npt.NDArray[np.integer]]
) -> list[tuple[Cells, list[int]]]:
    """Lay out samples for resampling.

    Args:
        cluster: Shape (m,), cluster numbers.
        families: Breakdowns, each shape (m,): the group of each sample, -1 for none. Groups of all
            families are numbered alike, without gaps.

    Returns:
        Layouts, and which groups each is for. Breakdowns are taken together as long as their cells
        stay few.
    """
    found: list[tuple[Cells, list[int]]] = []
    together: list[npt.NDArray[np.integer]] = []
    for family in [*families, None]:
        if family is not None:
            codes = np.stack([*together, family], axis=1)
            # Without counts numpy would load its masked arrays, which takes longer than this.
            distinct, _ = np.unique(codes, axis=0, return_counts=True)
            if not together or len(distinct) <= _MOST_CELLS:
                together.append(family)
                continue
        if together:
            found.append(_layout(cluster, np.stack(together, axis=1)))
        together = [family] if family is not None else []
    return found


def _layout(
    cluster: npt.NDArray[np.integer], codes: npt.NDArray[np.integer]
) -> tuple[Cells, list[int]]:
    distinct, cell = np.unique(codes, axis=0, return_inverse=True)
    n_clusters = int(cluster.max()) + 1
    pairs, row = np.unique(cell.ravel() * n_clusters + cluster, return_inverse=True)
    groups = sorted({int(group) for group in distinct.ravel() if group >= 0})
    member = np.array([(distinct == group).any(axis=1) for group in groups])
    return Cells(row.ravel(), pairs % n_clusters, pairs // n_clusters, member), groups
