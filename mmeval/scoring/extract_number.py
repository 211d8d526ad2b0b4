"""The answers to `number` questions: one number, as decimal text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from itertools import islice

from mmeval.scoring.extraction import MOST, Claim, Extraction, agree
from mmeval.scoring.lazy import lazy
from mmeval.scoring.plain_text import (
    CLAUSE_END,
    HEAD,
    IS,
    SENTENCE_END,
    after,
    before,
    open_or_denied,
    refuses,
)

__all__ = ["decimal_text", "read_number"]

_PRECISION = Context(prec=12)
_DIGITS = 30  # longer numbers are no measurement

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}
_WORDS = {
    word: number
    for number, words in enumerate(
        (
            "zero 零 cero null",
            "one 一",
            "two 二 两 dos deux zwei due dois",
            "three 三 tres trois drei tre três",
            "four 四 cuatro quatre vier quattro quatro",
            "five 五 cinco cinq fünf cinque",
            "six 六 seis sechs sei",
            "seven 七 siete sept sieben sette sete",
            "eight 八 ocho huit acht otto oito",
            "nine 九 nueve neuf neun nove",
            "ten 十 diez dix zehn dieci dez",
            "eleven",
            "twelve",
        )
    )
    for word in words.split()
}
#: Number words that are also other words ("one of them", "sei"), read only where nothing else is.
_WHOLE_WORDS = frozenset(_WORDS) - {
    *("zero", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
}

_DECIMAL = r"(?:\d[\d.,'\u2009\u202f\xa0]*|\.\d+)"
_POWER = (
    r"(?:[eE](?P<e>[-+]?\d{1,3})(?!\w)"
    r"|\s*(?:[x×·]|\\times|\\cdot)?\s*10\s*(?:\^\s*[({]?\s*(?P<ten>[-+]?\s?\d{1,3})\s*[)}]?"
    r"|(?P<sup>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})))?"
)
_BASE = (
    r"(?:mm\s?Hg|cm\s?H2O|mmol|µmol|umol|mosm|mEq|IU|mL|ml|dL|dl|µL|uL|L|kg|mg|µg|ug|mcg|ng|pg|g"
    r"|cm|mm|µm|um|nm|km|m|inch(?:es)?|bpm|beats|Hz|kHz|MHz|ms|s|secs?|seconds?|min(?:utes)?"
    r"|h|hours?|days?|weeks?|months?|years?|mSv|mGy|Gy|HU|kPa|Pa|mA|mAs|kVp?|W|U|px|pixels?|voxels?"
    r"|degrees?|points?|units?|percent|per\s?cent|centimet(?:er|re)s?|millimet(?:er|re)s?"
    r"|millilit(?:er|re)s?|lit(?:er|re)s?|grams?|slices?|frames?)"
)
_UNIT = (
    r"(?P<unit>\s?(?:\\?[%‰]|°\s?[CF]?(?!\w)|厘米|毫米|毫升|公斤|毫克|克|岁|年|天|个|枚|次|分|개|세|명|센티미터|밀리미터"
    rf"|{_BASE}(?:\s?\^?[23²³⁻¹\-]{{1,2}})?(?:\s?[/·]\s?(?:\d\.\d+\s?)?{_BASE}(?:\s?\^?[23²³]|2)?){{0,2}}(?![\w])))?"
)
_ABOUT = (
    r"(?:about|approximately|approx\.?|around|roughly|circa|ca\.?|nearly|almost|estimated(?:\s+at)?|≈"
    r"|约|大约|大概|약|unos|aproximadamente|environ|etwa|ungefähr|circa|cerca\s+(?:de|di))?"
)
_BARE = rf"(?P<sign>[-+])?(?P<token>{_DECIMAL}){_POWER}"
_FRACTION = r"\\[dt]?frac\s*(?P<top>\d{1,6})\s+(?P<bottom>\d{1,6})"
_NUMBER = lazy(
    rf"(?<![^\W\u3040-\u9fff가-힣])(?<![.,/^<>≤≥])(?<![A-Za-z]-)(?:{_FRACTION}|{_BARE}"
    rf"(?:(?P<vulgar>\s?[½⅓⅔¼¾⅕⅛])|(?P<slash>\s?/\s?\d+(?![\d]*[/.\d]))|(?P<mixed>\s\d{{1,3}}/\d{{1,3}}))?"
    rf"|(?P<part>[½⅓⅔¼¾⅕⅛])){_UNIT}",
)
_WORD_NUMBER = lazy(
    rf"(?<![^\W_])(?<![-'])(?P<word>{'|'.join(sorted(_WORDS, key=len, reverse=True))})"
    r"(?![^\W_]|[-'])",
    re.IGNORECASE,
)
_CJK_COUNT = lazy(r"(?P<word>[零一二三四五六七八九十两])(?=[个枚处张节条根])")
_RANGE = lazy(
    rf"\d\s*(?![eE][-+]?\d)(?:[%a-zA-Zµ²³]{{1,4}}\s*)?(?:-|–|—|\bto\b|\bbis\b|至|到|~|∼)\s*[-+]?\.?\d|\bbetween\s+{_ABOUT}\s*[-+]?\.?\d"
    r"|\bentre\s+[-+]?\.?\d|\bzwischen\s+[-+]?\.?\d",
    re.IGNORECASE,
)
_BOUND_BEFORE = lazy(
    r"(?:\b(?:less|fewer|more|greater|larger|smaller|higher|lower|bigger|longer|shorter|older|younger)"
    r"\s+than(?:\s+or\s+equal\s+to)?|\bat\s+(?:least|most)|\bup\s+to|\bover|\bunder|\babove|\bbelow"
    r"|\bexceed(?:s|ing)?|\bmin(?:imum|\.)?(?:\s+of)?|\bmax(?:imum|\.)?(?:\s+of)?|[<>≤≥]=?|大于|小于"
    r"|超过|不到|至少|最多|\bmás\s+de|\bmenos\s+de|\bplus\s+de|\bmoins\s+de|\bmehr\s+als|\bweniger\s+als)"
    r"\s*(?:about|approximately)?\s*$",
    re.IGNORECASE,
)
_BOUND_AFTER = lazy(
    r"\s*(?:\+(?!\s*\d|/)|or\s+(?:more|less|fewer|greater|higher|lower|larger|smaller|above|below)\b"
    r"|and\s+(?:above|below|over|under)\b|以上|以下|이상|이하|미만|초과)",
    re.IGNORECASE,
)
_OTHER_BEFORE = lazy(
    r"(?:\bnot|n't|\brather\s+than|\binstead\s+of|\bnever|\bwithout|不是|而非)\s*(?:be\s+)?(?:an?\s+)?"
    r"(?:about|approximately|exactly)?\s*$",
    re.IGNORECASE,
)
# "In image 2" numbers an image; it measures nothing.
_REFERENCE = lazy(
    r"\b(?:image|figure|fig\.?|slice|step|question|option|panel|series|case|frame|page|table|section"
    r"|ref(?:erence)?|number|no\.?|type|grade|stage|level|class|zone|segment|lead|phase|图|第)\s*#?\s*$",
    re.IGNORECASE,
)
_PLUS_MINUS = lazy(r"(?:±|\+\s?/\s?-?|\\pm)\s*[-\d.]$")


@dataclass(frozen=True)
class _Mention:
    value: str | None
    span: tuple[int, int]
    rule: str = "number"


def _word(text: str) -> str:
    # Dotless i and long s match i and s whatever the case.
    return text.casefold().replace("ı", "i")


def decimal_text(number: Decimal) -> str | None:
    """A number without exponent or trailing zeros: "3.5", "1200"; None if it is too long."""
    if (
        not number.is_finite()
        or abs(number.adjusted()) > _DIGITS
        or len(number.as_tuple().digits) > _DIGITS
    ):
        return None
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _decimal(token: str) -> Decimal | None:
    """A written number; None where it can be read in two ways, or is none ("1.2.3")."""
    token = token.rstrip(".,'\u2009\u202f\xa0")
    if len(token) > 2 * _DIGITS:
        return None
    if (
        re.fullmatch(r"\d{1,3}([,'\u2009\u202f\xa0])\d{3}(?:\1\d{3})*(?:\.\d+)?", token)
        and token[0] != "0"
    ):
        return Decimal(re.sub(r"[^\d.]", "", token))
    if re.fullmatch(r"[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})", token):
        return Decimal(token.replace(".", "").replace(",", "."))
    if re.fullmatch(r"\d+|\d*\.\d+|\d+\.", token):
        return Decimal(token)
    if re.fullmatch(r"\d+,\d+", token):
        return Decimal(token.replace(",", "."))
    return None


def _quotient(top: str, bottom: str) -> Decimal | None:
    return _PRECISION.divide(Decimal(top), Decimal(bottom)) if int(bottom) else None


def _value(found: re.Match[str]) -> tuple[Decimal | None, str]:
    """The number of a match and the rule that reads it; None with the reason why it is none."""
    if found["top"]:
        return _quotient(found["top"], found["bottom"]), "fraction"
    if found["part"]:
        return _quotient(*_VULGAR[found["part"]].split("/")), "fraction"
    number = _decimal(found["token"])
    if number is None:
        return None, "ambiguous number"
    rule = "number"
    power = found["e"] or found["ten"] or (found["sup"] or "").translate(_SUPERSCRIPT)
    if power:
        number = (
            number.scaleb(int(power.replace(" ", "")))
            if abs(int(power.replace(" ", ""))) < 99
            else Decimal("NaN")
        )
    if found["slash"]:
        bottom = found["slash"].strip(" /")
        if number != int(number) or len(bottom) > 6 or int(bottom) <= number:
            return None, "ratio"
        return _quotient(str(int(number)), bottom), "fraction"
    if found["mixed"] or found["vulgar"]:
        part = (found["mixed"] or _VULGAR[(found["vulgar"] or "").strip()]).strip()
        share = _quotient(*part.split("/"))
        if share is None or share >= 1 or number != int(number):
            return None, "ambiguous number"
        number, rule = number + share, "fraction"
    return (-number if found["sign"] == "-" else number), rule


def _mentions(text: str) -> Iterator[_Mention]:
    for found in _NUMBER.finditer(text):
        start, end = found.span()
        end -= len(found.group()) - len(found.group().rstrip(" .,'"))
        if found["unit"] is None and re.match(r"-?[A-Za-z_]", text[end : end + 2]):
            continue  # "3D", "2nd", "25-year-old"
        lead = text[max(0, start - 40) : start]
        if _OTHER_BEFORE.search(lead):
            continue
        if _PLUS_MINUS.search(lead + text[start]):
            continue
        line = lead.rpartition("\n")[2]
        begins = not line.strip() and start - len(line) in (0, text.rfind("\n", 0, start) + 1)
        if begins and re.match(r"[.)]\s+[^\W\d]", text[end : end + 4]):
            continue  # the number of a list item
        number, rule = _value(found)
        value = None if number is None else decimal_text(number)
        if number is not None and value is None:
            rule = "ambiguous number"
        if value is not None and (_BOUND_BEFORE.search(lead) or _BOUND_AFTER.match(text, end)):
            value, rule = None, "bound"
        if value is not None and re.match(r"\s?\^", text[end : end + 2]):
            value, rule = None, "ambiguous number"
        if value is not None and re.match(r"\s?/\s?\d", text[end : end + 3]):
            value, rule = None, "ratio"
        if value is not None and re.match(
            r"\s*(?:out\s+of|of|von|de|sur|su)\s+\d", text[end : end + 12]
        ):
            value, rule = None, "ratio"
        yield _Mention(value, (start, end), rule)
    for pattern in (_WORD_NUMBER, _CJK_COUNT):
        for found in pattern.finditer(text):
            word = _word(found["word"])
            if pattern is _WORD_NUMBER and word in _WHOLE_WORDS:
                continue
            lead = text[max(0, found.start() - 40) : found.start()]
            if _OTHER_BEFORE.search(lead):
                continue
            bound = _BOUND_BEFORE.search(lead) or _BOUND_AFTER.match(text, found.end())
            value = None if bound else str(_WORDS[word])
            yield _Mention(value, found.span(), "bound" if bound else "number word")


_LEAD = lazy(
    rf"(?:{HEAD}|\b(?:result|value|total|estimate)\b|结果)(?:(?!\bnot\b|不|非)[^.,;:=?!\n]){{0,50}}?{IS}\s*[:=]?\s*"
    rf"{_ABOUT}\s*(?:an?\s+|the\s+)?",
    re.IGNORECASE,
)
_WHOLE_LEAD = lazy(
    rf"\W*?(?:(?:it|this|that)(?:'s|\s+is)\s+)?{_ABOUT}\W*?(?=[-+.]?\d|\\|[^\W\d]|[½⅓⅔¼¾⅕⅛])",
    re.IGNORECASE,
)


def read_number(text: str) -> Extraction:
    """The one number that a plain text gives as its answer, without its unit."""
    mentions = list(islice(_mentions(text), MOST))
    if _RANGE.search(text):
        return Extraction(None, "range")
    whole = re.fullmatch(r"\W*(?P<word>\w+)(?:个|개)?\W*", text)
    if whole and "?" not in text and _word(whole["word"]) in _WORDS:
        return Extraction(str(_WORDS[_word(whole["word"])]), "number word", whole.span("word"))

    by_start = {one.span[0]: one for one in mentions}
    claims, reasons = [], []
    for found in _LEAD.finditer(text):
        one = by_start.get(found.end())
        lead = before(CLAUSE_END, text, found.start())
        if one is None or open_or_denied(lead):
            continue
        if re.search(r"\bif\b|\bunless\b|\?", after(SENTENCE_END, text, one.span[1])):
            continue
        if one.value is None:
            reasons.append(one.rule)
        else:
            claims.append(Claim(one.value, one.span))
    if reasons:
        return Extraction(None, reasons[0])
    stated = agree(claims, "stated")
    if stated:
        return stated

    if not mentions:
        return Extraction(None, "no answer found")
    if refuses(text):
        return Extraction(None, "refusal")
    counted = [
        one
        for one in mentions
        if not _REFERENCE.search(text[max(0, one.span[0] - 20) : one.span[0]])
    ]
    if not counted:
        # "Slice 12" answers, "it is not visible in slice 12" does not.
        if len(mentions) == 1 and len(text.split()) <= 3:
            counted = mentions
        else:
            return Extraction(None, "no answer found")
    unread = [one for one in counted if one.value is None]
    if unread:
        return Extraction(None, unread[0].rule if len(counted) == 1 else "several answers")
    if len({one.value for one in counted}) > 1:
        return Extraction(None, "several answers")
    one = counted[0]
    if re.search(r"\?", after(SENTENCE_END, text, one.span[1])) or re.search(
        r"\b(?:if|whether)\b", before(SENTENCE_END, text, one.span[0]), re.IGNORECASE
    ):
        return Extraction(None, "hedged")
    opening = _WHOLE_LEAD.match(text)
    alone = (
        opening is not None
        and opening.end() == one.span[0]
        and not re.search(r"\w", text[one.span[1] :])
    )
    return Extraction(
        one.value, one.rule if alone or one.rule != "number" else "only number", one.span
    )
