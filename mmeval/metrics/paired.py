"""The same questions answered twice, and questions that belong together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmeval.metrics.arrays import as_correct, same_length

__all__ = ["FlipMatrix", "McNemar", "flip_matrix", "mcnemar", "paired_accuracy"]


class FlipMatrix(NamedTuple):
    """How many answers stayed or changed between two conditions (before, after)."""

    right_right: int
    right_wrong: int
    wrong_right: int
    wrong_wrong: int


class McNemar(NamedTuple):
    """Result of an exact McNemar test.

    Attributes:
        only_a: Questions that only a answered right.
        only_b: Questions that only b answered right.
        p_value: Two-sided, exact.
    """

    only_a: int
    only_b: int
    p_value: float


def flip_matrix(before: npt.ArrayLike, after: npt.ArrayLike) -> FlipMatrix:
    """Count right → wrong and wrong → right flips between two conditions.

    Args:
        before: Shape (n,), 0 or 1 for each question.
        after: The same questions in the same order.

    Raises:
        ValueError: On empty or unequal input, or other values.

    Examples:
        >>> flip_matrix([1, 1, 1, 0], [1, 0, 0, 1])
        FlipMatrix(right_right=1, right_wrong=2, wrong_right=1, wrong_wrong=0)
    """
    first, second = as_correct(before, "before"), as_correct(after, "after")
    same_length(before=first, after=second)
    cells = np.bincount((2 * (1 - first) + (1 - second)).astype(np.int64), minlength=4)
    return FlipMatrix(*(int(cell) for cell in cells))


def mcnemar(a_correct: npt.ArrayLike, b_correct: npt.ArrayLike) -> McNemar:
    """Exact test of whether two models (or conditions) are equally often right.

    McNemar 1947 (Psychometrika 12) in its exact form: given the questions that only one of the two
    answered right, each is as likely to be either's, a two-sided binomial test at 1/2.
    Questions are taken as independent; with several per patient prefer a clustered bootstrap.

    Raises:
        ValueError: On empty or unequal input, or values other than 0 and 1.

    Examples:
        >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1, 0])
        McNemar(only_a=5, only_b=0, p_value=0.0625)
    """
    from scipy.stats import binomtest

    flips = flip_matrix(a_correct, b_correct)
    only_a, only_b = flips.right_wrong, flips.wrong_right
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p_value)


def paired_accuracy(correct: npt.ArrayLike, groups: Sequence[Hashable]) -> float:
    """Share of groups in which every question is answered right.

    A model that says "yes" to everything is right on half of all negation pairs and on no pair;
    ProbMed (arXiv:2405.20421) and MediConfusion (arXiv:2409.15477) score their pairs so.

    Args:
        correct: Shape (n,), 0 or 1.
        groups: The group of each question, n hashable labels.

    Raises:
        ValueError: On empty or unequal input, or values other than 0 and 1.

    Examples:
        >>> paired_accuracy([1, 1, 1, 0], ["p1", "p1", "p2", "p2"])
        0.5
    """
    right = as_correct(correct)
    if len(groups) != len(right):
        raise ValueError(f"{len(right)} values of correct, but {len(groups)} groups")
    worst: defaultdict[Hashable, float] = defaultdict(lambda: 1.0)
    for group, value in zip(groups, right, strict=True):
        worst[group] = min(worst[group], float(value))
    return sum(worst.values()) / len(worst)
