"""From the scores of a run to tidy rows: one metric, one condition, one group of questions each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from mmeval.metrics.arrays import FloatArray
from mmeval.metrics.calibration import bin_index
from mmeval.metrics.statistics import resampled_totals
from mmeval.schema import Score

__all__ = ["METRICS", "Row", "aggregate"]

METRICS: Mapping[str, str] = {
    "accuracy": "share of right answers; unparsed and refused are wrong, errors are left out",
    "chance": "share that blind guessing gets right, over the questions where it is known",
    "paired_accuracy_negation": "share of questions right together with their negation",
    "paired_accuracy_hallucination": "share right together with their hallucinated counterpart",
    "mean_confidence": "mean confidence in the given answer",
    "calibration_shift": "mean confidence minus accuracy; above 0 is over-confident",
    "ece": "expected calibration error, 15 bins of equal width",
    "brier": "mean squared distance of confidence from correctness",
    "accuracy_drop": "accuracy on clean images minus accuracy here, on the same questions",
    "calibration_shift_change": "calibration shift here minus on clean images, same questions",
    "accuracy_clean": "accuracy on clean images over the questions of this condition",
    "mean_confidence_clean": "mean confidence on clean images over the questions of this condition",
    "calibration_shift_clean": "calibration shift on clean images over the same questions",
    "vote_accuracy": "share of right votes, over all votes",
    "majority_accuracy": "share of questions whose most frequent vote is right; ties share it",
    "requests_per_question": "requests that a confidence takes beside the answer",
    "tokens_per_question": "prompt and completion tokens per question: of the answer, or of what a "
    "confidence takes beside it",
    "cost_usd_per_question": "dollars for these tokens, at the price in the model's configuration",
}
"""Every metric a row can hold, with what it says."""

GROUP_TAGS = ("task", "modality")
ECE_BINS = 15
_SHARES = (
    "accuracy",
    "accuracy_clean",
    "vote_accuracy",
    "majority_accuracy",
    "paired_accuracy_negation",
    "paired_accuracy_hallucination",
)
#: Which responses a confidence or a metric comes from, where these are not the answers.
_PURPOSES = {
    "voting": "vote",
    "vote_accuracy": "vote",
    "majority_accuracy": "vote",
    "verbalized": "verbalized",
}
#: A question may cost millionths of a dollar.
_MORE_DIGITS = {"cost_usd_per_question": 9}
_PAIRS = {"paired_accuracy_negation": "negated", "paired_accuracy_hallucination": "hallucinated"}


class Row(TypedDict):
    """One line of the table in `metrics.json`.

    `by` is null for all questions of the benchmark, otherwise "task=...", "modality=..." or
    "kind=...". `confidence` names the source of the confidence, null for metrics without one. `n`
    is the denominator; the three other counts are of the responses in the condition and group, of
    which errors are in no denominator. An undefined value or interval is null.
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


def aggregate(scores: Sequence[Score], n_resamples: int = 2_000, seed: int = 0) -> list[Row]:
    """Compute every metric that the scores allow, overall and by task, modality and kind.

    Intervals are 95 % percentile bootstrap intervals over clusters (patient, else image, else
    question); a share of exactly 0 or 1 gets the exact binomial interval over clusters. Comparisons
    with clean images use the questions answered in both conditions, so that a degradation of one
    modality is compared on that modality. Calibration uses the responses that
    have the confidence, whose source is named in the row. A negation pair counts under the tags of
    its plain question. Accuracy is that of the answers; votes and verbalized confidences have
    metrics of their own, and a verbalized confidence is compared with the answer that it came
    with. Their rows count the unparsed, refused and failed among the votes and among the replies
    with a verbalized confidence.
    Chance is known, not estimated, and has no interval; the interval of the ECE inherits its upward
    bias.

    Args:
        scores: Scores of one run, of any number of benchmarks and conditions.
        n_resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        Rows by benchmark, condition (clean first), group and metric. Metrics without a single value
        to average are left out, except accuracy, which is then null.
    """
    by_benchmark: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_benchmark[score.benchmark].append(score)
    return [
        row
        for benchmark, members in by_benchmark.items()
        for row in _benchmark_rows(benchmark, members, n_resamples, seed)
    ]


def _benchmark_rows(
    benchmark: str, scores: Sequence[Score], n_resamples: int, seed: int
) -> Iterator[Row]:
    values = _values(scores)
    status = np.array([score.status for score in scores])
    purposes = np.array([score.purpose for score in scores])
    clusters = _numbers([score.cluster or score.sample for score in scores])
    pair_roles = {metric: {"plain", role} for metric, role in _PAIRS.items()}
    roles = np.array([score.role if score.group else None for score in scores], dtype=object)

    for condition, by, lines in _slices(scores):
        first = scores[int(lines[0])]
        _, cluster_index = np.unique(clusters[lines], return_inverse=True)
        estimates = _estimate(values, lines, cluster_index, n_resamples, seed)
        for (metric, source), (value, low, high, n) in estimates.items():
            digits = _MORE_DIGITS.get(metric, 6)
            purpose = _PURPOSES.get(source or metric, "answer")
            counted = lines[purposes[lines] == purpose]
            if metric in pair_roles:
                counted = counted[[role in pair_roles[metric] for role in roles[counted]]]
            yield Row(
                benchmark=benchmark,
                metric=metric,
                value=_number(value, digits),
                ci_low=_number(low, digits),
                ci_high=_number(high, digits),
                n=n,
                n_unparsed=int((status[counted] == "unparsed").sum()),
                n_refused=int((status[counted] == "refused").sum()),
                n_error=int((status[counted] == "error").sum()),
                condition=condition,
                degradation=first.degradation,
                severity=first.severity,
                by=by,
                confidence=source,
            )


def _number(value: float, digits: int) -> float | None:
    """Six decimals are more than any interval here is worth, and the same on every machine."""
    return round(float(value), digits) + 0.0 if np.isfinite(value) else None


def _numbers(labels: Sequence[str]) -> npt.NDArray[np.int64]:
    number: dict[str, int] = {}
    return np.array([number.setdefault(label, len(number)) for label in labels], dtype=np.int64)


def _slices(
    scores: Sequence[Score],
) -> Iterator[tuple[str, str | None, npt.NDArray[np.int64]]]:
    """Condition, group and positions of the scores in it; clean and "all" first."""
    found: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
    for position, score in enumerate(scores):
        found[score.condition, None].append(position)
        found[score.condition, f"kind={score.kind}"].append(position)
        for tag in GROUP_TAGS:
            if tag in score.tags:
                found[score.condition, f"{tag}={score.tags[tag]}"].append(position)

    def order(key: tuple[str, str | None]) -> tuple[str, float, str, str]:
        first = scores[found[key][0]]
        return (first.degradation or "", first.severity, key[0], key[1] or "")

    for key in sorted(found, key=order):
        yield *key, np.array(found[key], dtype=np.int64)


# --- What is averaged -----------------------------------------------------------------------------
#
# Every metric but chance and ECE is the mean of one number per response, NaN where a response has
# none.

_Key = tuple[str, str | None]


def _values(scores: Sequence[Score]) -> dict[_Key, FloatArray]:
    """One array over all responses for each metric and confidence source."""
    replied = np.array([score.status != "error" for score in scores])
    purposes = np.array([score.purpose for score in scores])
    answered = replied & (purposes == "answer")
    right = np.where(replied, [float(score.correct) for score in scores], np.nan)
    correct = np.where(answered, right, np.nan)
    clean = np.array([score.condition == "clean" for score in scores])
    samples = _numbers([score.sample for score in scores])

    values: dict[_Key, FloatArray] = {
        ("accuracy", None): correct,
        ("chance", None): np.where(
            answered,
            [np.nan if score.chance is None else score.chance for score in scores],
            np.nan,
        ),
    }
    for metric, role in _PAIRS.items():
        values[metric, None] = _pairs(scores, role)
    for source in sorted({name for score in scores for name in score.confidence}):
        confidence = np.array(
            [
                score.confidence.get(source, np.nan) if score.status != "error" else np.nan
                for score in scores
            ]
        )
        values["mean_confidence", source] = confidence
        shift = confidence - right
        values["calibration_shift", source] = shift
        values["ece", source] = shift
        values["brier", source] = shift**2
        shift_clean = _clean_value(shift, samples, clean)
        values["calibration_shift_change", source] = shift - shift_clean
        matched = np.where(np.isnan(confidence), np.nan, 0.0)
        values["mean_confidence_clean", source] = _clean_value(confidence, samples, clean) + matched
        values["calibration_shift_clean", source] = shift_clean + matched
    values |= _costs(scores, purposes)
    if "vote" in purposes:
        values["vote_accuracy", None] = np.where(purposes == "vote", right, np.nan)
        values["majority_accuracy", None] = _majority(scores)
    accuracy_clean = _clean_value(correct, samples, clean)
    values["accuracy_drop", None] = accuracy_clean - correct
    values["accuracy_clean", None] = np.where(answered, accuracy_clean, np.nan)
    order = list(METRICS)
    return dict(
        sorted(values.items(), key=lambda item: (item[0][1] or "", order.index(item[0][0])))
    )


def _costs(scores: Sequence[Score], purposes: npt.NDArray[np.str_]) -> dict[_Key, FloatArray]:
    """Requests, tokens and dollars, at the answer that they were spent on; NaN where not told."""
    answer = {
        (score.sample, score.condition): position
        for position, score in enumerate(scores)
        if score.purpose == "answer"
    }
    values: dict[_Key, FloatArray] = {}
    for purpose, source in (("answer", None), ("vote", "voting"), ("verbalized", "verbalized")):
        if purpose not in purposes:
            continue
        requests, tokens, cost = np.zeros((3, len(scores)))
        for score in scores:
            place = answer.get((score.sample, score.condition))
            if score.purpose == purpose and place is not None:
                requests[place] += 1
                tokens[place] += np.nan if score.tokens is None else score.tokens
                cost[place] += np.nan if score.cost_usd is None else score.cost_usd
        asked = requests > 0
        values["tokens_per_question", source] = np.where(asked, tokens, np.nan)
        values["cost_usd_per_question", source] = np.where(asked, cost, np.nan)
        if source is not None:
            values["requests_per_question", source] = np.where(asked, requests, np.nan)
    return values


def _majority(scores: Sequence[Score]) -> FloatArray:
    """At each answer the share of the most frequent votes that is right; NaN without votes."""
    cast: defaultdict[tuple[str, str], Counter[str | None]] = defaultdict(Counter)
    for score in scores:
        if score.purpose == "vote" and score.status != "error":
            cast[score.sample, score.condition][score.parsed] += 1
    values = np.full(len(scores), np.nan)
    for position, score in enumerate(scores):
        votes = cast.get((score.sample, score.condition))
        if score.purpose != "answer" or not votes:
            continue
        readable = {vote: count for vote, count in votes.items() if vote is not None}
        most = max(readable.values(), default=0)
        leaders = [vote for vote, count in readable.items() if count == most]
        values[position] = (score.gold in leaders) / len(leaders) if leaders else 0.0
    return values


def _clean_value(
    values: FloatArray, samples: npt.NDArray[np.int64], clean: npt.NDArray[np.bool_]
) -> FloatArray:
    """For each degraded response the mean over the clean responses to the same question."""
    use = clean & ~np.isnan(values)
    size = int(samples.max()) + 1
    count = np.bincount(samples[use], minlength=size)
    total = np.bincount(samples[use], values[use], size)
    mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return np.where(clean, np.nan, mean[samples])


def _pairs(scores: Sequence[Score], role: str) -> FloatArray:
    """At the plain question of each pair 1 if both are right, else 0; NaN elsewhere."""
    members: defaultdict[tuple[str, str, int], dict[str, int]] = defaultdict(dict)
    for position, score in enumerate(scores):
        if score.group and score.role in ("plain", role) and score.purpose == "answer":
            members[score.condition, score.group, score.trial][score.role] = position
    both = np.full(len(scores), np.nan)
    for pair in members.values():
        if len(pair) == 2 and all(scores[position].status != "error" for position in pair.values()):
            both[pair["plain"]] = all(scores[position].correct for position in pair.values())
    return both


# --- Estimates and intervals ----------------------------------------------------------------------


def _estimate(
    values: Mapping[_Key, FloatArray],
    lines: npt.NDArray[np.int64],
    cluster_index: npt.NDArray[np.int64],
    n_resamples: int,
    seed: int,
) -> dict[_Key, tuple[float, float, float, int]]:
    """Value, interval and denominator of each metric, all from the same resamples of clusters."""
    columns: list[FloatArray] = []
    plan: dict[_Key, tuple[int, int]] = {}  # metric -> its columns: counts, then one or more sums
    for (metric, source), per_response in values.items():
        here = per_response[lines]
        has = ~np.isnan(here)
        if not has.any() and metric != "accuracy":
            continue
        filled = np.where(has, here, 0.0)
        start = len(columns)
        columns.append(has.astype(np.float64))
        if metric == "ece":
            confidence = values["mean_confidence", source][lines]
            index = bin_index(np.where(has, confidence, 0.0), ECE_BINS)
            columns.extend(np.where(index == number, filled, 0.0) for number in np.unique(index))
        else:
            columns.append(filled)
        plan[metric, source] = (start, len(columns))

    totals, resampled = resampled_totals(np.column_stack(columns), cluster_index, n_resamples, seed)
    several_clusters = int(cluster_index.max()) > 0
    estimates: dict[_Key, tuple[float, float, float, int]] = {}
    for key, (start, end) in plan.items():
        value = float(_ratio(key[0], totals[:, start:end])[0])
        low = high = np.nan
        if key[0] in _SHARES and value in (0.0, 1.0):
            # Every resample would agree. The exact interval of Clopper and Pearson (Biometrika
            # 1934), with the clusters as trials, says how little a few of them can exclude.
            trials = np.unique(cluster_index[columns[start] > 0]).size
            bound = 0.025 ** (1 / trials)
            low, high = (bound, 1.0) if value == 1.0 else (0.0, 1 - bound)
        elif several_clusters and key[0] != "chance" and np.isfinite(value):
            drawn = _ratio(key[0], resampled[:, start:end])
            low, high = np.quantile(drawn[~np.isnan(drawn)], [0.025, 0.975])
        estimates[key] = (value, float(low), float(high), round(float(totals[0, start])))
    return estimates


def _ratio(metric: str, totals: FloatArray) -> FloatArray:
    """Sum over count, NaN in the resamples that drew no cluster with a value."""
    count, sums = totals[:, 0], totals[:, 1:]
    top = np.abs(sums).sum(axis=1) if metric == "ece" else sums[:, 0]
    ratio: FloatArray = np.divide(top, count, out=np.full(len(count), np.nan), where=count > 0)
    return ratio
