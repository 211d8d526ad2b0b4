"""Lists of option letters or texts: the answers to `multiple` questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from mmeval.scoring.extract_choice import (
    CONDITION,
    LETTER_ENDS,
    Options,
    labelled_options,
    named_options,
    rejected,
)
from mmeval.scoring.extraction import Claim, Extraction
from mmeval.scoring.lazy import lazy
from mmeval.scoring.plain_text import (
    CLAUSE_END,
    IS,
    SENTENCE_END,
    after,
    before,
    denied,
    hedged,
    open_or_denied,
    refuses,
)

__all__ = ["read_multiple"]

# Atomic, so that a list that ends in something else is not tried in all its ways.
_ONE = r"(?>[(\[]?\s?(?<![A-Za-z0-9_'])[A-Za-z](?![A-Za-z0-9_'])\s?(?:[)\]]|\.(?!\w))?)"
_NEXT = rf"(?>\s*+(?:(?:[,;/&|+、和与及와과]|(?:and|y|et|und)\b)\s*+){{0,2}}+{_ONE})"
_LIST = rf"(?P<list>{_ONE}{_NEXT}{{0,25}}+|(?-i:[A-Z]{{2,26}})(?![A-Za-z0-9_]))"
_PLURAL = (
    r"(?:\b(?:answers?|options?|choices?|letters?|statements?|respuestas?|réponses?|antworten"
    r"|antwort|risposte|risposta|respostas?)\b|答案|选项|정답|답)"
)
_WHOLE_LIST = lazy(
    rf"\W*+(?:(?:only|both|just)\s+|{_PLURAL}\W*+)?{_LIST}\s*(?:입니다|only)?[^\w?]*+",
    re.IGNORECASE,
)
_STATED_LISTS = tuple(
    lazy(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_PLURAL}(?:(?!\b(?:not|wrong|incorrect|never)\b|不|非|没)[^.,;:=?!\n]){{0,50}}?"
        rf"(?:\bare\b|\bson\b|\bsont\b|\bsind\b|\bsono\b|\bsão\b|{IS})\s*[:=]?\s*(?:both\s+)?{_LIST}",
        rf"(?:^|[.;:!?\n]|\b(?:options?|choices?|answers?|think|believe|both)\b)\s*{_LIST}\s*"
        r"\b(?:are|is)\s+(?:both\s+|all\s+)?(?:the\s+)?(?:correct|right|true|answers?)\b",
        rf"\bI(?:'d|'ll|\s+would|\s+will)?\s+(?:choose|select|pick|say|answer|think|believe)\s+(?:options?\s+)?{_LIST}",
        rf"^\s*(?:(?:both|only)\s+)?{_LIST}(?=,?\s*(?:but\s+)?not\b)",
        rf"[选選](?:择|擇)?\s*:?\s*{_LIST}",
    )
)


def _listed(text: str, span: tuple[int, int], options: Options) -> list[Claim] | None:
    """The letters of a list such as "A, C and D" or "ACD"; None if it is none."""
    found = list(re.finditer(r"(?<![A-Za-z])[A-Za-xz](?![A-Za-z])", text[slice(*span)]))
    claims = [
        Claim(one.group().upper(), (span[0] + one.start(), span[0] + one.end())) for one in found
    ]
    run = re.search(r"[A-Z]{2,}", text[slice(*span)])
    if run:
        # "ACD" is a list in order; "BAD" is a word.
        letters = run.group()
        if found or list(letters) != sorted(set(letters)) or letters in _WORDS:
            return None
        first = span[0] + run.start()
        claims = [Claim(one, (first + i, first + i + 1)) for i, one in enumerate(letters)]
    if any(claim.value > options.last for claim in claims):
        return []
    return claims or None


# Words and abbreviations whose letters happen to stand in order.
_WORDS = frozenset(
    {
        "AM",
        "AN",
        "AP",
        "AS",
        "AT",
        "BE",
        "CT",
        "DO",
        "GO",
        "HI",
        "IS",
        "IT",
        "NO",
        "AF",
        "AH",
        "IN",
        "MS",
        "EM",
        "BY",
        "DX",
        "RX",
        "IV",
        "MR",
        "NOT",
        "GI",
        "GU",
        "CXR",
    }
)


def _union(claims: Sequence[Claim], rule: str) -> Extraction:
    letters = sorted({claim.value for claim in claims})
    span = (min(claim.span[0] for claim in claims), max(claim.span[1] for claim in claims))
    return Extraction(",".join(letters), rule, span)


def read_multiple(text: str, options_: Sequence[str]) -> Extraction:
    """All options that a plain text gives as its answer, as "A,C"."""
    options = Options(options_)
    equal = options.equal(text)
    whole = _WHOLE_LIST.fullmatch(text)
    if whole:
        claims = _listed(text, whole.span("list"), options)
        if claims == []:
            return Extraction(None, "not an option")
        if claims and not (len(claims) == 1 and claims[0].value in "AI" and len(text.split()) > 3):
            if equal and equal != [claim.value for claim in claims]:
                return Extraction(None, "letter and text differ")
            return _union(claims, "letters")
    if equal:
        if len(equal) > 1:
            return Extraction(None, "several answers")
        start = len(text) - len(text.lstrip())
        return Extraction(equal[0], "option text", (start, len(text.rstrip())))

    stated = []
    for pattern in _STATED_LISTS:
        for found in pattern.finditer(text):
            start = found.start() + (found.group()[0] in ".,;:!?\n")
            lead = before(CLAUSE_END, text, start)
            listed = _listed(text, found.span("list"), options)
            if listed == []:
                return Extraction(None, "not an option")
            if listed is None:
                continue
            end = max(claim.span[1] for claim in listed)
            if (
                open_or_denied(lead)
                or CONDITION.search(after(SENTENCE_END, text, end))
                or re.compile(r"\s*(?:or\b|或)|\s*[)\]]?\s*(?:,\s*)?or\s+[A-Z]\b").match(text, end)
            ):
                continue
            if LETTER_ENDS.match(text, end) and not rejected(text, end, options, listed[-1].value):
                stated.append(listed)
    if stated:
        if len({frozenset(claim.value for claim in claims) for claims in stated}) > 1:
            return Extraction(None, "several answers")
        return _union(stated[0], "stated")

    claims = list(labelled_options(text, options))
    if claims:
        if len({claim.value for claim in claims}) == len(options.letters) > 1:
            return Extraction(None, "options repeated")
        return _union(claims, "set apart")
    mentions = named_options(text, options.pairs())
    said = [one for one in mentions if not denied(text, *one.span)]
    if not said:
        return Extraction(None, "denied" if mentions else "no answer found")
    between = [text[one.span[1] : two.span[0]] for one, two in pairwise(said)]
    if any(hedged(text, *one.span) for one in said) or any(
        re.search(r"\bor\b|或|또는", gap) for gap in between
    ):
        return Extraction(None, "hedged")
    words = list(text)
    for one in said:
        words[slice(*one.span)] = " " * (one.span[1] - one.span[0])
    if refuses("".join(words)):
        return Extraction(None, "refusal")
    return _union(said, "option text")
