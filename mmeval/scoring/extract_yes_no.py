"""The answers to `yes_no` questions, in nine languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmeval.scoring.extraction import Claim, Extraction, agree
from mmeval.scoring.lazy import lazy
from mmeval.scoring.normalize import normalize
from mmeval.scoring.plain_text import (
    ADVERB,
    CLAUSE_END,
    HEAD,
    IS,
    NEGATION,
    SENTENCE_END,
    after,
    before,
    refuses,
)

__all__ = ["polarity", "read_yes_no"]

# Words that say yes or no and nothing besides. "正常" (normal) is a finding, not a yes.
_YES = (
    *("yes", "yeah", "yep", "sí", "si", "oui", "ja", "sim", "sì", "是", "是的", "有"),
    *(
        "有的",
        "对",
        "对的",
        "存在",
        "包含",
        "正确",
        "可以",
        "能",
        "会",
        "예",
        "네",
        "그렇습니다",
        "맞습니다",
    ),
    *(
        "있습니다",
        "있음",
        "있다",
        "존재합니다",
        "はい",
    ),
)
_NO = (
    *("no", "nope", "non", "nein", "não", "nao", "不是", "没有", "沒有", "否", "无", "無"),
    *(
        "不",
        "不对",
        "不存在",
        "不包含",
        "不正确",
        "不可以",
        "不能",
        "不会",
        "아니요",
        "아니오",
        "아뇨",
        "아닙니다",
    ),
    *(
        "그렇지않습니다",
        "없습니다",
        "없음",
        "없다",
        "いいえ",
    ),
)
_POLARITY = {**dict.fromkeys(_YES, "yes"), **dict.fromkeys(_NO, "no")}
_ANY = "|".join(sorted(map(re.escape, _POLARITY), key=len, reverse=True))
# Neither "no-one", "No. 5" nor "no 5".
_SAID = rf"(?P<polar>{_ANY})(?:입니다|이에요)?(?![^\W_]|[-'])(?!\s*[.:#]?\s?\d)"
_POLAR = rf"(?<![^\W_]){_SAID}"


def _folded(word: str) -> str:
    # Dotless i and long s match i and s whatever the case.
    return word.casefold().replace("ı", "i")


def polarity(text: str) -> str | None:
    """Returns "yes" or "no" for an option text such as "Yes.", "否" or "Non", else None."""
    return _POLARITY.get(normalize(text))


_ENDS = r"\s*(?:$|[.,;:!(\n)\]–—|])|\s+-\s"
_LEADS = r"(?:(?:so|and|and so|therefore|thus|overall|hence|in conclusion|in summary)\s*,?\s+)?"
_STATED = tuple(
    lazy(pattern, re.IGNORECASE)
    for pattern in (
        rf"{HEAD}(?:(?!\bnot\b|不|非|没)[^.,;:=?!\n]){{0,50}}?{IS}\s*[:=]?\s*{ADVERB}[\[(]?\s*{_SAID}"
        rf"(?={_ENDS}|\s+(?:because|since|as|due|there|it|this)\b)",
        rf"\bI(?:'d|\s+would|\s+will)?\s+(?:have\s+to\s+)?(?:say|answer|go\s+with)\s+{ADVERB}{_POLAR}"
        rf"(?={_ENDS}|\s+(?:because|since|as|due)\b)",
    )
)
# "No." and "No, ..." answer; the "No" of "No effusion is seen" only describes, and answers a
# negated question with yes.
_OPENING = lazy(
    rf"(?:^|[.!?\n:])\s*(?:[-•]\s+)?[\[(]?\s*{_LEADS}{ADVERB}{_POLAR}"
    rf"(?=(?P<ends>{_ENDS})|\s+(?:there|it|this|the|that|i)\b)",
    re.IGNORECASE,
)
_ENGLISH = ("yes", "no", "yeah", "yep", "nope")
_BOTH = lazy(r"\byes\W*(?:or|and|/)\W*no\b|\bno\W*(?:or|and|/)\W*yes\b|是或否", re.IGNORECASE)
_WHOLE = lazy(rf"\W*+{ADVERB}{_POLAR}[^\w?]*+", re.IGNORECASE)
_ASIDE = lazy(
    rf"(?:[.,;:!?\n]|\b(?:but|or|and|aber|pero|mais|ma|mas)\b)(?:\s*\b(?:but|aber|pero|mais|ma|mas)\b)?\s*{_POLAR}\s*(?=[.,;:!?\n]|$)",
    re.IGNORECASE,
)
_DETERMINER = lazy(
    r"\s*(?:no|non|kein(?:e[nrms]?)?|nicht|não|没有|沒有|[无無]|未)(?![-'])", re.IGNORECASE
)


def _claims(pattern: re.Pattern[str], text: str) -> Iterator[Claim]:
    for found in pattern.finditer(text):
        said = _folded(found["polar"])
        if "ends" in pattern.groupindex and found["ends"] is None and said not in _ENGLISH:
            continue
        yield Claim(_POLARITY[said], found.span("polar"))


def _firm(text: str, claims: Iterator[Claim]) -> Iterator[Claim]:
    for claim in claims:
        lead = before(CLAUSE_END, text, claim.span[0])
        rest = after(SENTENCE_END, text, claim.span[1])
        if not NEGATION.search(lead) and not re.search(r"\bif\b|\bunless\b|\?", lead + rest):
            yield claim


def read_yes_no(text: str) -> Extraction:
    """The "yes" or "no" that a plain text gives as its answer."""
    whole = _WHOLE.fullmatch(text)
    if whole:
        return Extraction(_POLARITY[_folded(whole["polar"])], "yes or no", whole.span("polar"))
    stated = agree(
        _firm(text, (claim for pattern in _STATED for claim in _claims(pattern, text))), "stated"
    )
    opening = list(_claims(_OPENING, text))
    if stated:
        # "No. ... the answer is yes" says both.
        if stated.value and any(claim.value != stated.value for claim in opening):
            return Extraction(None, "several answers")
        return stated
    if _BOTH.search(text):
        return Extraction(None, "several answers")
    if opening:
        opening.extend(_claims(_ASIDE, text))
    opened = agree(opening, "yes or no")
    if opened:
        if opened.span is not None:
            sentence = after(SENTENCE_END, text, opened.span[1])
            if refuses(sentence):
                return Extraction(None, "refusal")
            if re.fullmatch(r"[^.!\n]*\?\s*", sentence):
                return Extraction(None, "hedged")
        return opened
    if _DETERMINER.match(text):
        return Extraction(None, "no as a determiner")
    return Extraction(None, "no answer found")
