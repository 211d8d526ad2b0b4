"""What a protocol is: how a question is put, how the answer is read, and what it is worth.

A published protocol is a module of this package with a ``PROTOCOL`` (or ``PROTOCOLS``) and nothing
that the published one does not have, its mistakes included; `Protocol.quirks` names them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmeval.schema import LETTERS, Sample, Score
from mmeval.scoring.extract import Extraction, extract
from mmeval.scoring.normalize import (
    box_iou,
    normalize,
    number_within,
    parse_box,
    token_f1,
)

__all__ = [
    "VERBALIZED",
    "Figure",
    "Item",
    "Judge",
    "Protocol",
    "images_first",
    "images_last",
    "lettered",
    "ratio",
]

#: Behind a question, where the model is to say how sure it is.
VERBALIZED = (
    "\nOn a second line, say how likely it is that your answer is right, from 0 to 100, "
    "like this:\nConfidence: 80"
)
IOU_THRESHOLD = 0.5

Part = dict[str, str]


class Item(NamedTuple):
    """An answered question, as group metrics see it.

    Attributes:
        score: Of the answer.
        sample: The question.
        text: What the model wrote; empty where it failed.
        judged: Criterion to what a judge gave, None where the judge could not be read.
    """

    score: Score
    sample: Sample
    text: str = ""
    judged: Mapping[str, float | None] = {}


@dataclass(frozen=True)
class Figure:
    """One published metric of one benchmark under one condition.

    Attributes:
        metric: With the protocol's name: ``mmevalpro/GA``.
        value: In `unit`, None where it is undefined.
        n: The denominator.
        unit: ``percent`` (0 to 100), ``share`` (0 to 1), or what the source counts in.
        by: ``source=MMMU``, None over everything.
        parts: Cluster, numerator and denominator of each member, where `value` is the ratio of
            their sums; its confidence interval is made from them.
    """

    metric: str
    value: float | None
    n: int
    unit: str = "percent"
    by: str | None = None
    parts: tuple[tuple[str, float, float], ...] = ()


def ratio(
    metric: str,
    parts: Iterable[tuple[str, float, float]],
    *,
    by: str | None = None,
    unit: str = "percent",
) -> Figure:
    """Returns the figure that is a ratio of sums.

    Args:
        metric: Its name.
        parts: Cluster, numerator and denominator of each member (a question, a pair, an image).
        by: The subset it is over.
        unit: ``percent`` multiplies by 100.
    """
    members = tuple(parts)
    below = math.fsum(part[2] for part in members)
    value = math.fsum(part[1] for part in members) / below if below else None
    scale = 100.0 if unit == "percent" else 1.0
    return Figure(
        metric,
        None if value is None else value * scale,
        sum(part[2] != 0 for part in members),
        unit,
        by,
        members,
    )


@dataclass(frozen=True)
class Judge:
    """What a judging model is asked about an answer.

    Attributes:
        prompts: Sample and answer to the text put to the judge for each criterion.
        parse: Reads its reply; None where it cannot be read.
    """

    prompts: Callable[[Sample, str], Mapping[str, str]]
    parse: Callable[[str], float | None]


def images_first(sample: Sample, text: str) -> list[Part]:
    """Returns the content of a message: the images in their order, then the text."""
    return [*({"type": "image"} for _ in sample.images), {"type": "text", "text": text}]


def images_last(sample: Sample, text: str) -> list[Part]:
    """Returns the content of a message: the text, then the images in their order."""
    return [{"type": "text", "text": text}, *({"type": "image"} for _ in sample.images)]


def lettered(sample: Sample, line: str = "{letter}. {text}", between: str = "\n") -> str:
    """Returns the options of a sample, one `line` each. Braces inside an option are text."""
    return between.join(
        line.replace("{letter}", letter).replace("{text}", text)
        for letter, text in zip(LETTERS, sample.options, strict=False)
    )


#: Longest answer (characters) whose reading is remembered; long ones are seldom equal.
_REMEMBERED = 200
_remembered = functools.lru_cache(maxsize=1 << 14)(extract)


def own_parse(text: str, sample: Sample) -> Extraction:
    """Reads the answer with mmeval's strict extractor."""
    # Under thirty conditions a question gets the same answer again and again.
    read = _remembered if len(text) <= _REMEMBERED else extract
    return read(sample.kind, text, sample.options)


def own_compare(answer: str, sample: Sample) -> tuple[int, float]:
    """Compares a read answer with the gold one.

    choice, yes_no: equal. multiple: the same letters; the value is the Jaccard index. number:
    within ``low`` and ``high``, within the relative ``tolerance``, or equal. box: the value is the
    intersection over union, right from 0.5. open, report: equal after `normalize`; the value is the
    token F1.

    Returns:
        1 or 0, and the value.
    """
    gold = sample.answer
    if sample.kind == "box":
        overlap = box_iou(parse_box(answer), parse_box(gold))
        return int(overlap >= IOU_THRESHOLD), round(overlap, 6)
    if sample.kind in ("open", "report"):
        return int(normalize(answer) == normalize(gold)), round(token_f1(answer, gold), 6)
    if sample.kind == "multiple":
        given, right = set(answer.split(",")), set(gold.split(","))
        return int(given == right), round(len(given & right) / len(given | right), 6)
    correct = int(number_within(answer, sample) if sample.kind == "number" else answer == gold)
    return correct, float(correct)


def no_figures(items: Sequence[Item]) -> Iterable[Figure]:
    """Returns none: accuracy and its like are computed for every benchmark anyway."""
    return ()


@dataclass(frozen=True)
class Protocol:
    """How a benchmark's questions are put, read and scored.

    Attributes:
        name: What configurations call it.
        description: One line.
        source: Paper and code.
        prompt: Sample to the text of the question.
        quirks: How the published code differs from what its paper or common sense says. It is
            reproduced here.
        content: Sample and text to the parts of the message, images among them.
        system: System message.
        follow_up: Sample and first answer to the text of a second turn, whose answer counts.
        parse: Response and sample to the answer read.
        compare: Answer and sample to 1 or 0 and to a value.
        figures: Group metrics over the items of one benchmark under one condition.
        samples: A published record to mappings of `Sample` fields.
        predictions: Published result records, gold included, to pairs of `Sample` fields and
            response (None where the model gave none).
        judge: What a judging model is asked, for scores that need one.
        max_new_tokens: Longest answer, unless the run says otherwise.
    """

    name: str
    description: str
    source: str
    prompt: Callable[[Sample], str]
    quirks: tuple[str, ...] = ()
    content: Callable[[Sample, str], list[Part]] = images_first
    system: str | None = None
    follow_up: Callable[[Sample, str], str] | None = None
    parse: Callable[[str, Sample], Extraction] = own_parse
    compare: Callable[[str, Sample], tuple[int, float]] = own_compare
    figures: Callable[[Sequence[Item]], Iterable[Figure]] = no_figures
    samples: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] | None = None
    predictions: (
        Callable[[Sequence[Mapping[str, Any]]], Iterable[tuple[Mapping[str, Any], str | None]]]
        | None
    ) = None
    judge: Judge | None = None
    max_new_tokens: int = 32

    def messages(
        self,
        sample: Sample,
        *,
        verbalized: bool = False,
        label: str | None = None,
        first: str | None = None,
    ) -> tuple[Mapping[str, Any], ...]:
        """Returns the messages that put a question.

        Args:
            sample: What is asked.
            verbalized: Whether to ask for a confidence from 0 to 100 behind the answer.
            label: Said before each of several images, ``{n}`` being its number: ``Image {n}:``.
            first: The answer of the first turn, for the messages of the second.
        """
        last = VERBALIZED if verbalized else ""
        two_turns = self.follow_up is not None and first is not None
        parts = self.content(sample, self.prompt(sample) + ("" if two_turns else last))
        if label is not None and len(sample.images) > 1:
            parts = _labelled(parts, label)
        messages: list[Mapping[str, Any]] = []
        if self.system is not None:
            messages.append(_message("system", [{"type": "text", "text": self.system}]))
        messages.append(_message("user", parts))
        if self.follow_up is not None and first is not None:
            again = self.follow_up(sample, first) + last
            messages.append(_message("assistant", [{"type": "text", "text": first}]))
            messages.append(_message("user", [{"type": "text", "text": again}]))
        return tuple(messages)


def _message(role: str, parts: list[Part]) -> Mapping[str, Any]:
    return {"role": role, "content": parts}


def _labelled(parts: Sequence[Part], label: str) -> list[Part]:
    found: list[Part] = []
    number = 0
    for part in parts:
        if part["type"] == "image":
            number += 1
            found.append({"type": "text", "text": label.replace("{n}", str(number))})
        found.append(part)
    return found
