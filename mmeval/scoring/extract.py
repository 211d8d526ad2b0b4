"""Read the answer a model gave out of the text it wrote, or say that there is none.

Every rule needs the model to have *said* which answer it gives: there is no nearest match, no first
letter found somewhere, no random choice. What cannot be read is `unparsed`, with the reason in
`rule`. The rules, and what other tools make of the same strings, are in `docs/extraction.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from mmeval.scoring.extraction import Claim, Extraction, agree, shifted
from mmeval.scoring.lazy import lazy
from mmeval.scoring.normalize import normalize
from mmeval.scoring.plain_text import (
    HEAD,
    answer_passages,
    final_passage,
    is_refusal,
    plain,
    refuses,
    thoughts,
    without_thoughts,
)

__all__ = ["KINDS", "Extraction", "extract", "is_refusal"]

#: Kinds of questions whose answers can be read.
KINDS = ("choice", "multiple", "yes_no", "open", "number", "box", "report")


def extract(kind: str, text: str, options: Sequence[str] = ()) -> Extraction:
    r"""Read the answer to a question of `kind` from a response.

    Thoughts are no part of the answer; one that was cut off leaves none. Where something is marked
    as the answer (``<answer>``, ``\boxed{}``, an answer's key in JSON), only that is read, and what
    stands on the line of "final answer" goes before everything else. Two different answers under
    one rule are unparsed, and so is an answer that is denied, hedged or conditional.

    choice: the response is a letter or an option text; or it states a letter ("the answer is B");
    or it begins with a letter set apart, or has one on a line of its own, beside its own option
    text, or in "not B but C"; or it names exactly one option text. Options that are "yes" and "no"
    are also read as yes_no. A letter beyond the options and a letter followed by another option's
    text are unparsed.

    multiple: all letters of a list ("A, C", "ACD", "A and C are correct"), all labelled option
    texts, or all option texts named; the value is "A,C".

    yes_no: the word stands alone, opens a sentence as an answer ("No, ...") or is stated ("the
    answer is no"). "normal", "not" and "note" hold no "no". "No effusion is seen" is unparsed: it
    would answer "yes" to a negated question.

    number: one number, with or without a unit; neither range nor bound. Units are not converted:
    the value is the number as it was said.

    box: one list of four numbers, or two corners, x1 < x2 and y1 < y2; neither scaled nor clipped.

    open: the whole response, normalised (see `normalize`), without a leading "The answer is".

    report: the whole response as it was written.

    Args:
        kind: "choice", "multiple", "yes_no", "open", "number", "box" or "report".
        text: The response as the model wrote it.
        options: Option texts of a "choice" or "multiple" question, in the order of their letters.

    Raises:
        ValueError: If `kind` is unknown, or such a question has no or more than 26 options.

    Examples:
        >>> extract("choice", "The answer is **B**, not A.", ["pneumonia", "effusion"])
        Extraction(value='B', rule='stated', span=(16, 17))
        >>> extract("choice", "A mass is seen", ["pneumonia", "effusion"]).value is None
        True
        >>> extract("yes_no", "Yes, the heart size is normal.").value
        'yes'
        >>> extract("number", "It measures about 3.5 cm.")
        Extraction(value='3.5', rule='only number', span=(18, 24))
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if kind in ("choice", "multiple") and not 1 <= len(options) <= 26:
        raise ValueError(f"a {kind} question needs 1 to 26 options, not {len(options)}")
    visible = without_thoughts(text)
    if not plain(visible).text.strip():
        _, cut_off = thoughts(text)
        return Extraction(None, "unfinished thought" if cut_off else "empty")
    passages = answer_passages(visible)
    if kind == "report":
        return _report(text, visible, passages)

    read = _reader(kind, options)
    if not passages or kind == "box":
        return _passage(visible, 0, len(visible), read)
    return _together([_passage(visible, start, end, read) for start, end in passages])


def _together(found: Sequence[Extraction]) -> Extraction:
    """What several passages say: the same, or nothing certain."""
    unread = [one for one in found if one.value is None]
    if unread:
        return unread[0]
    return (
        found[0] if len({one.value for one in found}) == 1 else Extraction(None, "several answers")
    )


def _passage(visible: str, start: int, end: int, read: Callable[[str], Extraction]) -> Extraction:
    words = plain(visible, start, end)
    final = final_passage(words.text)
    if final:
        found = _together([shifted(read(words.text[a:b]), a) for a, b in final])
    else:
        found = read(words.text)
    if found.value is None and found.rule in _UNDECIDED and refuses(words.text):
        return Extraction(None, "refusal")
    if found.span is None:
        return found
    return replace(found, span=words.span(found.span))


#: Reasons behind which there may be a refusal.
_UNDECIDED = frozenset({"no answer found", "denied", "hedged", "no as a determiner"})

_OPEN_LEAD = lazy(
    rf"\s*(?:the\s+|la\s+|die\s+)?(?:final\s+|correct\s+)?{HEAD}\s*(?:(?:is|es|est|ist|è|é)\b|是|为|은|는|[:=])\s*:?\s*",
    re.IGNORECASE,
)


def _open(words: str) -> Extraction:
    lead = _OPEN_LEAD.match(words)
    start = lead.end() if lead else len(words) - len(words.lstrip())
    end = len(words.rstrip())
    value = normalize(words[start:end])
    if not value:
        return Extraction(None, "empty")
    if refuses(words):
        return Extraction(None, "refusal")
    return Extraction(value, "text", (start, end))


def _reader(kind: str, options: Sequence[str]) -> Callable[[str], Extraction]:
    """What reads a passage. Imported where it is used: their patterns take long to compile."""
    if kind == "choice":
        from mmeval.scoring.extract_choice import read_choice

        return lambda words: read_choice(words, options)
    if kind == "multiple":
        from mmeval.scoring.extract_multiple import read_multiple

        return lambda words: read_multiple(words, options)
    if kind == "yes_no":
        from mmeval.scoring.extract_yes_no import read_yes_no

        return read_yes_no
    if kind == "number":
        from mmeval.scoring.extract_number import read_number

        return read_number
    if kind == "box":
        from mmeval.scoring.extract_box import read_box

        return read_box
    return _open


def _report(text: str, visible: str, passages: Sequence[tuple[int, int]]) -> Extraction:
    if refuses(plain(visible).text):
        return Extraction(None, "refusal")
    tagged = [span for span in passages if text[: span[0]].rstrip().lower().endswith("answer>")]
    start, end = tagged[0] if len(tagged) == 1 else (0, len(text))
    kept = [(start, start), *(s for s in thoughts(text)[0] if start <= s[0] < end), (end, end)]
    value = "".join(text[before_[1] : after_[0]] for before_, after_ in pairwise(kept)).strip()
    body = visible[start:end]
    first = start + len(body) - len(body.lstrip())
    last = start + len(body.rstrip())
    claim = agree([Claim(value, (first, last))], "text")
    return claim if value and claim else Extraction(None, "empty")
