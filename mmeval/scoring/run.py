"""Score a run: `responses.jsonl` and `samples.jsonl` in, `scores.jsonl` and `metrics.json` out."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from mmeval import config, protocols, store
from mmeval.errors import MmevalError
from mmeval.metrics import voting_confidence
from mmeval.metrics.aggregate import Row, aggregate
from mmeval.metrics.arrays import FloatArray
from mmeval.metrics.statistics import clustered_bootstrap
from mmeval.models import options
from mmeval.models.base import Model
from mmeval.protocols.base import Figure, Item, Judge, Protocol, no_figures
from mmeval.schema import PURPOSES, SCHEMA, Condition, Response, Sample, Score, canonical
from mmeval.scoring.judge import Judged, Judgements, judge

__all__ = [
    "Summary",
    "judge_run",
    "published_rows",
    "read_scores",
    "score_response",
    "score_run",
    "verbalized_confidence",
]

RESAMPLES = 2_000
SEED = 0


@dataclass(frozen=True)
class Summary:
    """What a scored run holds: one score per response, and the rows of `metrics.json`."""

    scores: tuple[Score, ...]
    rows: tuple[Row, ...]


def score_response(
    response: Response,
    sample: Sample,
    price: Mapping[str, float] | None = None,
    protocol: Protocol | None = None,
) -> Score:
    """Compare one response with the gold answer of its question.

    Unparsed, refused and failed responses are worth 0 and keep their status. The confidence
    "option" is the probability of the answer given, renormalised over the candidates.

    Args:
        response: What the model said.
        sample: What it was asked, turned as its condition says.
        price: Dollars per million tokens: ``{"prompt": 2.5, "completion": 10}``.
        protocol: How the answer is read and compared; ``direct`` by default.
    """
    protocol = protocol or protocols.get("direct")
    condition = _condition(response.condition)
    read = _read(response, sample, protocol)
    return Score(
        key=response.key,
        benchmark=response.benchmark,
        sample=response.sample,
        condition=response.condition,
        degradation=condition.degradation,
        severity=condition.severity,
        trial=response.trial,
        status=read.status,
        parsed=read.parsed,
        rule=read.rule,
        span=read.span,
        correct=read.correct,
        value=read.value,
        confidence=read.confidence or {},
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


class _Read(NamedTuple):
    """What a response comes to, as the fields of `Score`."""

    status: str
    parsed: str | None = None
    rule: str | None = None
    span: tuple[int, int] | None = None
    correct: int = 0
    value: float = 0.0
    confidence: Mapping[str, float] | None = None


def _read(response: Response, sample: Sample, protocol: Protocol) -> _Read:
    if response.status != "ok":
        return _Read(response.status)
    text, confidence = response.text, {}
    if response.purpose == "verbalized":
        text, said = verbalized_confidence(text)
        if said is None:
            return _Read("unparsed", rule="no confidence")
        confidence = {"verbalized": said}
    answer = protocol.parse(text, sample)
    if answer.value is None:
        return _Read("unparsed", rule=answer.rule)
    correct, value = protocol.compare(answer.value, sample)
    probability = _option_probability(response.option_logprobs, answer.value)
    if probability is not None:
        confidence = {"option": probability}
    return _Read("ok", answer.value, answer.rule, answer.span, correct, value, confidence)


@functools.lru_cache(maxsize=1024)
def _condition(name: str) -> Condition:
    return Condition(name)


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


@dataclass(frozen=True)
class _Recipe:
    """What the configuration of a run says about scoring; runs made by hand may have none."""

    protocols: Mapping[str, Protocol]
    price: Mapping[str, float] | None
    seed: int

    @classmethod
    def of(cls, run_dir: Path, protocol: str | None) -> Self:
        path = run_dir / "config.yaml"
        data = config.read_yaml(path) if path.is_file() else {}
        model = data.get("model")
        price = model.get("price") if isinstance(model, Mapping) else None
        chosen = protocol or data.get("protocol")
        named = {
            str(spec.get("name") or "benchmark"): protocols.get(
                str(chosen or spec.get("protocol") or "direct")
            )
            for spec in data.get("benchmarks") or ()
        }
        fallback = protocols.get(str(chosen or "direct"))
        return cls(
            defaultdict(lambda: fallback, named),
            None if price is None else options.checked_price(price),
            int(data.get("seed") or 0),
        )


def score_run(
    run_dir: Path,
    protocol: str | None = None,
    answers: store.Answers | None = None,
    samples: Mapping[tuple[str, str], Sample] | None = None,
) -> Summary:
    """Score every response of a run and write `scores.jsonl` and `metrics.json`, each at once.

    Neither the model nor the images are needed, and nothing in the result depends on the order in
    which the responses came or on the time: scoring an unchanged run again writes the same bytes.

    Args:
        run_dir: A run directory.
        protocol: Reads and scores the answers instead of the one they were asked with.
        answers: Where the answers are, for who has just written them.
        samples: What ``samples.jsonl`` holds, likewise.

    Raises:
        MmevalError: If a file is missing or damaged, a response belongs to no sample, or there is
            no such protocol.
    """
    if samples is None:
        samples = store.samples(run_dir)
    position = {key: number for number, key in enumerate(samples)}
    recipe = _Recipe.of(run_dir, protocol)
    turned = _Turned(samples, recipe.seed)
    scores = []
    texts: dict[str, str] = {}
    for response in store.responses(run_dir, answers):
        if response.purpose == "turn":
            continue
        if (response.benchmark, response.sample) not in samples:
            raise MmevalError(
                f"{run_dir / 'responses.jsonl'}: sample {response.sample!r} of benchmark "
                f"{response.benchmark!r} is not in samples.jsonl; both files must belong to one run"
            )
        sample = turned(response.benchmark, response.sample, response.condition)
        used = recipe.protocols[response.benchmark]
        scores.append(score_response(response, sample, recipe.price, used))
        if used.figures is not no_figures and response.purpose == "answer":
            texts[response.key] = response.text
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
    judgements = Judgements(run_dir)
    rows = [*aggregate(scores), *_published(scores, turned, texts, recipe.protocols, judgements)]
    store.write_jsonl(run_dir / "scores.jsonl", (score.to_dict() for score in scores))
    lines = ",\n".join(canonical(row) for row in rows)
    store.write_atomic(run_dir / "metrics.json", f'{{"schema":{SCHEMA},"rows":[\n{lines}\n]}}\n')
    return Summary(tuple(scores), tuple(rows))


def judge_run(run_dir: Path, model: Model, protocol: str | None = None) -> Judged:
    """Puts the answers of a run to a judging model, where their protocol says what it is asked.

    `score_run` uses what it said. Judgements are kept: the same judge is asked about the same
    answer once.

    Args:
        run_dir: A run directory.
        model: The judge.
        protocol: See `score_run`.

    Raises:
        MmevalError: No benchmark of the run has a protocol with a judge.
    """
    recipe = _Recipe.of(run_dir, protocol)
    turned = _Turned(store.samples(run_dir), recipe.seed)

    def answers() -> Iterator[tuple[Response, Sample, Judge]]:
        for response in store.responses(run_dir):
            asked = recipe.protocols[response.benchmark].judge
            if asked is not None and response.purpose == "answer":
                where = (response.benchmark, response.sample, response.condition)
                yield response, turned(*where), asked

    return judge(run_dir, answers(), model)


class _Turned:
    """Samples as the variant of a condition turned them, made once."""

    def __init__(self, samples: Mapping[tuple[str, str], Sample], seed: int) -> None:
        self._samples, self._seed = samples, seed
        self._made: dict[tuple[str, str, str], Sample] = {}

    def __call__(self, benchmark: str, id: str, condition: str) -> Sample:
        sample = self._samples[benchmark, id]
        variant = _condition(condition).variant
        if variant is None or sample.invalid is not None:
            return sample
        key = (benchmark, id, variant)
        if key not in self._made:
            from mmeval import probing

            turned = probing.apply_variant(sample, variant, self._seed)
            if isinstance(turned, probing.Refused):
                raise MmevalError(
                    f"{benchmark}: {id}: was asked under {condition}, which does not apply to it "
                    f"({turned.reason}); was the run made by another version of mmeval?"
                )
            self._made[key] = turned
        return self._made[key]


def _published(
    scores: Sequence[Score],
    turned: _Turned,
    texts: Mapping[str, str],
    used: Mapping[str, Protocol],
    judgements: Judgements,
) -> Iterator[Row]:
    """The group metrics of each benchmark's protocol, one condition after the other."""
    found: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
    for score in scores:
        if score.purpose == "answer" and used[score.benchmark].figures is not no_figures:
            sample = turned(score.benchmark, score.sample, score.condition)
            text, asked = texts.get(score.key, ""), used[score.benchmark].judge
            judged = judgements.of(asked, sample, text) if asked and judgements else {}
            found[score.benchmark, score.condition].append(Item(score, sample, text, judged))
    for (benchmark, condition), items in sorted(
        found.items(), key=lambda item: (item[0][0], item[0][1] != "clean", item[0][1])
    ):
        yield from published_rows(used[benchmark], benchmark, condition, items)


def published_rows(
    protocol: Protocol, benchmark: str, condition: str, items: Sequence[Item]
) -> Iterator[Row]:
    """Yields a protocol's group metrics as rows of ``metrics.json``, with clustered intervals."""
    counts = Counter(item.score.status for item in items)
    where = _condition(condition)
    for figure in protocol.figures(items):
        low, high = _interval(figure)
        yield Row(
            benchmark=benchmark,
            metric=figure.metric,
            value=None if figure.value is None else round(figure.value, 9) + 0.0,
            ci_low=low,
            ci_high=high,
            n=figure.n,
            n_unparsed=counts["unparsed"],
            n_refused=counts["refused"],
            n_error=counts["error"],
            condition=condition,
            degradation=where.degradation,
            severity=where.severity,
            by=figure.by,
            confidence=None,
            unit=figure.unit,
        )


def _interval(figure: Figure) -> tuple[float | None, float | None]:
    """The clustered 95 % interval of a ratio; a share of 0 or 1 gets the exact binomial one."""
    clusters = [part[0] for part in figure.parts]
    if figure.value is None or len(set(clusters)) < 2:
        return None, None
    scale = 100.0 if figure.unit == "percent" else 1.0
    value = figure.value / scale
    if value in (0.0, 1.0) and all(0 <= part[1] <= part[2] for part in figure.parts):
        from scipy.stats import binomtest

        n = len(set(clusters))
        low, high = binomtest(int(value) * n, n).proportion_ci()
    else:

        def share(totals: FloatArray, counts: FloatArray) -> FloatArray:
            shares: FloatArray = np.full(len(totals), value)
            np.divide(totals[:, 0], totals[:, 1], out=shares, where=totals[:, 1] > 0)
            return shares

        _, low, high = clustered_bootstrap(
            [part[1:] for part in figure.parts], clusters, share, RESAMPLES, SEED
        )
    return round(scale * low, 6), round(scale * high, 6)


def read_scores(run_dir: Path) -> list[Score]:
    """Read the scores of a run.

    Raises:
        MmevalError: If the run has not been scored; `mmeval score` does it.
    """
    return [Score.from_dict(record) for record in store.read_records(run_dir, "scores.jsonl")]
