"""Score a run: `responses.jsonl` and `samples.jsonl` in, `scores.jsonl` and `metrics.json` out."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmeval import config, store
from mmeval.errors import MmevalError
from mmeval.metrics import voting_confidence
from mmeval.metrics.aggregate import Row, aggregate
from mmeval.models import options
from mmeval.schema import PURPOSES, SCHEMA, Condition, Response, Sample, Score, canonical
from mmeval.scoring.extract import extract
from mmeval.scoring.normalize import box_iou, normalize, parse_box, token_f1

__all__ = [
    "Summary",
    "read_scores",
    "score_response",
    "score_run",
    "verbalized_confidence",
]

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Summary:
    """What a scored run holds: one score per response, and the rows of `metrics.json`."""

    scores: tuple[Score, ...]
    rows: tuple[Row, ...]


def score_response(
    response: Response, sample: Sample, price: Mapping[str, float] | None = None
) -> Score:
    """Compare one response with the gold answer of its question.

    choice, yes_no: right if the extracted answer is the gold answer. box: `value` is the
    intersection over union, right from 0.5. open: right if both are equal after `normalize`;
    `value` is the token F1. Unparsed, refused and failed responses are worth 0 and keep their
    status. The confidence "option" is the probability of the answer given, renormalised over the
    candidates. `price` is in dollars per million tokens: ``{"prompt": 2.5, "completion": 10}``.
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
        purpose=response.purpose,
        tokens=_tokens(response),
        cost_usd=_cost(response, price),
    )
    if response.status != "ok":
        return score
    text, confidence = response.text, {}
    if response.purpose == "verbalized":
        text, said = verbalized_confidence(text)
        if said is None:
            return replace(score, status="unparsed", rule="no confidence")
        confidence = {"verbalized": said}
    answer = extract(sample.kind, text, sample.options)
    if answer.value is None:
        return replace(score, status="unparsed", rule=answer.rule)
    correct, value = _compare(sample.kind, answer.value, sample.answer)
    probability = _option_probability(response.option_logprobs, answer.value)
    if probability is not None:
        confidence = {"option": probability}
    return replace(
        score,
        parsed=answer.value,
        rule=answer.rule,
        span=answer.span,
        correct=correct,
        value=value,
        confidence=confidence,
    )


# The last one counts: a model may repeat the example before it answers.
_CONFIDENCE = re.compile(r"confidence\W{1,6}(\d{1,3}(?:\.\d+)?)(?![\d.])\s*(%?)", re.IGNORECASE)


def verbalized_confidence(text: str) -> tuple[str, float | None]:
    r"""Reads ``Confidence: 80`` behind an answer.

    Returns:
        The text without it, and the confidence from 0 to 1. None where there is none, where it
        exceeds 100, and where it could be a share as well as percent (``0.8``): never a guess.

    Example:
        >>> verbalized_confidence("B\nConfidence: 80")
        ('B', 0.8)
        >>> verbalized_confidence("B, confidence: 0.8")[1] is None
        True
    """
    found = list(_CONFIDENCE.finditer(text))
    if not found:
        return text, None
    last = found[-1]
    value = float(last[1])
    rest = text[: last.start()].rstrip(" \n,;(*_") + text[last.end() :]
    if value > 100.0 or ("." in last[1] and value <= 1.0 and not last[2]):
        return rest, None
    return rest, value / 100.0


def _tokens(response: Response) -> int | None:
    if response.prompt_tokens is None or response.completion_tokens is None:
        return None
    return response.prompt_tokens + response.completion_tokens


def _cost(response: Response, price: Mapping[str, float] | None) -> float | None:
    if not price or response.prompt_tokens is None or response.completion_tokens is None:
        return None
    prompt = response.prompt_tokens * price.get("prompt", 0.0)
    completion = response.completion_tokens * price.get("completion", 0.0)
    return round((prompt + completion) / 1e6, 12)


def _price(run_dir: Path) -> Mapping[str, float] | None:
    """What the run's configuration says of the model's price; made runs have no configuration."""
    path = run_dir / "config.yaml"
    model = config.read_yaml(path).get("model") if path.is_file() else None
    price = model.get("price") if isinstance(model, Mapping) else None
    return None if price is None else options.checked_price(price)


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
    """Add the confidence "voting" to the answers of questions that were voted on.

    A vote that cannot be read counts for no option; a question without any readable vote has no
    voting confidence.
    """
    cast: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for score in scores:
        if score.purpose == "vote" and score.parsed is not None:
            cast[score.benchmark, score.sample, score.condition].append(score.parsed)
    voted: list[Score] = []
    for score in scores:
        votes = cast.get((score.benchmark, score.sample, score.condition), [])
        n_options = len(samples[score.benchmark, score.sample].candidates)
        if score.purpose == "answer" and votes and score.parsed is not None:
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
    price = _price(run_dir)
    scores = []
    for response in store.responses(run_dir):
        sample = samples.get((response.benchmark, response.sample))
        if sample is None:
            raise MmevalError(
                f"{run_dir / 'responses.jsonl'}: sample {response.sample!r} of benchmark "
                f"{response.benchmark!r} is not in samples.jsonl; both files must belong to one run"
            )
        scores.append(score_response(response, sample, price))
    scores.sort(
        key=lambda score: (
            position[score.benchmark, score.sample],
            score.degradation or "",
            score.severity,
            score.condition,
            PURPOSES.index(score.purpose),
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
