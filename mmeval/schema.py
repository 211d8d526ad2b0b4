"""The records that travel through mmeval and lie in its files, one JSON object a line each.

`Sample` is a question as a benchmark states it, `Condition` what is done to its images first,
`Request` what a model is sent, `Response` what came back, `Score` what that was worth. All are
frozen; `to_dict` and `from_dict` round-trip through JSON. `SCHEMA` rises when a field changes its
meaning.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mmeval.errors import MmevalError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "BOX_UNITS",
    "CONTROLS",
    "KINDS",
    "LETTERS",
    "PURPOSES",
    "SCHEMA",
    "Condition",
    "ImageRef",
    "Request",
    "Response",
    "Sample",
    "Score",
    "canonical",
    "read_jsonl",
]

SCHEMA = 1
KINDS = ("choice", "multiple", "yes_no", "open", "number", "box", "report")
CONTROLS = ("no_image", "blank", "mean", "swapped", "shuffled")
STATUSES = ("ok", "refused", "error")
#: Why something is asked: for the answer, as one vote of many at temperature, with a question about
#: the confidence itself, or as an earlier turn that the answer builds on.
PURPOSES = ("answer", "vote", "verbalized", "turn")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BOX = re.compile(r"\[" + r",".join([r"\s*(-?\d+(?:\.\d+)?)\s*"] * 4) + r"\]")
#: What a box is given in: percent of width and height, or pixels of the image file.
BOX_UNITS = ("percent", "pixel")
_PART = re.compile(r"(?P<text>[^\[\]]+)(?:\[(?P<images>all|first|last|random|[1-9]\d?)\])?")


def _text(value: object, name: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise MmevalError(f"{name}: expected text, got {_short(value)}")
    if not empty and not value.strip():
        raise MmevalError(f"{name}: is empty")
    return _whole(value, name)


def _whole(value: str, name: str) -> str:
    r"""Refuses halves of characters: JSON can hold ``\ud83d`` alone, UTF-8 cannot."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MmevalError(
                f"{name}: holds half of a character (a lone surrogate); write the file as UTF-8"
            ) from None
    return value


def _short(value: object) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"


@functools.cache
def _names(cls: type) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls))


def _known(fields: Iterable[str], cls: type) -> None:
    names = _names(cls)
    for name in fields:
        if name not in names:
            raise MmevalError(f"{name}: no such field{did_you_mean(name, names)}")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image of a question.

    Attributes:
        path: File or folder, relative to the root of its benchmark, with forward slashes.
        modality: How it was made (``xray``, ``ct``, ...), or None where the benchmark does not say.
        choices: What `modalities.load` is told besides, such as ``{"slice": "middle"}``.
    """

    path: str
    modality: str | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str | None, str]:
        """What tells it from other images of a benchmark; unlike itself it can be hashed."""
        return self.path, self.modality, canonical(dict(self.choices)) if self.choices else ""

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Reads one entry of a sample's ``images``.

        Raises:
            MmevalError: A field is missing, unknown or of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise MmevalError(f'expected an object such as {{"path": ...}}, got {_short(data)}')
        _known(data, cls)
        modality, choices = data.get("modality"), data.get("choices") or {}
        if not isinstance(choices, Mapping):
            raise MmevalError(f"choices: expected an object, got {_short(choices)}")
        return cls(
            path=_text(data.get("path"), "path"),
            modality=None if modality is None else _text(modality, "modality"),
            choices=dict(choices),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its images, options and gold answer.

    Attributes:
        id: Unique in its benchmark.
        question: The question alone; a protocol adds options and instructions.
        kind: One of `KINDS`.
        answer: Of a ``choice`` the letter, of ``multiple`` the letters in order (``A,C``), of
            ``yes_no`` yes or no, of a ``number`` its digits, of a ``box`` ``[x1, y1, x2, y2]``, of
            ``open`` and ``report`` the text.
        images: In the order in which they are shown; none for a question of text alone.
        options: Texts of the options of a ``choice`` or ``multiple``; empty otherwise.
        tags: What results are broken down by.
        group: Samples scored together share it; `role` says what each is in the group.
        role: ``plain``, ``negated``, ``hallucinated``, or what a protocol calls its members.
        cluster: Patient, else image: what is resampled together in a bootstrap.
        chance: Probability that a blind guess is right, None where unknown.
        invalid: Why this record cannot be asked. It stays in the denominator as an error.
        extra: What scoring needs beside the answer: of a ``number`` the accepted ``low`` and
            ``high`` or a relative ``tolerance``, of a ``box`` its ``unit`` (`BOX_UNITS`, percent
            unless told), and fields of a published protocol.
    """

    id: str
    question: str
    kind: str
    answer: str
    images: tuple[ImageRef, ...] = ()
    options: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    role: str | None = None
    cluster: str | None = None
    chance: float | None = None
    invalid: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Answers whose probabilities are compared: letters, ``yes``/``no``, or none."""
        if self.kind == "choice":
            return tuple(LETTERS[: len(self.options)])
        return ("yes", "no") if self.kind == "yes_no" else ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the sample as a JSON-able dict; ``invalid`` and ``extra`` only where set."""
        # Not asdict, which takes ten times as long to copy what is only written.
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        data["images"] = [
            {"path": image.path, "modality": image.modality, "choices": dict(image.choices)}
            for image in self.images
        ]
        data |= {"options": list(self.options), "tags": dict(self.tags), "extra": dict(self.extra)}
        for name in ("invalid", "extra"):
            if not data[name]:
                del data[name]
        return data

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Reads and checks a line of ``samples.jsonl``.

        Raises:
            MmevalError: Names the field and what is wrong with it.
        """
        if not isinstance(data, Mapping):
            raise MmevalError(f"expected an object, got {_short(data)}")
        _known(data, cls)
        images = []
        for i, image in enumerate(_sequence(data.get("images"), "images")):
            try:
                images.append(ImageRef.from_dict(image))
            except MmevalError as error:
                raise MmevalError(f"images[{i}].{error}") from None
        tags = data.get("tags") or {}
        if not isinstance(tags, Mapping) or not all(isinstance(v, str) for v in tags.values()):
            raise MmevalError("tags: expected an object of texts")
        chance = data.get("chance")
        if chance is not None and not (isinstance(chance, int | float) and 0 <= chance <= 1):
            raise MmevalError(f"chance: expected a number from 0 to 1, got {_short(chance)}")
        extra = data.get("extra") or {}
        if not isinstance(extra, Mapping):
            raise MmevalError(f"extra: expected an object, got {_short(extra)}")
        invalid = data.get("invalid")
        sample = cls(
            id=_text(data.get("id"), "id"),
            question=_text(data.get("question"), "question", empty=invalid is not None),
            kind=_text(data.get("kind"), "kind"),
            answer=_text(data.get("answer"), "answer", empty=invalid is not None),
            images=tuple(images),
            options=tuple(
                _text(option, f"options[{i}]")
                for i, option in enumerate(_sequence(data.get("options"), "options"))
            ),
            tags=dict(tags),
            group=_optional_text(data, "group"),
            role=_optional_text(data, "role"),
            cluster=_optional_text(data, "cluster"),
            chance=None if chance is None else float(chance),
            invalid=_optional_text(data, "invalid"),
            extra=dict(extra),
        )
        if invalid is None:
            sample.check()
        return sample

    def check(self) -> None:
        """Checks that kind, options and answer fit together.

        Raises:
            MmevalError: Names the field and the mend.
        """
        if self.kind not in KINDS:
            raise MmevalError(f"kind: unknown {self.kind!r}{did_you_mean(self.kind, KINDS)}")
        if self.options and self.kind not in ("choice", "multiple"):
            raise MmevalError(f"options: a {self.kind} question has none; use kind 'choice'")
        {
            "choice": self._check_choice,
            "multiple": self._check_choice,
            "yes_no": self._check_yes_no,
            "number": self._check_number,
            "box": self._check_box,
        }.get(self.kind, lambda: None)()

    def _check_choice(self) -> None:
        if not 2 <= len(self.options) <= len(LETTERS):
            raise MmevalError(
                f"options: a {self.kind} has 2 to 26 options, got {len(self.options)}"
            )
        letters = LETTERS[: len(self.options)]
        given = self.answer.split(",") if self.kind == "multiple" else [self.answer]
        if not set(given) <= set(letters) or given != sorted(set(given)):
            form = (
                "option letters in order such as 'A,C'"
                if self.kind == "multiple"
                else (f"an option letter {letters[0]} to {letters[-1]}")
            )
            raise MmevalError(f"answer: expected {form}, got {self.answer!r}")

    def _check_yes_no(self) -> None:
        if self.answer not in ("yes", "no"):
            raise MmevalError(f"answer: expected 'yes' or 'no', got {self.answer!r}")

    def _check_number(self) -> None:
        try:
            finite = math.isfinite(float(self.answer))
        except ValueError:
            finite = False
        if not finite:
            raise MmevalError(f"answer: expected a number, got {self.answer!r}")
        for name in ("low", "high", "tolerance"):
            value = self.extra.get(name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise MmevalError(f"extra.{name}: expected a number, got {_short(value)}")

    def _check_box(self) -> None:
        unit = self.extra.get("unit", "percent")
        if unit not in BOX_UNITS:
            raise MmevalError(f"extra.unit: expected percent or pixel, got {_short(unit)}")
        match = _BOX.fullmatch(self.answer.strip())
        x1, y1, x2, y2 = map(float, match.groups()) if match else (0.0, 0.0, 0.0, 0.0)
        most = 100 if unit == "percent" else math.inf
        if not (0 <= x1 < x2 <= most and 0 <= y1 < y2 <= most):
            raise MmevalError(
                f"answer: expected '[x1, y1, x2, y2]' in {unit} with x1 < x2, y1 < y2, "
                f"got {self.answer!r}"
            )


def _sequence(value: object, name: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MmevalError(f"{name}: expected a list, got {_short(value)}")
    return value


def _optional_text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return None if value is None else _text(value, name)


@dataclass(frozen=True, slots=True)
class Condition:
    """What is done before asking.

    `name` is ``clean``, or parts joined by ``+``: degradations (``general/jpeg:3``), at most one
    control of the images (``control/blank``) and one variant of the question
    (``variant/rotated:1``). A degradation may name which of several images it is done to:
    ``general/jpeg:3[last]``.
    """

    name: str

    @property
    def degradations(self) -> tuple[tuple[str, str], ...]:
        """The degradation steps, each with the images it is done to."""
        return _read_condition(self.name).degradations

    @property
    def spec(self) -> str | None:
        """The degradation spec, None where the images are not degraded."""
        return "+".join(text for text, _ in self.degradations) or None

    @property
    def control(self) -> str | None:
        """What is done to the images instead of showing them: one of `CONTROLS`, or None."""
        return _read_condition(self.name).control

    @property
    def variant(self) -> str | None:
        """How the question is turned: ``negated``, ``rotated:1``, ``bias-recency``, or None."""
        return _read_condition(self.name).variant

    @property
    def degradation(self) -> str | None:
        """The name without severities: ``ct/low_dose+general/jpeg``; None without degradation."""
        return _read_condition(self.name).degradation

    @property
    def severity(self) -> float:
        """0 for ``clean``, the largest severity of a chain; an int where it is whole."""
        return _severity(self.name)


class _ReadCondition(NamedTuple):
    """What a condition's name says; see `Condition`."""

    degradations: tuple[tuple[str, str], ...]
    control: str | None
    variant: str | None
    degradation: str | None


@functools.lru_cache(maxsize=4096)  # asked for every planned question
def _read_condition(name: str) -> _ReadCondition:
    steps: list[tuple[str, str]] = []
    changes: dict[str, str | None] = {"control": None, "variant": None}
    names: list[str] = []
    for part in name.split("+") if name != "clean" else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise MmevalError(
                f"{part}: write general/jpeg:3, or general/jpeg:3[last] for one of several "
                "images: all, first, last, random or its number"
            )
        text, images = match["text"], match["images"] or "all"
        kind, _, what = text.partition("/")
        if kind in changes:
            changes[kind] = changes[kind] or what
            bare = text
        else:
            steps.append((text, images))
            bare = text.rsplit(":", 1)[0]
        names.append(bare if images == "all" else f"{bare}[{images}]")
    degradation = "+".join(names) if steps else None
    return _ReadCondition(tuple(steps), changes["control"], changes["variant"], degradation)


@functools.lru_cache(maxsize=4096)  # asked for every answer
def _severity(name: str) -> float:
    steps = _read_condition(name).degradations
    largest = max((float(text.rsplit(":", 1)[1]) for text, _ in steps), default=0.0)
    return int(largest) if largest.is_integer() else largest


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One question as a model is sent it.

    Attributes:
        key: sha256 of the recipe (see `mmeval.running.plan`).
        messages: Chat messages; image parts are ``{"type": "image"}``, in the order of `images`.
        images: uint8 arrays ``(H, W, 3)``.
        candidates: Answers whose log-probabilities are wanted; empty for free text.
        max_new_tokens: Longest answer.
        temperature: 0 is greedy.
    """

    key: str
    benchmark: str
    sample: str
    condition: str
    trial: int
    messages: tuple[Mapping[str, Any], ...]
    images: tuple[npt.NDArray[np.uint8], ...]
    candidates: tuple[str, ...] = ()
    max_new_tokens: int = 32
    temperature: float = 0.0
    purpose: str = "answer"


@dataclass(frozen=True, slots=True)
class Response:
    """A line of ``responses.jsonl``: what a model answered, or why it did not.

    Attributes:
        status: ``ok``, ``refused`` or ``error``. An error is never scored as an answer.
        option_logprobs: Candidate to log-probability, renormalised over the candidates.
        latency_s: Backend seconds; a batch's time is shared equally among its requests.
        reasoning: What a reasoning model thought before `text`, where it is told apart.
        error: The reason where status is ``error``.
    """

    key: str
    benchmark: str
    sample: str
    condition: str
    trial: int
    status: str
    text: str = ""
    finish_reason: str | None = None
    option_logprobs: Mapping[str, float] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_s: float | None = None
    error: str | None = None
    reasoning: str | None = None
    purpose: str = "answer"

    @classmethod
    def failed(cls, request: Request, error: str) -> Self:
        """Returns the error response to a request."""
        return cls(
            request.key,
            request.benchmark,
            request.sample,
            request.condition,
            request.trial,
            status="error",
            error=error,
            purpose=request.purpose,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the response as a JSON-able dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads a line of ``responses.jsonl``.

        Raises:
            MmevalError: A field is missing or unknown, or the status is none of the three.
        """
        _known(data, cls)
        try:
            response = cls(**data)
        except TypeError as error:
            raise MmevalError(f"not a response: {error}") from None
        if response.status not in STATUSES:
            raise MmevalError(f"status: unknown {response.status!r}; known: {', '.join(STATUSES)}")
        return response


@dataclass(frozen=True, slots=True)
class Score:
    """A line of ``scores.jsonl``: one response against its gold answer.

    Attributes:
        status: ``ok``, ``unparsed``, ``refused`` or ``error``.
        parsed: The answer read from the text, None unless status is ``ok``.
        rule: Name of the rule that read it; `span` is where in the text.
        correct: 1 or 0; everything that is not ``ok`` is 0.
        value: What the protocol measures: IoU for a box, token F1 for text, otherwise `correct`.
        confidence: By name: ``{"option": 0.93}``.
        purpose: One of `PURPOSES`; accuracy is that of the answers.
        tokens: Prompt and completion tokens together, None where the backend does not tell.
        cost_usd: What they cost, None where the model has no price or tokens are not told.
    """

    key: str
    benchmark: str
    sample: str
    condition: str
    degradation: str | None
    severity: float
    trial: int
    status: str
    parsed: str | None
    rule: str | None
    span: tuple[int, int] | None
    correct: int
    value: float
    confidence: Mapping[str, float]
    gold: str
    kind: str
    group: str | None = None
    role: str | None = None
    cluster: str | None = None
    chance: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    purpose: str = "answer"
    tokens: int | None = None
    cost_usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the score as a JSON-able dict."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        data |= {"confidence": dict(self.confidence), "tags": dict(self.tags)}
        data["span"] = None if self.span is None else list(self.span)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads a line of ``scores.jsonl``.

        Raises:
            MmevalError: A field is missing or unknown.
        """
        _known(data, cls)
        span = data.get("span")
        try:
            return cls(**{**data, "span": None if span is None else (int(span[0]), int(span[1]))})
        except TypeError as error:
            raise MmevalError(f"not a score: {error}") from None


# json.dumps would make an encoder each time.
_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def canonical(data: object) -> str:
    """Returns JSON with sorted keys and without blanks; NaN and infinities are refused."""
    return _ENCODE(data)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise MmevalError(f"{twice}: this field is written twice")
    return data


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MmevalError(f"number {text} is too large")
    return value


def _no_constant(text: str) -> float:
    raise MmevalError(f"{text} is not JSON; write null")


_DECODE = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_float=_finite, parse_constant=_no_constant
).decode


def parse_json(text: str) -> Any:  # noqa: ANN401
    """Parses JSON from outside: duplicate fields, NaN, huge numbers and deep nesting are refused.

    Raises:
        MmevalError: Says what is wrong, without quoting the text.
    """
    try:
        return _DECODE(text)
    except json.JSONDecodeError as error:
        raise MmevalError(f"not JSON: {error.msg} at character {error.colno}") from None
    except RecursionError:
        raise MmevalError("not readable JSON: nested too deeply") from None
    except MmevalError:
        raise
    except ValueError as error:  # an integer longer than Python's limit
        raise MmevalError(f"not readable JSON: {error}") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, object | MmevalError]]:
    """Yields number and value (or the error) of every line of a JSON Lines file, blank ones aside.

    Raises:
        MmevalError: The file is missing, is not UTF-8 or is one JSON array.
    """
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                if not raw.strip():
                    continue
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise MmevalError(
                        f"{path}:{number}: is not UTF-8; convert the file first (iconv -t UTF-8)"
                    ) from None
                if number == 1 and text.strip() == "[":
                    raise MmevalError(
                        f"{path}: is one JSON array, not JSON Lines; use reader: json"
                    )
                try:
                    yield number, parse_json(text)
                except MmevalError as error:
                    yield number, error
    except OSError as error:
        raise MmevalError(f"{path}: cannot be read: {error.strerror}") from None
