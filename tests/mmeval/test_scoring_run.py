"""Scoring a run directory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mmeval.errors import MmevalError
from mmeval.schema import Response, Sample
from mmeval.scoring import box_iou, normalize, score_response, score_run, token_f1
from mmeval.scoring.run import verbalized_confidence
from tests.mmeval.synthetic_run import (
    make_run,
    make_samples,
    read_jsonl,
    respond,
    write_jsonl,
    write_run,
)


def score_of(kind: str, answer: str, text: str, **response: Any) -> Any:
    options = ["left", "right"] if kind == "choice" else []
    sample = Sample.from_dict(
        {"id": "s", "question": "?", "kind": kind, "answer": answer, "options": options}
    )
    return score_response(
        Response.from_dict(respond({"id": "s", "benchmark": "b"}, "clean", text, **response)),
        sample,
    )


# --- One response ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "gold", "text", "correct", "value"),
    [
        ("choice", "B", "The answer is B.", 1, 1.0),
        ("choice", "B", "left", 0, 0.0),
        ("yes_no", "no", "No.", 1, 1.0),
        ("yes_no", "no", "Yes, it is not normal.", 0, 0.0),
        ("open", "Pleural effusion", "the pleural effusion.", 1, 1.0),
        ("open", "pleural effusion", "right pleural effusion", 0, 0.8),
        ("box", "[10, 10, 20, 20]", "[10, 10, 20, 20]", 1, 1.0),
        ("box", "[0, 0, 10, 10]", "[0, 0, 10, 5]", 1, 0.5),
        ("box", "[0, 0, 100, 100]", "[0, 0, 100, 49]", 0, 0.49),
        ("box", "[10, 10, 20, 20]", "[50, 50, 60, 60]", 0, 0.0),
    ],
)
def test_a_parsed_answer_is_compared_with_the_gold_answer(
    kind: str, gold: str, text: str, correct: int, value: float
) -> None:
    score = score_of(kind, gold, text)

    assert (score.status, score.correct) == ("ok", correct)
    assert score.value == pytest.approx(value)


def test_an_unreadable_answer_is_unparsed_wrong_and_without_confidence() -> None:
    score = score_of("choice", "A", "I cannot tell.", option_logprobs={"A": -0.1, "B": -3.0})

    assert (score.status, score.parsed, score.correct) == ("unparsed", None, 0)
    assert score.confidence == {}
    assert score.rule


@pytest.mark.parametrize("status", ["error", "refused"])
def test_failed_and_refused_responses_are_not_read_as_answers(status: str) -> None:
    score = score_of("choice", "A", "A", status=status, option_logprobs={"A": -0.1, "B": -3.0})

    assert (score.status, score.parsed, score.correct, score.confidence) == (status, None, 0, {})


def test_confidence_is_the_probability_of_the_answer_given_among_the_candidates() -> None:
    logprobs = {"A": math.log(0.3), "B": math.log(0.1)}  # the rest of the vocabulary has 0.6

    assert score_of("choice", "A", "A", option_logprobs=logprobs).confidence == {"option": 0.75}
    assert score_of("choice", "A", "B", option_logprobs=logprobs).confidence == {"option": 0.25}


def test_very_small_probabilities_do_not_vanish() -> None:
    logprobs = {"A": -1000.0, "B": -1000.0 + math.log(3)}

    assert score_of("choice", "A", "B", option_logprobs=logprobs).confidence == {"option": 0.75}


def test_box_overlap_has_no_extra_pixel() -> None:
    # Intersection 5 x 10, union 150; with +1 on every edge it would be 66/176.
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_normalisation_keeps_what_changes_the_meaning() -> None:
    assert normalize("The Left  lung, 1.5 cm.") == "left lung 1.5 cm"
    assert normalize("left") != normalize("right")
    assert normalize("no effusion") != normalize("effusion")


def test_token_f1_counts_repeated_words_once_each() -> None:
    assert token_f1("mass mass mass", "mass") == pytest.approx(0.5)
    assert token_f1("", "mass") == 0.0


# --- A run ----------------------------------------------------------------------------------------


def test_scoring_again_changes_no_byte(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_images=6)
    score_run(run)
    first = {name: (run / name).read_bytes() for name in ("scores.jsonl", "metrics.json")}

    score_run(run)

    assert {name: (run / name).read_bytes() for name in first} == first


def test_the_order_in_which_answers_came_does_not_matter(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_images=4)
    score_run(run)
    first = {name: (run / name).read_bytes() for name in ("scores.jsonl", "metrics.json")}
    for name in ("responses.jsonl", "requests.jsonl"):
        write_jsonl(run / name, read_jsonl(run / name)[::-1])

    score_run(run)

    assert {name: (run / name).read_bytes() for name in first} == first


def test_every_response_gets_one_score_and_failures_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_images=6)

    score_run(run)

    scores = read_jsonl(run / "scores.jsonl")
    statuses = [score["status"] for score in scores]
    assert len(scores) == len(read_jsonl(run / "responses.jsonl"))
    assert [statuses.count(name) for name in ("error", "refused", "unparsed")] == [1, 1, 1]
    rows = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["rows"]
    overall = [row for row in rows if row["metric"] == "accuracy" and row["by"] is None]
    assert sum(row["n"] + row["n_error"] for row in overall) == len(scores)


def test_the_made_up_model_loses_accuracy_but_not_confidence(tmp_path: Path) -> None:
    rows = score_run(make_run(tmp_path / "run", n_images=40, seed=1)).rows

    def value(metric: str, condition: str) -> float:
        found = [
            row["value"]
            for row in rows
            if (row["metric"], row["condition"], row["by"]) == (metric, condition, None)
        ]
        assert found[0] is not None
        return found[0]

    worst = "general/gaussian_noise:5"
    assert value("accuracy", "clean") == pytest.approx(0.9, abs=0.08)
    assert value("accuracy", worst) == pytest.approx(0.5, abs=0.12)
    assert value("mean_confidence", worst) == pytest.approx(0.9, abs=0.02)
    assert value("calibration_shift_change", worst) == pytest.approx(0.4, abs=0.15)


def test_metrics_json_holds_no_nan(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        make_samples(1),
        [respond(make_samples(1)[0], "clean", "", status="error", error="out of memory")],
    )

    score_run(run)

    text = (run / "metrics.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["rows"][0]["value"] is None


def test_votes_give_the_answer_a_voting_confidence(tmp_path: Path) -> None:
    sample = make_samples(1)[0]
    votes = ["A"] * 7 + ["B"] * 3
    responses = [respond(sample, "clean", "B", key="k")]
    responses += [
        respond(sample, "clean", text, trial=trial, key=f"k{trial}", purpose="vote")
        for trial, text in enumerate(votes)
    ]

    summary = score_run(write_run(tmp_path / "run", [sample], responses))

    # Two options: 1 - H(0.7) / log 2.
    entropy = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    expected = 1 - entropy / math.log(2)
    answer, *voted = summary.scores
    assert answer.confidence["voting"] == round(expected, 6)
    assert all(score.confidence == {} for score in voted)
    found = {
        (row["metric"], row["confidence"]): row["value"]
        for row in summary.rows
        if row["by"] is None
    }
    gold = sample["answer"]
    assert found["accuracy", None] == float(gold == "B")
    assert found["vote_accuracy", None] == {"A": 0.7, "B": 0.3}[gold]
    assert found["majority_accuracy", None] == {"A": 1.0, "B": 0.0}[gold]
    assert found["requests_per_question", "voting"] == 10


def test_a_verbalized_confidence_is_compared_with_its_own_answer(tmp_path: Path) -> None:
    samples = make_samples(2)
    choices = [sample for sample in samples if sample["kind"] == "choice"]
    responses = []
    for number, (sample, said) in enumerate(zip(choices, ("90", "many"), strict=True)):
        wrong = "AB"[sample["answer"] == "A"]
        text = f"{sample['answer']}\nConfidence: {said}"
        responses += [
            respond(sample, "clean", wrong, key=f"a{number}"),
            respond(sample, "clean", text, key=f"v{number}", purpose="verbalized"),
        ]

    rows = score_run(write_run(tmp_path / "run", choices, responses)).rows

    found = {(r["metric"], r["confidence"]): r for r in rows if r["by"] is None}
    assert found["accuracy", None]["value"] == 0
    shift = found["calibration_shift", "verbalized"]
    assert (shift["value"], shift["n"], shift["n_unparsed"]) == (pytest.approx(-0.1), 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B\nConfidence: 80", ("B", 0.8)),
        ("B. Confidence: **95%**", ("B.", 0.95)),
        ("yes\nconfidence = 100", ("yes", 1.0)),
        ("Confidence: 80\nno wait\nB\nConfidence: 30", ("Confidence: 80\nno wait\nB", 0.3)),
        ("B\nConfidence: 0.8", ("B", None)),
        ("B\nConfidence: 0.8%", ("B", 0.008)),
        ("B\nConfidence: 120", ("B", None)),
        ("B\nConfidence: high", ("B\nConfidence: high", None)),
        ("B", ("B", None)),
    ],
)
def test_a_confidence_is_read_strictly(text: str, expected: tuple[str, float | None]) -> None:
    rest, value = verbalized_confidence(text)
    assert (rest.strip("*% "), value) == (expected[0], pytest.approx(expected[1]))


def test_an_answer_to_an_unknown_question_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_images=2)
    write_jsonl(run / "samples.jsonl", make_samples(2)[:2])

    with pytest.raises(MmevalError, match=r"not in samples\.jsonl"):
        score_run(run)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmevalError, match="run directory"):
        score_run(tmp_path)
