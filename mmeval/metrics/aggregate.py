"""From the scores of a run to tidy rows: one metric, one condition, one group of questions each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from mmeval.metrics.arrays import FloatArray
from mmeval.metrics.calibration import FEW_SAMPLES, surprise
from mmeval.metrics.ranked import (
    ECE_BINS,
    Figure,
    binned_error,
    mean_figure,
    ranked_figures,
)
from mmeval.metrics.recalibration import METHODS, Recalibration, fit_recalibration, folds
from mmeval.metrics.resampling import Cells, cells, resample_weights
from mmeval.metrics.robustness import crossings, detection, order_quantiles, trapezoid
from mmeval.metrics.table import STATUSES, Table, tables
from mmeval.schema import PURPOSES, Score

__all__ = [
    "ECE_BINS",
    "GROUP_TAGS",
    "LOSS_MARGIN",
    "METRICS",
    "Row",
    "aggregate",
    "aggregate_table",
]

METRICS: Mapping[str, str] = {
    "accuracy": "share of right answers; unparsed and refused are wrong, errors are left out",
    "chance": "share that blind guessing gets right, over the questions where it is known",
    "paired_accuracy_negation": "share of questions right together with their negation",
    "paired_accuracy_hallucination": "share right together with their hallucinated counterpart",
    "mean_confidence": "mean confidence in the given answer",
    "calibration_shift": "mean confidence minus accuracy; above 0 is over-confident",
    "ece": "expected calibration error, 15 bins of equal width",
    "ece_mass": "expected calibration error, 15 bins of equal mass; ties stay together",
    "ece_debiased": "ece minus what noise in the bins' accuracies adds to it",
    "brier": "mean squared distance of confidence from correctness",
    "brier_reliability": "part of the Brier score: squared distance of confidence from accuracy "
    "over 15 bins; 0 is calibrated",
    "brier_resolution": "part of the Brier score: spread of the bins' accuracies; higher is better",
    "brier_uncertainty": "part of the Brier score: accuracy times error rate",
    "nll": "mean surprise at right or wrong given the confidence, which is kept 1e-6 from 0 and 1",
    "auroc": "chance that a right answer has more confidence than a wrong one; ties count half",
    "aurc": "mean error rate over all coverages, least confident answers withheld first",
    "excess_aurc": "aurc minus that of the best possible order; 0 is a perfect ranking",
    "selective_accuracy_50": "accuracy on the more confident half of the answers",
    "selective_accuracy_80": "accuracy on the most confident 80 % of the answers",
    "accuracy_drop": "accuracy on clean images minus accuracy here, on the same questions",
    "relative_drop": "accuracy_drop over accuracy on clean images",
    "image_reliance": "accuracy on the right image minus accuracy under this control",
    "right_to_wrong": "share of questions right on clean images and wrong here",
    "wrong_to_right": "share of questions wrong on clean images and right here",
    "answer_changed": "share of questions answered otherwise than on clean images, right or wrong; "
    "no readable answer is an answer of its own",
    "calibration_shift_change": "calibration shift here minus on clean images, same questions",
    "accuracy_clean": "accuracy on clean images over the questions of this condition",
    "mean_confidence_clean": "mean confidence on clean images over the questions of this condition",
    "calibration_shift_clean": "calibration shift on clean images over the same questions",
    "yes_bias": "share of yes among the readable answers minus share of yes among the right ones",
    "d_prime": "how well yes is told from no, whatever the liking for yes; 0 is guessing",
    "criterion": "liking for yes, apart from d_prime; below 0 yes is preferred, above 0 no",
    "vote_accuracy": "share of right votes, over all votes",
    "vote_accuracy_drop": "share of right votes on clean images minus here, over questions",
    "majority_accuracy": "share of questions whose most frequent vote is right; ties share it",
    "calibration_shift_trial_mean": "calibration shift of MedQ-Deg: mean voting confidence minus "
    "share of right votes, over questions",
    "calibration_shift_majority": "calibration shift of MedQ-Deg, with the accuracy of the most "
    "frequent vote",
    "calibration_shift_trial_mean_change": "calibration_shift_trial_mean here minus on clean "
    "images, same questions",
    **{
        f"{metric}_{method}": f"{text} after {name}, fitted to clean answers of other patients"
        for method, name in (
            ("temperature", "temperature scaling"),
            ("platt", "Platt scaling"),
            ("isotonic", "isotonic regression"),
        )
        for metric, text in (
            ("calibration_shift", "calibration shift"),
            ("ece", "expected calibration error"),
            ("brier", "Brier score"),
        )
    },
    "requests_per_question": "requests that a confidence takes beside the answer",
    "tokens_per_question": "prompt and completion tokens per question: of the answer, or of what a "
    "confidence takes beside it",
    "cost_usd_per_question": "dollars for these tokens, at the price in the model's configuration",
    "accuracy_area": "mean accuracy along the severities of a degradation, clean to highest, by "
    "the trapezoid rule",
    "accuracy_drop_mean": "mean accuracy drop over the severities of a degradation",
    "accuracy_drop_overall": "mean of accuracy_drop_mean over degradations, each counting alike",
    "relative_drop_mean": "mean accuracy drop over the severities, over accuracy on clean images",
    "severity_at_loss": "severity from which more than 0.05 of accuracy is lost, interpolated; "
    "null where no tested severity loses that much, as is a bound",
    "dunning_kruger": "1 if at the highest severity accuracy is lower and calibration shift not "
    "lower than on clean images (MedQ-Deg), else 0",
    "dunning_kruger_support": "share of resamples of patients in which dunning_kruger is 1",
    "corruption_error": "mean error over severities, over that of a reference run",
    "relative_corruption_error": "error added by degradation, over that added in a reference run",
    "mean_corruption_error": "mean of corruption_error over degradations (mCE, BE)",
    "mean_relative_corruption_error": "mean of relative_corruption_error over degradations (rBE)",
}
"""Every metric a row can hold, with what it says."""

GROUP_TAGS = ("task", "modality", "organ")
LOSS_MARGIN = 0.05
"""How much accuracy may be lost before `severity_at_loss`."""
FEWEST_TO_FIT = 100
"""Clean answers from which recalibrations are fitted."""

_ORDER = {metric: number for number, metric in enumerate(METRICS)}
_SHARES = {
    "accuracy",
    "accuracy_clean",
    "vote_accuracy",
    "majority_accuracy",
    "paired_accuracy_negation",
    "paired_accuracy_hallucination",
    "right_to_wrong",
    "wrong_to_right",
    "answer_changed",
}
_BINNED = {
    "ece",
    "ece_mass",
    "ece_debiased",
    "brier_reliability",
    "brier_resolution",
    *(f"ece_{method}" for method in METHODS),
}
_UNITS = {
    "nll": "nat",
    "d_prime": "z",
    "criterion": "z",
    "requests_per_question": "requests",
    "tokens_per_question": "tokens",
    "cost_usd_per_question": "USD",
    "severity_at_loss": "severity",
}
#: A question may cost millionths of a dollar.
_MORE_DIGITS = {"cost_usd_per_question": 9}
_PAIRS = {"paired_accuracy_negation": "negated", "paired_accuracy_hallucination": "hallucinated"}
#: Under these the same answer is written otherwise, or the other answer is right.
_OTHER_WORDS = ("variant/negated", "variant/rotated")
_ANSWER, _VOTE, _VERBALIZED = (PURPOSES.index(name) for name in ("answer", "vote", "verbalized"))
_ERROR = STATUSES.index("error")
_TAILS = (0.025, 0.975)
#: What the Dunning–Kruger flag is read from beside the accuracy drop.
_CHANGES = {
    "calibration_shift_change",
    "vote_accuracy_drop",
    "calibration_shift_trial_mean_change",
}
#: Resampled totals that are held at once, in bytes.
_HELD_AT_ONCE = 128_000_000

#: Sums in another order may differ by this much.
_ROUNDING = 1e-9

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer]


class Row(TypedDict):
    """One line of the table in `metrics.json`.

    What is said of all severities of a degradation together (`accuracy_area`) stands at the highest
    one that was asked, what is said of all degradations (`accuracy_drop_overall`) at clean. `by` is
    null for all questions of the benchmark, otherwise "task=...", "modality=...", "organ=..." or
    "kind=...". `confidence` names the source of the confidence, null for metrics without one.
    `unit` is null for shares and their differences. `n` is the denominator; the three other counts
    are of the responses in the condition and group, of which errors are in no denominator. An
    undefined value or interval is null. `warning` says why a value should not be read at face
    value.
    """

    benchmark: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_unparsed: int
    n_refused: int
    n_error: int
    condition: str
    degradation: str | None
    severity: float
    by: str | None
    confidence: str | None
    unit: str | None
    warning: NotRequired[str]


def aggregate(scores: Sequence[Score], n_resamples: int = 2_000, seed: int = 0) -> list[Row]:
    """Compute every metric that the scores allow, overall and by task, modality, organ and kind.

    Means, differences and ratios of means have 95 % percentile bootstrap intervals over clusters
    (patient, else image, else question), all from the same resamples, so that whatever compares
    conditions is paired; a share of exactly 0 or 1, and a drop without a single change, get the
    exact binomial interval over clusters.
    Figures that are no means (`mmeval.metrics.ranked`) have clustered jackknife intervals.
    Comparisons with clean images use the questions answered in both conditions, so that a
    degradation of one modality is compared on that modality; the reference of a variant or a
    control is clean, too. A control (`control/blank`) has an image reliance and no accuracy drop.
    Calibration uses the responses that have the confidence, whose source is named in the row. A
    negation pair counts under the tags of its plain question. Accuracy is that of the answers;
    votes and verbalized confidences have metrics of their own, and a verbalized confidence is
    compared with the answer that it came with. Their rows count the unparsed, refused and failed
    among the votes and among the replies with a verbalized confidence.
    Recalibrations are fitted to clean answers and tested everywhere, never on a patient that they
    were fitted to; their intervals do not include the uncertainty of the fit.
    Chance is known, not estimated, and has no interval; the ECE is biased upwards, and so is the
    middle of its interval (see `ece_debiased`).

    Args:
        scores: Scores of one run, of any number of benchmarks and conditions.
        n_resamples: Bootstrap resamples. Memory: one byte for each and each cluster.
        seed: Seed of the bootstrap and of the folds of the recalibration.

    Returns:
        Rows by benchmark, condition (clean first; degradations as a whole last), group and metric.
        Metrics without a single value to average are left out, except accuracy, which is then
        null.
    """
    return [
        row
        for benchmark, table in tables(scores).items()
        for row in aggregate_table(benchmark, table, n_resamples, seed)
    ]


def aggregate_table(
    benchmark: str, table: Table, n_resamples: int = 2_000, seed: int = 0
) -> Iterator[Row]:
    """`aggregate` for one benchmark whose scores are columns already."""
    run = _Run(benchmark, table, n_resamples, seed)
    order = sorted(
        range(len(table.conditions)),
        key=lambda number: (
            table.conditions[number].degradation or "",
            table.conditions[number].severity,
            table.conditions[number].condition,
        ),
    )
    for start in range(0, len(order), run.conditions_at_once):
        some = order[start : start + run.conditions_at_once]
        block = [_Here(run, number).fill() for number in some]
        run.estimate(block)
        for here in block:
            yield from here.rows()
    yield from _curve_rows(run)


# --- What is averaged -----------------------------------------------------------------------------


def _ratio(top: FloatArray, n: FloatArray) -> FloatArray:
    return top / n


def _difference(one: FloatArray, other: FloatArray, n: FloatArray) -> FloatArray:
    return (one - other) / n


def _relative(clean: FloatArray, here: FloatArray, _n: FloatArray) -> FloatArray:
    return (clean - here) / clean


def _yes_bias(n: FloatArray, positive: FloatArray, said: FloatArray, _: FloatArray) -> FloatArray:
    return (said - positive) / n


def _d_prime(n: FloatArray, positive: FloatArray, said: FloatArray, hits: FloatArray) -> FloatArray:
    return detection(n, positive, said, hits)[0]


def _criterion(
    n: FloatArray, positive: FloatArray, said: FloatArray, hits: FloatArray
) -> FloatArray:
    return detection(n, positive, said, hits)[1]


@dataclass(frozen=True)
class _Metric:
    """A function of column totals."""

    statistic: Callable[..., FloatArray]
    columns: tuple[str, ...]
    n: str
    counted: str = "answer"


_Key = tuple[str, str | None]


class _Run:
    """What all conditions of a benchmark share."""

    def __init__(self, benchmark: str, table: Table, n_resamples: int, seed: int) -> None:
        self.benchmark, self.table, self.seed = benchmark, table, seed
        order = np.argsort(table.condition, kind="stable")
        bounds = np.searchsorted(
            table.condition[order], np.arange(len(table.conditions) + 1), side="left"
        )
        self.lines = [order[start:stop] for start, stop in pairwise(bounds)]
        n_samples = len(table.cluster)
        self.groups: list[str | None] = [None]
        self.families: list[IntArray] = [np.zeros(n_samples, dtype=np.int64)]
        columns = {"kind": table.kind}
        columns |= {tag: table.tags[tag] for tag in GROUP_TAGS if tag in table.tags}
        for name, values in columns.items():
            labels = sorted({value for value in values if value is not None})
            number = {label: len(self.groups) + place for place, label in enumerate(labels)}
            self.families.append(np.array([number.get(value, -1) for value in values]))
            self.groups += [f"{name}={label}" for label in labels]
        self.layouts: list[tuple[Cells, list[int]]] = cells(table.cluster, self.families)
        self.weights = resample_weights(int(table.cluster.max()) + 1, n_resamples, seed)
        self.sources = [
            source
            for source in sorted(table.confidence)
            if not np.isnan(table.confidence[source]).all()
        ]
        self.draws: dict[tuple[int, str, int], FloatArray] = {}
        self.points: dict[tuple[int, str, int], float] = {}
        self.counts: dict[int, dict[str, IntArray]] = {}

    @property
    def conditions_at_once(self) -> int:
        """As many as keep their resampled totals within bounds; some 25 columns each."""
        largest = max(len(groups) for _, groups in self.layouts)
        held = 25 * largest * int(self.weights.shape[1]) * 8
        return max(1, _HELD_AT_ONCE // held)

    @cached_property
    def clean(self) -> _Here | None:
        """The responses on clean images, which the others are compared with."""
        for number, where in enumerate(self.table.conditions):
            if where.condition == "clean":
                return _Here(self, number)
        return None

    def per_sample(self, has: BoolArray, lines: IntArray, values: FloatArray) -> FloatArray:
        """Mean of the values over the responses to each sample, NaN without one."""
        size = len(self.table.cluster)
        samples = self.table.sample[lines][has]
        count = np.bincount(samples, minlength=size)
        total = np.bincount(samples, values[has], size)
        mean: FloatArray = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
        return mean

    @cached_property
    def fits(self) -> dict[tuple[str, str], list[Recalibration]]:
        """By source and method the fits to the clean answers outside each fold.

        None from fewer than `FEWEST_TO_FIT`, or where those outside a fold are all right or wrong.
        """
        found: dict[tuple[str, str], list[Recalibration]] = {}
        if self.clean is None or int(self.table.cluster.max()) == 0:
            return found
        for source in self.sources:
            has, confidence, right = self.clean.confidence(source)
            fold = self.fold[self.table.sample[self.clean.lines[has]]]
            confidence, right = confidence[has], right[has]
            outside = [right[fold != number] for number in range(int(self.fold.max()) + 1)]
            if len(right) < FEWEST_TO_FIT or any(part.min() == part.max() for part in outside):
                continue
            for method in METHODS:
                found[source, method] = [
                    fit_recalibration(confidence[fold != number], part, method)
                    for number, part in enumerate(outside)
                ]
        return found

    @cached_property
    def fold(self) -> IntArray:
        """The fold of each sample, whole clusters together."""
        n_clusters = int(self.table.cluster.max()) + 1
        return folds(np.arange(n_clusters), seed=self.seed)[self.table.cluster]

    def estimate(self, block: Sequence[_Here]) -> None:
        """Point values and resampled intervals of the metrics of some conditions."""
        starts = np.cumsum([0, *(len(here.columns) for here in block)])
        samples = [self.table.sample[here.lines] for here in block]
        for layout, groups in self.layouts:
            by_row = np.stack(
                [
                    layout.sums(column, where)
                    for here, where in zip(block, samples, strict=True)
                    for column in here.columns.values()
                ],
                axis=1,
            )
            totals = layout.totals(by_row)
            drawn = layout.resampled(by_row, self.weights)
            for here, start, stop in zip(block, starts[:-1], starts[1:], strict=True):
                part = slice(int(start), int(stop))
                here.take(layout, groups, by_row[:, part], totals[:, part], drawn[:, part])


@dataclass
class _Estimate:
    value: float
    low: float
    high: float
    n: int
    counted: str
    warning: str | None = None


@dataclass
class _Here:
    """One condition: its responses, what is summed over them, and what comes out."""

    run: _Run
    number: int
    columns: dict[str, FloatArray] = field(default_factory=dict)
    metrics: dict[_Key, _Metric] = field(default_factory=dict)
    found: dict[int, dict[_Key, _Estimate]] = field(default_factory=dict)
    _contents: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table, self.lines = self.run.table, self.run.lines[self.number]
        self.where = table.conditions[self.number]
        self.sample = table.sample[self.lines]
        self.purpose, self.status = table.purpose[self.lines], table.status[self.lines]
        self.replied = self.status != _ERROR
        self.answered = self.replied & (self.purpose == _ANSWER)
        self.right = table.correct[self.lines].astype(np.float64)

    # Columns: zero where a response does not count.

    def _column(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Adds a column, or finds the equal one that there is already; returns its name."""
        column = values.astype(np.float64)
        content = hash(column.tobytes())
        known = self._contents.setdefault(content, name)
        if known != name and np.array_equal(self.columns[known], column):
            return known
        self.columns[name] = column
        return name

    def fill(self) -> _Here:
        """Set up the columns and metrics of this condition."""
        self._answers()
        self._pairs()
        for source in self.run.sources:
            self._calibration(source)
        if self.where.condition != "clean" and self.run.clean is not None:
            self._against_clean(self.run.clean)
        self._yes_no()
        self._votes()
        self._costs()
        return self

    def _answers(self) -> None:
        n = self._column("n", self.answered)
        right = self._column("right", self.answered * self.right)
        self.metrics["accuracy", None] = _Metric(_ratio, (right, n), n)
        chance = self.run.table.chance[self.sample]
        known = self.answered & ~np.isnan(chance)
        if known.any():
            n = self._column("n chance", known)
            top = self._column("chance", np.where(known, chance, 0.0))
            self.metrics["chance", None] = _Metric(_ratio, (top, n), n)

    def _pairs(self) -> None:
        table = self.run.table
        group, role = table.group[self.sample], table.role[self.sample]
        asked = (group >= 0) & (self.purpose == _ANSWER)
        key = group.astype(np.int64) * (int(table.trial.max()) + 1) + table.trial[self.lines]
        plain = np.flatnonzero(asked & (role == "plain"))
        for metric, other in _PAIRS.items():
            others = np.flatnonzero(asked & (role == other))
            if not len(plain) or not len(others):
                continue
            others = others[np.argsort(key[others], kind="stable")]
            place = np.searchsorted(key[others], key[plain], side="right") - 1
            match = (place >= 0) & (key[others[place]] == key[plain])
            first, second = plain[match], others[place[match]]
            valid = self.replied[first] & self.replied[second]
            first, second = first[valid], second[valid]
            has, both = np.zeros((2, len(self.lines)))
            has[first] = 1
            both[first] = self.right[first] * self.right[second]
            if len(first):
                n = self._column(f"n {metric}", has)
                top = self._column(metric, both)
                self.metrics[metric, None] = _Metric(_ratio, (top, n), n, other)

    def confidence(self, source: str) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Which responses have a confidence, all confidences (0 without), and correctness."""
        value = self.run.table.confidence[source][self.lines]
        purpose = _VERBALIZED if source == "verbalized" else _ANSWER
        has = self.replied & (self.purpose == purpose) & ~np.isnan(value)
        return has, np.where(has, value, 0.0), self.right

    def _calibration(self, source: str) -> None:
        has, confidence, right = self.confidence(source)
        if not has.any():
            return
        counted = "verbalized" if source == "verbalized" else "answer"
        n = self._column(f"n {source}", has)
        sure = self._column(f"confidence {source}", confidence)
        hit = self._column(f"right {source}", has * right)
        squared = self._column(f"squared {source}", has * (confidence - right) ** 2)
        surprised = self._column(f"surprise {source}", has * surprise(confidence, right))
        for metric, statistic, columns in (
            ("mean_confidence", _ratio, (sure, n)),
            ("calibration_shift", _difference, (sure, hit, n)),
            ("brier", _ratio, (squared, n)),
            ("nll", _ratio, (surprised, n)),
        ):
            self.metrics[metric, source] = _Metric(statistic, columns, n, counted)
        if self.where.condition == "clean" or self.run.clean is None:
            return
        clean_has, clean_confidence, clean_right = self.run.clean.confidence(source)
        lines = self.run.clean.lines
        before = self.run.per_sample(clean_has, lines, clean_confidence)[self.sample]
        before_shift = self.run.per_sample(clean_has, lines, clean_confidence - clean_right)
        shift_clean = before_shift[self.sample]
        both = has & ~np.isnan(before)
        if not both.any():
            return
        n = self._column(f"n both {source}", both)
        sure = self._column(f"clean confidence {source}", np.where(both, before, 0.0))
        clean = self._column(f"clean shift {source}", np.where(both, shift_clean, 0.0))
        here = self._column(f"shift {source}", both * (confidence - right))
        for metric, statistic, columns in (
            ("mean_confidence_clean", _ratio, (sure, n)),
            ("calibration_shift_clean", _ratio, (clean, n)),
            ("calibration_shift_change", _difference, (here, clean, n)),
        ):
            self.metrics[metric, source] = _Metric(statistic, columns, n, counted)

    def _against_clean(self, clean: _Here) -> None:
        table, run = self.run.table, self.run
        before = run.per_sample(clean.answered, clean.lines, clean.right)[self.sample]
        both = self.answered & ~np.isnan(before)
        if not both.any():
            return
        before = np.where(both, before, 0.0)
        n = self._column("n both", both)
        first = self._column("clean right", before)
        then = self._column("right both", both * self.right)
        twice = self._column("right twice", before * self.right)
        self.metrics["accuracy_clean", None] = _Metric(_ratio, (first, n), n)
        if "control/" in self.where.condition and self.where.degradation is None:
            self.metrics["image_reliance", None] = _Metric(_difference, (first, then, n), n)
        else:
            self.metrics["accuracy_drop", None] = _Metric(_difference, (first, then, n), n)
            self.metrics["relative_drop", None] = _Metric(_relative, (first, then, n), n)
        self.metrics["right_to_wrong", None] = _Metric(_difference, (first, twice, n), n)
        self.metrics["wrong_to_right", None] = _Metric(_difference, (then, twice, n), n)
        if any(variant in self.where.condition for variant in _OTHER_WORDS):
            return
        # The share of the clean answers to the question that read otherwise; usually there is one.
        known = len(table.labels) + 1
        key = self.sample.astype(np.int64) * known + table.parsed[self.lines] + 1
        said = clean.sample[clean.answered].astype(np.int64) * known
        said += table.parsed[clean.lines[clean.answered]] + 1
        answers, times = np.unique(said, return_counts=True)
        place = np.minimum(np.searchsorted(answers, key), len(answers) - 1)
        same = np.where(answers[place] == key, times[place], 0)
        asked = np.bincount(clean.sample[clean.answered], minlength=len(table.cluster))
        share = same / np.maximum(asked[self.sample], 1)
        changed = self._column("changed", both * (1 - share))
        self.metrics["answer_changed", None] = _Metric(_ratio, (changed, n), n)

    def _yes_no(self) -> None:
        table = self.run.table
        number = {label: place for place, label in enumerate(table.labels)}
        yes, no = number.get("yes", -2), number.get("no", -2)
        parsed, gold = table.parsed[self.lines], table.gold[self.lines]
        said = self.answered & (table.kind[self.sample] == "yes_no")
        said &= ((parsed == yes) | (parsed == no)) & ((gold == yes) | (gold == no))
        if not said.any():
            return
        columns = (
            self._column("n yes_no", said),
            self._column("right is yes", said & (gold == yes)),
            self._column("said yes", said & (parsed == yes)),
            self._column("hit", said & (gold == yes) & (parsed == yes)),
        )
        for metric, statistic in (
            ("yes_bias", _yes_bias),
            ("d_prime", _d_prime),
            ("criterion", _criterion),
        ):
            self.metrics[metric, None] = _Metric(statistic, columns, columns[0], "yes_no")

    def _votes(self) -> None:
        vote = self.replied & (self.purpose == _VOTE)
        if not vote.any():
            return
        n = self._column("n votes", vote)
        right = self._column("right votes", vote * self.right)
        self.metrics["vote_accuracy", None] = _Metric(_ratio, (right, n), n, "vote")

        cast, share, majority = self._cast()
        voted = (self.purpose == _ANSWER) & (cast > 0)
        n = self._column("n voted", voted)
        top = self._column("majority", voted * majority)
        self.metrics["majority_accuracy", None] = _Metric(_ratio, (top, n), n, "vote")
        if "voting" not in self.run.sources:
            return
        has, confidence, _ = self.confidence("voting")
        has &= voted
        if not has.any():
            return
        n = self._column("n perceived", has)
        sure = self._column("perceived", has * confidence)
        for metric, hits in (
            ("calibration_shift_trial_mean", share),
            ("calibration_shift_majority", majority),
        ):
            top = self._column(metric, has * hits)
            self.metrics[metric, "voting"] = _Metric(_difference, (sure, top, n), n, "vote")
        if self.where.condition == "clean" or self.run.clean is None:
            return
        clean = self.run.clean
        clean_has, clean_confidence, _ = clean.confidence("voting")
        clean_cast, clean_share, _ = clean._cast()
        clean_has &= clean_cast > 0
        before = self.run.per_sample(clean_has, clean.lines, clean_share)[self.sample]
        shift = self.run.per_sample(clean_has, clean.lines, clean_confidence - clean_share)
        both = has & ~np.isnan(before)
        if both.any():
            n = self._column("n voted both", both)
            first = self._column("clean trials", np.where(both, before, 0.0))
            then = self._column("trials", both * share)
            change = (confidence - share) - shift[self.sample]
            changed = self._column("change of trials", np.where(both, change, 0.0))
            for metric, statistic, columns in (
                ("vote_accuracy_drop", _difference, (first, then, n)),
                ("calibration_shift_trial_mean_change", _ratio, (changed, n)),
            ):
                self.metrics[metric, "voting"] = _Metric(statistic, columns, n, "vote")

    def _cast(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """At each response the votes on its question, the share that is right, and the majority.

        The majority is 1 where the most frequent readable vote is right; ties share it.
        """
        table, size = self.run.table, len(self.run.table.cluster)
        vote = self.replied & (self.purpose == _VOTE)
        samples = self.sample[vote]
        cast = np.bincount(samples, minlength=size)
        share = np.bincount(samples, self.right[vote], size) / np.maximum(cast, 1)
        gold = np.full(size, -1, dtype=np.int64)
        gold[samples] = table.gold[self.lines][vote]
        known = len(table.labels)
        parsed = table.parsed[self.lines][vote]
        key = samples[parsed >= 0].astype(np.int64) * known + parsed[parsed >= 0]
        answers, times = np.unique(key, return_counts=True)
        most = np.zeros(size)
        np.maximum.at(most, answers // known, times)
        leads = times == most[answers // known]
        leaders = np.bincount(answers[leads] // known, minlength=size)
        hit = leads & (answers % known == gold[answers // known])
        hits = np.bincount(answers[hit] // known, minlength=size)
        majority = hits / np.maximum(leaders, 1)
        return cast[self.sample], share[self.sample], majority[self.sample]

    def _costs(self) -> None:
        """Requests, tokens and dollars, at the answer that they were spent on."""
        table, size = self.run.table, len(self.run.table.cluster)
        at = np.full(size, -1)
        answers = np.flatnonzero(self.purpose == _ANSWER)
        at[self.sample[answers]] = answers
        for purpose, source in ((_ANSWER, None), (_VOTE, "voting"), (_VERBALIZED, "verbalized")):
            spent = (self.purpose == purpose) & (at[self.sample] >= 0)
            if not spent.any():
                continue
            counted = PURPOSES[purpose]
            place = at[self.sample[spent]]
            requests = np.bincount(place, minlength=len(self.lines)).astype(np.float64)
            sums: dict[str, FloatArray] = {"requests_per_question": requests}
            for metric, values in (
                ("tokens_per_question", table.tokens),
                ("cost_usd_per_question", table.cost_usd),
            ):
                if values is not None:
                    amount = values[self.lines][spent]
                    sums[metric] = np.bincount(place, amount, len(self.lines)).astype(np.float64)
            for metric, total in sums.items():
                has = (requests > 0) & ~np.isnan(total)
                if has.any() and not (metric == "requests_per_question" and source is None):
                    n = self._column(f"n {metric} {source}", has)
                    top = self._column(f"{metric} {source}", np.where(has, total, 0.0))
                    self.metrics[metric, source] = _Metric(_ratio, (top, n), n, counted)

    # Estimates

    def take(
        self,
        layout: Cells,
        groups: Sequence[int],
        by_row: FloatArray,
        totals: FloatArray,
        drawn: FloatArray,
    ) -> None:
        """Turn totals of this condition, and resampled totals, into estimates of some groups."""
        place = {name: number for number, name in enumerate(self.columns)}
        for key, metric in self.metrics.items():
            use = [place[name] for name in metric.columns]
            n = totals[:, place[metric.n]]
            with np.errstate(divide="ignore", invalid="ignore"):
                values = metric.statistic(*totals[:, use].T)
                draws = metric.statistic(*(drawn[:, column] for column in use))
            low, high = _bounds(draws)
            for index, group in enumerate(groups):
                if n[index] == 0 and key[0] != "accuracy":
                    continue
                value = float(values[index])
                ends = float(low[index]), float(high[index])
                if key[0] == "chance" or not math.isfinite(value):
                    ends = math.nan, math.nan
                elif ends[0] == ends[1]:
                    clusters = layout.n_clusters(by_row[:, place[metric.n]] > 0, index)
                    ends = _degenerate(key[0], value, ends, clusters)
                estimate = _Estimate(value, *ends, round(n[index]), metric.counted)
                self.found.setdefault(group, {})[key] = estimate
                self._keep(key, group, value, draws[index])

    def _keep(self, key: _Key, group: int, value: float, draws: FloatArray) -> None:
        """What curves over severities are made of."""
        metric, source = key
        if self.where.degradation is None:
            return
        if metric in ("accuracy_drop", "accuracy_clean") or (group == 0 and metric in _CHANGES):
            name = f"{metric} {source or ''}"
            self.run.points[self.number, name, group] = value
            self.run.draws[self.number, name, group] = draws.copy()

    def _figures(self) -> None:
        """Calibration figures that are no means."""
        run = self.run
        for source in run.sources:
            has, confidence, right = self.confidence(source)
            if not has.any():
                continue
            counted = "verbalized" if source == "verbalized" else "answer"
            where = np.flatnonzero(has)
            where = where[np.argsort(-confidence[where], kind="stable")]
            samples = self.sample[where]
            sure, hit, cluster = confidence[where], right[where], run.table.cluster[samples]
            for family in run.families:
                code = family[samples]
                for group in np.unique(code[code >= 0]):
                    inside = code == group
                    figures = ranked_figures(
                        sure[inside], hit[inside], cluster[inside], everything=group == 0
                    )
                    if group == 0:
                        figures |= self._recalibrated(source, samples, sure, hit, cluster)
                    self._note(int(group), source, figures, int(inside.sum()), counted)

    def _recalibrated(
        self,
        source: str,
        samples: IntArray,
        confidence: FloatArray,
        right: FloatArray,
        cluster: IntArray,
    ) -> dict[str, Figure]:
        figures = {}
        fold = self.run.fold[samples] if self.run.fits else None
        for method in METHODS:
            fits = self.run.fits.get((source, method))
            if fits is None or fold is None:
                continue
            sure = np.empty(len(confidence))
            for number in np.unique(fold):
                sure[fold == number] = fits[number](confidence[fold == number])
            gap = sure - right
            figures[f"calibration_shift_{method}"] = mean_figure(gap, cluster, -1.0)
            figures[f"ece_{method}"] = binned_error(sure, right, cluster)
            figures[f"brier_{method}"] = mean_figure(gap**2, cluster)
        return figures

    def _note(
        self, group: int, source: str, figures: Mapping[str, Figure], n: int, counted: str
    ) -> None:
        for metric, (value, low, high) in figures.items():
            warning = None
            if metric in _BINNED and n < FEW_SAMPLES:
                warning = f"fewer than {FEW_SAMPLES} answers: mostly noise, biased upwards"
            elif metric == "auroc" and math.isnan(value):
                warning = "undefined: all answers are right or all are wrong"
            estimate = _Estimate(value, low, high, n, counted, warning)
            self.found.setdefault(group, {})[metric, source] = estimate

    def _counts(self) -> dict[str, IntArray]:
        """How many responses of each group have each status, by what is counted."""
        table, run = self.run.table, self.run
        role = table.role[self.sample]
        grouped = table.group[self.sample] >= 0
        answers = self.purpose == _ANSWER
        chosen = {
            "all": np.ones(len(self.lines), dtype=bool),
            "answer": answers,
            "vote": self.purpose == _VOTE,
            "verbalized": self.purpose == _VERBALIZED,
            "yes_no": answers & (table.kind[self.sample] == "yes_no"),
        }
        for other in _PAIRS.values():
            chosen[other] = answers & grouped & ((role == "plain") | (role == other))
        needed = {"all"} | {found.counted for by in self.found.values() for found in by.values()}
        counts: dict[str, IntArray] = {}
        for name in needed:
            lines = np.flatnonzero(chosen[name])
            count = np.zeros(len(run.groups) * len(STATUSES), dtype=np.int64)
            for family in run.families:
                code = family[self.sample[lines]]
                known = code >= 0
                key = code[known] * len(STATUSES) + self.status[lines][known]
                count += np.bincount(key, minlength=len(count))
            counts[name] = count.reshape(-1, len(STATUSES))
        return counts

    def rows(self) -> Iterator[Row]:
        """The rows of this condition, by group and metric."""
        run = self.run
        self._figures()
        counts = run.counts[self.number] = self._counts()
        for group in sorted(range(len(run.groups)), key=lambda number: run.groups[number] or ""):
            if not counts["all"][group].any():
                continue
            found = self.found.get(group, {})
            for key in sorted(found, key=lambda key: (key[1] or "", _ORDER[key[0]])):
                estimate = found[key]
                yield _row(
                    run,
                    key,
                    estimate,
                    counts[estimate.counted][group],
                    group,
                    *self.where,
                )


def _row(
    run: _Run,
    key: _Key,
    estimate: _Estimate,
    counts: IntArray,
    group: int,
    condition: str,
    degradation: str | None,
    severity: float,
) -> Row:
    metric, source = key
    digits = _MORE_DIGITS.get(metric, 6)
    row = Row(
        benchmark=run.benchmark,
        metric=metric,
        value=_number(estimate.value, digits),
        ci_low=_number(estimate.low, digits),
        ci_high=_number(estimate.high, digits),
        n=estimate.n,
        n_unparsed=int(counts[STATUSES.index("unparsed")]),
        n_refused=int(counts[STATUSES.index("refused")]),
        n_error=int(counts[_ERROR]),
        condition=condition,
        degradation=degradation,
        severity=severity,
        by=run.groups[group],
        confidence=source,
        unit=_UNITS.get(metric),
    )
    if estimate.warning is not None:
        row["warning"] = estimate.warning
    return row


def _number(value: float, digits: int) -> float | None:
    """Six decimals are more than any interval here is worth, and the same on every machine."""
    return round(float(value), digits) + 0.0 if math.isfinite(value) else None


def _bounds(draws: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Percentiles of each row; resamples that drew nothing with a value are left out."""
    known = np.isfinite(draws)
    last = np.maximum(known.sum(axis=1) - 1, 0)
    if known.all():
        # Only the places that are asked for below.
        ends = [math.floor(tail * last[0]) for tail in _TAILS]
        ordered = np.partition(draws, [*ends, *(min(end + 1, last[0]) for end in ends)], axis=1)
    else:
        ordered = np.sort(np.where(known, draws, np.nan), axis=1)  # NaN comes last
    rows = np.arange(len(draws))

    def at(tail: float) -> FloatArray:
        """As `numpy.quantile`, "linear", which takes rows with gaps only one by one."""
        place = tail * last
        below = np.floor(place).astype(np.int64)
        left, right = ordered[rows, below], ordered[rows, np.minimum(below + 1, last)]
        found: FloatArray = left + (right - left) * (place - below)
        return found

    return at(_TAILS[0]), at(_TAILS[1])


def _degenerate(
    metric: str, value: float, ends: tuple[float, float], clusters: int
) -> tuple[float, float]:
    """The interval where all resamples agree."""
    if metric in _SHARES and value in (0.0, 1.0):
        # The exact interval of Clopper and Pearson (Biometrika 1934), with the clusters as trials,
        # says how little a few of them can exclude.
        bound = 0.025 ** (1 / clusters)
        return (bound, 1.0) if value == 1.0 else (0.0, 1 - bound)
    if metric in ("accuracy_drop", "image_reliance") and value == 0.0 and clusters:
        # No cluster changed: the share that would is bounded likewise, in either direction.
        bound = 0.025 ** (1 / clusters)
        return bound - 1, 1 - bound
    return ends if clusters > 1 else (math.nan, math.nan)


# --- Over the severities of a degradation ---------------------------------------------------------


def _curve_rows(run: _Run) -> Iterator[Row]:
    """What is said of all severities of a degradation together, then of all degradations."""
    curves: defaultdict[str, list[int]] = defaultdict(list)
    for number, where in enumerate(run.table.conditions):
        if where.degradation is not None and "control/" not in where.degradation:
            curves[where.degradation].append(number)
    groups = sorted(range(len(run.groups)), key=lambda number: run.groups[number] or "")
    means: defaultdict[int, list[tuple[_Estimate, FloatArray, IntArray]]] = defaultdict(list)
    for degradation in sorted(curves):
        numbers = sorted(curves[degradation], key=lambda number: _severity(run, number))
        steps = np.array([0.0, *(_severity(run, number) for number in numbers)])
        if (np.diff(steps) <= 0).any():  # a chain that varies more than its highest severity
            continue
        for group in groups:
            if any((number, "accuracy_drop ", group) not in run.points for number in numbers):
                continue
            estimates, mean_draws = _curve(run, numbers, steps, group)
            counts = np.sum([run.counts[number]["answer"][group] for number in numbers], axis=0)
            if "variant/" not in degradation:
                means[group].append((estimates["accuracy_drop_mean", None], mean_draws, counts))
            for key in sorted(estimates, key=lambda key: (key[1] or "", _ORDER[key[0]])):
                yield _row(
                    run,
                    key,
                    estimates[key],
                    counts,
                    group,
                    *run.table.conditions[numbers[-1]],
                )
    for group in groups:
        if not means[group]:
            continue
        value = float(np.mean([estimate.value for estimate, _, _ in means[group]]))
        ends = _curve_bounds(np.mean([draws for _, draws, _ in means[group]], axis=0))
        n = sum(estimate.n for estimate, _, _ in means[group])
        counts = np.sum([counts for _, _, counts in means[group]], axis=0)
        estimate = _Estimate(value, *ends, n, "answer")
        yield _row(run, ("accuracy_drop_overall", None), estimate, counts, group, "clean", None, 0)


def _severity(run: _Run, number: int) -> float:
    return run.table.conditions[number].severity


def _curve_bounds(draws: FloatArray) -> tuple[float, float]:
    low, high = _bounds(draws[None])
    # Resamples that all agree have one cluster, or nothing that varies.
    return (float(low[0]), float(high[0])) if low[0] < high[0] else (math.nan, math.nan)


def _curve(
    run: _Run, numbers: Sequence[int], steps: FloatArray, group: int
) -> tuple[dict[_Key, _Estimate], FloatArray]:
    """Estimates of one degradation and group, and the resampled mean drops."""

    def curve(name: str) -> tuple[FloatArray, FloatArray]:
        points = np.array([[run.points[number, name, group] for number in numbers]])
        return points, np.stack([run.draws[number, name, group] for number in numbers], axis=1)

    drops, clean = curve("accuracy_drop "), curve("accuracy_clean ")
    n = int(sum(run.counts[number]["answer"][group].sum() for number in numbers))
    n -= int(sum(run.counts[number]["answer"][group][_ERROR] for number in numbers))
    found: dict[_Key, _Estimate] = {}

    def estimate(metric: str, statistic: Callable[[FloatArray, FloatArray], FloatArray]) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(statistic(drops[0], clean[0])[0])
            ends = _curve_bounds(statistic(drops[1], clean[1]))
        found[metric, None] = _Estimate(value, *ends, n, "answer")

    def from_zero(drop: FloatArray) -> FloatArray:
        return np.concatenate([np.zeros((len(drop), 1)), drop], axis=1)

    def area(drop: FloatArray, before: FloatArray) -> FloatArray:
        left: FloatArray = before.mean(axis=1) - trapezoid(steps, from_zero(drop))
        return left

    estimate("accuracy_area", area)
    estimate("accuracy_drop_mean", lambda drop, _: drop.mean(axis=1))
    estimate("relative_drop_mean", lambda drop, before: drop.mean(axis=1) / before.mean(axis=1))
    at = float(crossings(steps, from_zero(drops[0]), LOSS_MARGIN)[0])
    low, high = order_quantiles(crossings(steps, from_zero(drops[1]), LOSS_MARGIN), _TAILS)
    if (drops[1] == drops[1][:1]).all():
        low = high = math.nan
    found["severity_at_loss", None] = _Estimate(at, low, high, n, "answer")
    if group == 0:
        last = numbers[-1]
        counts = run.counts[last]["answer"][0]
        for source in run.sources:
            # The paper's own figures where there are votes: accuracy and shift over all trials.
            names = ("vote_accuracy_drop voting", "calibration_shift_trial_mean_change voting")
            if source != "voting" or (last, names[1], 0) not in run.points:
                names = ("accuracy_drop ", f"calibration_shift_change {source}")
            if (last, names[1], 0) not in run.points:
                continue
            drop, change = (run.points[last, name, 0] for name in names)
            drop_draws, change_draws = (run.draws[last, name, 0] for name in names)
            flag = float(drop > 0 and change >= -_ROUNDING)
            held = np.logical_and(drop_draws > 0, change_draws >= -_ROUNDING)
            for metric, value in (
                ("dunning_kruger", flag),
                ("dunning_kruger_support", float(held.mean())),
            ):
                n_last = int(counts.sum() - counts[_ERROR])
                found[metric, source] = _Estimate(value, math.nan, math.nan, n_last, "answer")
    return found, drops[1].mean(axis=1)
