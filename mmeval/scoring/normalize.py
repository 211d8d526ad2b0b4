"""Compare short answers: the one normalisation, token overlap, and overlap of boxes."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmeval.schema import Sample

__all__ = ["box_iou", "normalize", "number_within", "parse_box", "token_f1"]

_ARTICLES = frozenset({"a", "an", "the"})


@functools.lru_cache(maxsize=1024)  # gold answers and options come again with every condition
def normalize(text: str) -> str:
    """Reduce a short answer to the words that are compared.

    Unicode NFKC, case folded; every character that is neither letter, digit, nor a decimal point
    inside a number becomes a space; the articles a, an, the are dropped unless nothing else is
    left; single spaces. Nothing is stemmed, translated or replaced by a synonym.

    Examples:
        >>> normalize("The right-sided  Pleural effusion.")
        'right sided pleural effusion'
        >>> normalize("1.5 cm")
        '1.5 cm'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w.]|_", " ", folded)
    words = kept.split()
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the normalised words of two answers.

    Words are counted with repetition, as in SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, section
    6.1). 0 when either has no words.

    Examples:
        >>> token_f1("right pleural effusion", "pleural effusion")
        0.8
    """
    answer_words, gold_words = normalize(answer).split(), normalize(gold).split()
    shared = sum((Counter(answer_words) & Counter(gold_words)).values())
    return 2 * shared / (len(answer_words) + len(gold_words)) if shared else 0.0


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Read a gold box "[x1, y1, x2, y2]".

    Raises:
        ValueError: If the text is not four numbers with x1 < x2 and y1 < y2.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.strip().strip("[]()").split(","))
    except ValueError:
        raise ValueError(f"a box must read '[x1, y1, x2, y2]', not {text!r}") from None
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
        raise ValueError(f"a box needs x1 < x2 and y1 < y2, not {text!r}")
    return x1, y1, x2, y2


def number_within(value: str, sample: Sample) -> bool:
    """Whether a number is accepted as the answer to a `number` question.

    `sample.extra` says what is: from `low` to `high`, both inclusive, either may be missing; or
    within `tolerance` x |answer| of the answer. Without either only the answer itself is. The
    comparison is one of decimals, so that 0.3 lies within 0.1 of itself to the last digit.

    Raises:
        ValueError: If the value, the answer or one of the three fields is no number, or `low`
            exceeds `high`, or `tolerance` is negative.

    Examples:
        >>> from types import SimpleNamespace
        >>> number_within("3.6", SimpleNamespace(answer="3.5", extra={"tolerance": 0.05}))
        True
        >>> number_within("3.6", SimpleNamespace(answer="3.5", extra={"low": 3, "high": 3.55}))
        False
    """
    number = _decimal(value, "value")
    extra = sample.extra
    if extra.get("low") is not None or extra.get("high") is not None:
        low = _decimal(extra["low"], "extra.low") if extra.get("low") is not None else number
        high = _decimal(extra["high"], "extra.high") if extra.get("high") is not None else number
        if extra.get("low") is not None and extra.get("high") is not None and low > high:
            raise ValueError(f"extra.low {low} exceeds extra.high {high}")
        return low <= number <= high
    gold = _decimal(sample.answer, "answer")
    if extra.get("tolerance") is None:
        return number == gold
    tolerance = _decimal(extra["tolerance"], "extra.tolerance")
    if tolerance < 0:
        raise ValueError(f"extra.tolerance is {tolerance}; it must not be negative")
    return abs(number - gold) <= tolerance * abs(gold)


def _decimal(value: object, name: str) -> Decimal:
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite():
        raise ValueError(f"{name} must be a number such as 3.5, not {value!r}")
    return number


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2) in continuous coordinates.

    A box from 10 to 20 is 10 wide (no +1 pixel). 0 for boxes that only touch.

    Raises:
        ValueError: If a box has no area.

    Examples:
        >>> round(box_iou((0, 0, 10, 10), (5, 0, 15, 10)), 4)
        0.3333
    """
    for box in (one, other):
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"a box needs x1 < x2 and y1 < y2, not {tuple(box)}")
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    area = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (area - shared)
