"""Score a run: `responses.jsonl` and `samples.jsonl` in, `scores.jsonl` and `metrics.json` out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmeval import store
from mmeval.errors import MmevalError
from mmeval.metrics import voting_confidence
from mmeval.metrics.aggregate import Row, aggregate
from mmeval.schema import SCHEMA, Condition, Response, Sample, Score, canonical
from mmeval.scoring.extract import extract
from mmeval.scoring.normalize import box_iou, normalize, parse_box, token_f1

__all__ = ["Summary", "read_scores", "score_response", "score_run"]

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Summary:
    """What a scored run holds: one score per response, and the rows of `metrics.json`."""

    scores: tuple[Score, ...]
    rows: tuple[Row, ...]


def score_response(response: Response, sample: Sample) -> Score:
    """Compare one response with the gold answer of its question.

    choice, yes_no: right if the extracted answer is the gold answer. box: `value` is the
    intersection over union, right from 0.5. open: right if both are equal after `normalize`;
    `value` is the token F1. Unparsed, refused and failed responses are worth 0 and keep their
    status. The confidence "option" is the probability of the answer given, renormalised over the
    candidates.
    """
    condition = Condition(response.condition)
    score = Score(
        key=response.key,
        benchmark=response.benchmark,
        sample=response.sample,
        condition=response.condition,
        degradation=condition.degradation,
        severity=condition.severity,
        trial=response.trial,
        status=response.status,
        parsed=None,
        rule=None,
        span=None,
        correct=0,
        value=0.0,
        confidence={},
        gold=sample.answer,
        kind=sample.kind,
        group=sample.group,
        role=sample.role,
        cluster=sample.cluster,
        chance=sample.chance,
        tags=sample.tags,
    )
    if response.status != "ok":
        return score
    answer = extract(sample.kind, response.text, sample.options)
    if answer.value is None:
        return replace(score, status="unparsed", rule=answer.rule)
    correct, value = _compare(sample.kind, answer.value, sample.answer)
    probability = _option_probability(response.option_logprobs, answer.value)
    return replace(
        score,
        parsed=answer.value,
        rule=answer.rule,
        span=answer.span,
        correct=correct,
        value=value,
        confidence={} if probability is None else {"option": probability},
    )


def _compare(kind: str, answer: str, gold: str) -> tuple[int, float]:
    if kind == "box":
        overlap = box_iou(parse_box(answer), parse_box(gold))
        return int(overlap >= IOU_THRESHOLD), round(overlap, 6)
    if kind == "open":
        return int(answer == normalize(gold)), round(token_f1(answer, gold), 6)
    correct = int(answer == gold)
    return correct, float(correct)


def _option_probability(logprobs: Mapping[str, float] | None, answer: str) -> float | None:
    if not logprobs or answer not in logprobs:
        return None
    highest = max(logprobs.values())
    weights = {option: math.exp(value - highest) for option, value in logprobs.items()}
    return round(weights[answer] / math.fsum(weights.values()), 6)


def _with_voting(scores: list[Score], samples: Mapping[tuple[str, str], Sample]) -> list[Score]:
    """Add the confidence "voting" where a question was asked more than once."""
    trials: defaultdict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in scores:
        trials[score.benchmark, score.sample, score.condition].append(score)
    voted: list[Score] = []
    for score in scores:
        asked = trials[score.benchmark, score.sample, score.condition]
        n_options = len(samples[score.benchmark, score.sample].candidates)
        if len(asked) > 1 and n_options > 1 and score.parsed is not None:
            votes = [trial.parsed for trial in asked if trial.parsed is not None]
            voting = round(voting_confidence(votes, n_options), 6)
            voted.append(replace(score, confidence={**score.confidence, "voting": voting}))
        else:
            voted.append(score)
    return voted


# --- Files ----------------------------------------------------------------------------------------


def score_run(run_dir: Path) -> Summary:
    """Score every response of a run and write `scores.jsonl` and `metrics.json`, each at once.

    Neither the model nor the images are needed, and nothing in the result depends on the order in
    which the responses came or on the time: scoring an unchanged run again writes the same bytes.

    Args:
        run_dir: A run directory.

    Raises:
        MmevalError: If a file is missing or damaged, or a response belongs to no sample.
    """
    samples = store.samples(run_dir)
    position = {key: number for number, key in enumerate(samples)}
    scores = []
    for response in store.responses(run_dir):
        sample = samples.get((response.benchmark, response.sample))
        if sample is None:
            raise MmevalError(
                f"{run_dir / 'responses.jsonl'}: sample {response.sample!r} of benchmark "
                f"{response.benchmark!r} is not in samples.jsonl; both files must belong to one run"
            )
        scores.append(score_response(response, sample))
    scores.sort(
        key=lambda score: (
            position[score.benchmark, score.sample],
            score.degradation or "",
            score.severity,
            score.condition,
            score.trial,
        )
    )
    scores = _with_voting(scores, samples)
    rows = aggregate(scores)
    store.write_jsonl(run_dir / "scores.jsonl", (score.to_dict() for score in scores))
    lines = ",\n".join(canonical(row) for row in rows)
    store.write_atomic(run_dir / "metrics.json", f'{{"schema":{SCHEMA},"rows":[\n{lines}\n]}}\n')
    return Summary(tuple(scores), tuple(rows))


def read_scores(run_dir: Path) -> list[Score]:
    """Read the scores of a run.

    Raises:
        MmevalError: If the run has not been scored; `mmeval score` does it.
    """
    return [Score.from_dict(record) for record in store.read_records(run_dir, "scores.jsonl")]
