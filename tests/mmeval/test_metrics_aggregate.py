"""From scores to the rows of metrics.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmeval import metrics
from mmeval.metrics.aggregate import METRICS, Row, aggregate
from mmeval.schema import Condition, Score


def score(sample: str, condition: str = "clean", correct: int = 1, **fields: Any) -> Score:
    """A parsed answer of one trial; `confidence` may be given as a number."""
    confidence = fields.pop("confidence", None)
    what = Condition(condition)
    status = fields.setdefault("status", "ok")
    return Score(
        **{
            "key": f"{sample}|{condition}",
            "benchmark": "b",
            "sample": sample,
            "condition": condition,
            "degradation": what.degradation,
            "severity": what.severity,
            "trial": 0,
            "parsed": "A" if status == "ok" else None,
            "rule": "letter" if status == "ok" else None,
            "span": (0, 1) if status == "ok" else None,
            "correct": correct if status == "ok" else 0,
            "value": float(correct),
            "confidence": {} if confidence is None else {"option": confidence},
            "gold": "A",
            "kind": "choice",
            "cluster": sample,
            **fields,
        }
    )


def find(rows: list[Row], metric: str, condition: str = "clean", by: str | None = None) -> Row:
    found = [
        row
        for row in rows
        if (row["metric"], row["condition"], row["by"]) == (metric, condition, by)
    ]
    assert len(found) == 1
    return found[0]


def names(rows: list[Row]) -> set[str]:
    return {row["metric"] for row in rows}


def test_unparsed_and_refused_are_wrong_and_errors_are_in_no_denominator() -> None:
    rows = aggregate(
        [
            score("1", correct=1),
            score("2", correct=1),
            score("3", correct=0),
            score("4", status="unparsed"),
            score("5", status="refused"),
            score("6", status="error"),
        ]
    )

    row = find(rows, "accuracy")

    assert row["value"] == pytest.approx(2 / 5)
    assert (row["n"], row["n_unparsed"], row["n_refused"], row["n_error"]) == (5, 1, 1, 1)


def test_a_condition_of_errors_only_has_no_accuracy() -> None:
    row = find(aggregate([score("1", status="error"), score("2", status="error")]), "accuracy")

    assert (row["value"], row["ci_low"], row["n"], row["n_error"]) == (None, None, 0, 2)


def test_calibration_uses_only_answers_that_have_the_confidence() -> None:
    rows = aggregate(
        [
            score("1", correct=1, confidence=0.9),
            score("2", correct=0, confidence=0.7),
            score("3", correct=0),
        ]
    )

    assert find(rows, "accuracy")["value"] == pytest.approx(1 / 3)
    shift = find(rows, "calibration_shift")
    assert shift["value"] == pytest.approx(0.8 - 0.5)
    assert (shift["n"], shift["confidence"]) == (2, "option")


def test_rows_agree_with_the_public_functions() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(200).round(3)
    correct = (generator.random(200) < confidence).astype(int)
    rows = aggregate(
        [
            score(str(number), correct=int(right), confidence=float(sure))
            for number, (right, sure) in enumerate(zip(correct, confidence, strict=True))
        ]
    )

    for metric, function in (
        ("calibration_shift", metrics.calibration_shift),
        ("ece", metrics.expected_calibration_error),
        ("brier", metrics.brier_score),
    ):
        assert find(rows, metric)["value"] == pytest.approx(function(confidence, correct), abs=1e-6)
    interval = metrics.clustered_bootstrap(correct, range(200), n_resamples=2000)
    row = find(rows, "accuracy")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))


def test_a_degradation_of_one_modality_is_compared_with_clean_on_that_modality() -> None:
    ct = {"tags": {"modality": "ct"}}
    xray = {"tags": {"modality": "xray"}}
    rows = aggregate(
        [
            score("ct-1", correct=1, confidence=0.9, **ct),
            score("ct-2", correct=0, confidence=0.8, **ct),
            score("xray-1", correct=0, confidence=0.7, **xray),
            score("xray-2", correct=0, confidence=0.7, **xray),
            score("ct-1", "ct/low_dose:3", correct=0, confidence=0.9, **ct),
            score("ct-2", "ct/low_dose:3", correct=0, confidence=0.6, **ct),
        ]
    )

    assert find(rows, "accuracy")["value"] == pytest.approx(0.25)
    assert find(rows, "accuracy_clean", "ct/low_dose:3")["value"] == pytest.approx(0.5)
    drop = find(rows, "accuracy_drop", "ct/low_dose:3")
    assert (drop["value"], drop["n"]) == (pytest.approx(0.5), 2)
    # Clean: 0.85 - 0.5; degraded: 0.75 - 0.
    change = find(rows, "calibration_shift_change", "ct/low_dose:3")
    assert change["value"] == pytest.approx(0.75 - 0.35)
    assert find(rows, "mean_confidence_clean", "ct/low_dose:3")["value"] == pytest.approx(0.85)
    assert not any(row["condition"] != "clean" and row["by"] == "modality=xray" for row in rows)


def test_a_drop_counts_only_questions_answered_in_both_conditions() -> None:
    rows = aggregate(
        [
            score("1", correct=1),
            score("2", status="error"),
            score("3", correct=1),
            score("1", "general/jpeg:1", correct=0),
            score("2", "general/jpeg:1", correct=0),
            score("3", "general/jpeg:1", status="error"),
        ]
    )

    drop = find(rows, "accuracy_drop", "general/jpeg:1")

    assert (drop["value"], drop["n"]) == (1.0, 1)


def test_a_pair_needs_both_answers_right() -> None:
    def pair(name: str, plain: int, negated: int, **fields: Any) -> list[Score]:
        shared = {"group": name, "cluster": name, "kind": "yes_no"}
        return [
            score(f"{name}/p", correct=plain, role="plain", tags={"task": "presence"}, **shared),
            score(
                f"{name}/n",
                correct=negated,
                role="negated",
                tags={"task": "negation"},
                **shared,
                **fields,
            ),
        ]

    rows = aggregate(
        pair("1", 1, 1) + pair("2", 1, 0) + pair("3", 0, 1) + pair("4", 1, 1, status="error")
    )

    both = find(rows, "paired_accuracy_negation")
    assert (both["value"], both["n"], both["n_error"]) == (pytest.approx(1 / 3, abs=1e-6), 3, 1)
    # A pair counts under the tags of its plain question.
    assert find(rows, "paired_accuracy_negation", by="task=presence")["n"] == 3
    assert not any(
        row["by"] == "task=negation" and row["metric"] == "paired_accuracy_negation" for row in rows
    )
    assert "paired_accuracy_hallucination" not in names(rows)


def test_always_yes_is_right_on_half_the_questions_and_on_no_pair() -> None:
    rows = aggregate(
        [
            score(f"{n}/{role}", correct=int(role == "plain"), group=str(n), role=role)
            for n in range(20)
            for role in ("plain", "hallucinated")
        ]
    )

    assert find(rows, "accuracy")["value"] == 0.5
    assert find(rows, "paired_accuracy_hallucination")["value"] == 0.0


def test_questions_of_one_patient_widen_the_interval() -> None:
    right = [
        number % 8 < 4 for number in range(400)
    ]  # patients of four questions, all right or all wrong
    together = aggregate(
        [score(str(n), correct=int(r), cluster=str(n // 4)) for n, r in enumerate(right)]
    )
    apart = aggregate([score(str(n), correct=int(r)) for n, r in enumerate(right)])

    wide, narrow = find(together, "accuracy"), find(apart, "accuracy")

    assert wide["ci_high"] - wide["ci_low"] > 1.7 * (narrow["ci_high"] - narrow["ci_low"])


@pytest.mark.parametrize("correct", [0, 1])
def test_all_right_or_all_wrong_is_not_certainty(correct: int) -> None:
    """The exact interval for 10 of 10 is [0.6915, 1] (Clopper and Pearson, two-sided 95 %)."""
    row = find(aggregate([score(str(i), correct=correct) for i in range(10)]), "accuracy")
    low, high = (0.6915, 1.0) if correct else (0.0, 0.3085)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=5e-5)


def test_chance_is_averaged_over_questions_that_have_one_and_has_no_interval() -> None:
    rows = aggregate([score("1", chance=0.25), score("2", chance=0.5), score("3", chance=None)])

    row = find(rows, "chance")

    assert (row["value"], row["n"], row["ci_low"]) == (0.375, 2, None)


def test_votes_have_an_accuracy_of_their_own() -> None:
    scores = [score("1", correct=1), score("2", correct=0)]
    scores += [score("1", correct=int(t < 7), trial=t, purpose="vote") for t in range(10)]
    scores += [score("2", correct=int(t < 3), trial=t, purpose="vote") for t in range(10)]

    rows = aggregate(scores)

    assert (find(rows, "accuracy")["value"], find(rows, "accuracy")["n"]) == (0.5, 2)
    assert (find(rows, "vote_accuracy")["value"], find(rows, "vote_accuracy")["n"]) == (0.5, 20)


def test_tokens_are_counted_at_what_they_were_spent_on() -> None:
    scores = [score("1", tokens=100), score("2", tokens=200)]
    scores += [score("1", tokens=110, purpose="vote", trial=t) for t in range(5)]
    scores += [score("2", tokens=210, purpose="vote", trial=t) for t in range(5)]

    rows = aggregate(scores)

    spent = {(row["metric"], row["confidence"]): row["value"] for row in rows if row["by"] is None}
    assert spent["tokens_per_question", None] == 150
    assert spent["tokens_per_question", "voting"] == 5 * 160
    assert spent["requests_per_question", "voting"] == 5


def test_dollars_are_counted_at_what_they_were_spent_on() -> None:
    scores = [score("1", cost_usd=0.001), score("2", cost_usd=0.0000005)]
    scores += [score("1", cost_usd=0.002, purpose="vote", trial=t) for t in range(5)]

    rows = aggregate(scores)

    spent = {(row["metric"], row["confidence"]): row["value"] for row in rows if row["by"] is None}
    assert spent["cost_usd_per_question", None] == 0.00050025
    assert spent["cost_usd_per_question", "voting"] == pytest.approx(0.01)


def test_without_a_price_there_is_no_cost() -> None:
    assert "cost_usd_per_question" not in names(aggregate([score("1", tokens=100)]))


def test_benchmarks_are_kept_apart_even_where_ids_coincide() -> None:
    rows = aggregate([score("1", correct=1), score("1", correct=0, benchmark="c")])

    assert {row["benchmark"]: row["value"] for row in rows if row["by"] is None} == {"b": 1, "c": 0}


def test_a_chain_is_one_degradation_at_its_highest_severity() -> None:
    condition = "ct/low_dose:3+general/jpeg:2"
    rows = aggregate([score("1"), score("1", condition, correct=0)])

    row = find(rows, "accuracy", condition)

    assert (row["degradation"], row["severity"]) == ("ct/low_dose+general/jpeg", 3)


def test_clean_comes_first_and_severities_in_order() -> None:
    conditions = ["general/jpeg:5", "clean", "general/jpeg:1", "ct/low_dose:3"]
    rows = aggregate([score("1", condition) for condition in conditions])

    order = [row["condition"] for row in rows if row["metric"] == "accuracy" and row["by"] is None]

    assert order == ["clean", "ct/low_dose:3", "general/jpeg:1", "general/jpeg:5"]


def test_every_metric_is_explained_and_no_scores_make_no_rows() -> None:
    rows = aggregate([score("1", confidence=0.5), score("1", "general/jpeg:1", confidence=0.5)])

    assert names(rows) <= set(METRICS)
    assert aggregate([]) == []
