"""A response as its words alone, and what surrounds a word: denial, doubt, refusal.

Thoughts, markdown, LaTeX and tags are blanked out character for character, so that a span in the
plain text can be led back to the response as the model wrote it.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from mmeval.scoring.lazy import lazy

__all__ = [
    "ADVERB",
    "CLAUSE_END",
    "HEAD",
    "HEDGE",
    "IS",
    "NEGATION",
    "SENTENCE_END",
    "Plain",
    "after",
    "answer_passages",
    "before",
    "denied",
    "final_passage",
    "hedged",
    "is_refusal",
    "open_or_denied",
    "plain",
    "refuses",
    "thoughts",
    "without_thoughts",
]

# --- Thoughts -------------------------------------------------------------------------------------

_TAG = r"think|thinking|thought|thoughts|reasoning"
_OPEN = rf"(?:<(?:{_TAG})>|\[THINK\]|◁think▷)"
_CLOSE = rf"(?:</(?:{_TAG})>|\[/THINK\]|◁/think▷)"
_THOUGHT = lazy(rf"{_OPEN}.*?(?:(?P<closed>{_CLOSE})|\Z)", re.DOTALL | re.IGNORECASE)
# Opened by the prompt template, so that only its end is seen; or a channel before the final one.
_END_OF_THOUGHT = lazy(rf"{_CLOSE}|<\|channel\|>final<\|message\|>", re.IGNORECASE)


def thoughts(text: str) -> tuple[list[tuple[int, int]], bool]:
    """Where a response is reasoning, and whether its last thought was cut off.

    Returns:
        Spans in order, without overlaps; True if a thought was opened and never closed.
    """
    found = list(_THOUGHT.finditer(text))
    spans = [one.span() for one in found]
    ends = [one.end() for one in _END_OF_THOUGHT.finditer(text) if not _inside(one.start(), spans)]
    if ends:
        spans = [(0, ends[-1]), *[span for span in spans if span[0] >= ends[-1]]]
    return spans, bool(found) and found[-1]["closed"] is None


def _inside(position: int, spans: list[tuple[int, int]]) -> bool:
    index = bisect_right(spans, position, key=lambda span: span[0]) - 1
    return index >= 0 and position < spans[index][1]


def without_thoughts(text: str) -> str:
    """The text, as long as before, with its thoughts blanked out."""
    pieces, position = [], 0
    for start, end in thoughts(text)[0]:
        pieces += [text[position:start], _blank(text[start:end])]
        position = end
    return "".join(pieces) + text[position:]


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


# --- Markup ---------------------------------------------------------------------------------------

_MARKUP = lazy(
    r"""
      <\|[^|<>\n]{1,40}\|> | \[/?INST\]                           # special tokens
    | </?[A-Za-z][\w-]*>                                          # tags
    | \\(?:boxed|fbox|text(?:bf|rm|it)?|math(?:rm|bf|it)?|bf|rm)\b  # LaTeX
    | \\[()\[\]]
    | [*_`#~$"“”„{}]
    | (?<!\w)['‘’] | ['’](?!\w)                                   # quotation marks
    | \A\s*(?:assistant|model)\s*:                                # the name of who speaks
    """,
    re.VERBOSE | re.IGNORECASE,
)
# One character for one: full-width forms, circled letters, other full stops, dashes, apostrophes.
_SAME = {
    **{0xFF01 + i: 0x21 + i for i in range(94)},
    **{0x24B6 + i: ord("A") + i for i in range(26)},
    **dict(zip(map(ord, "。｡　’−‑"), map(ord, ".. '--"), strict=True)),
}


@dataclass(frozen=True)
class Plain:
    """A passage without markup or long gaps.

    Attributes:
        text: Its words.
        position: Where each character of `text` stood in the response.
    """

    text: str
    position: tuple[int, ...]

    def span(self, found: tuple[int, int]) -> tuple[int, int]:
        """A span of `text` as a span of the response."""
        return self.position[found[0]], self.position[found[1] - 1] + 1


@functools.lru_cache(maxsize=512)  # of options that come again, and of one answer's readings
def plain(text: str, start: int = 0, end: int | None = None) -> Plain:
    """A passage of a response as its words.

    Models that run on write thousands of line breaks; without gaps no rule takes long over them.
    """
    passage = text[start:end].translate(_SAME)
    blanked = _MARKUP.sub(lambda found: _blank(found.group()), passage)
    pieces: list[str] = []
    position: list[int] = []
    for found in re.finditer(r"\S+|\s+", blanked):
        piece = found.group()
        if piece.isspace() and len(piece) > 2:
            piece = "\n\n" if "\n" in piece else "  "
        pieces.append(piece)
        position.extend(range(start + found.start(), start + found.start() + len(piece)))
    return Plain("".join(pieces), tuple(position))


# --- Passages that are marked as the answer -------------------------------------------------------

_KEYS = (
    r"(?:final|correct|predicted|model)?[_ ]?answer(?:_choice|_letter)?|答案|정답|답|respuesta"
    r"|réponse|antwort|risposta|resposta"
)
_MARKED = (
    lazy(
        r"<(?P<tag>answer|final_answer)>(?P<inner>.*?)(?:</(?P=tag)>|\Z)", re.DOTALL | re.IGNORECASE
    ),
    lazy(
        r"\\(?:boxed|fbox)\s*\{"
        r"(?P<inner>(?:[^{}]|\{(?:[^{}]|\{[^{}]*\}){0,200}+\}){0,400}+)\}"
    ),
    lazy(
        rf"[\"'](?:{_KEYS})[\"']\s*:\s*"
        r"(?P<inner>\"(?:[^\"\\\n]|\\.){0,2000}\"|'[^'\n]{0,2000}'|\[[^\[\]]{0,2000}\]|[-+\w.%]+)",
        re.IGNORECASE,
    ),
)


def answer_passages(text: str) -> list[tuple[int, int]]:
    r"""Spans of what is in ``<answer>``, in ``\boxed{}`` or under an answer's key in JSON."""
    spans: list[tuple[int, int]] = []
    for pattern in _MARKED:
        found = [
            one.span("inner")
            for one in pattern.finditer(text)
            if plain(text, *one.span("inner")).text.strip()
        ]
        outer = sorted(spans)
        spans += [span for span in found if not _inside(span[0], outer)]
    return sorted(spans)


HEAD = (
    r"(?:\b(?:answer|ans|option|choice|letter|response|respuesta|opci[oó]n|réponse|antwort|risposta"
    r"|opzione|resposta|opção)\b|答案|选项|答え|正解|정답|(?<![가-힣])답)"
)
IS = (
    r"(?:\bis\b|\bwould\s+be\b|\bshould\s+be\b|\bmust\s+be\b|\bist\b|\best\b|\bes\b|\bè\b|\bé\b"
    r"|[应應]该?[为為是选]|是|[为為]|は|은|는|[:=]|\s[-–—]\s)"
)
ADVERB = (
    r"(?:(?:most\s+likely|likely|probably|clearly|definitely|certainly|therefore|thus|obviously)"
    r"\s+)?"
)
_FINAL = lazy(
    r"(?:\bfinal\s+(?:answer|choice|decision|verdict)\b|最终答案|最終答案|최종\s*(?:정답|답변|답)"
    r"|\brespuesta\s+final\b|\bréponse\s+finale\b|\brisposta\s+finale\b|\bresposta\s+final\b)"
    rf"(?:\s*{IS}\s*:?\s*|\s*\n\s*)",
    re.IGNORECASE,
)


def final_passage(text: str) -> list[tuple[int, int]]:
    """The lines behind "final answer" in plain text."""
    spans = []
    for found in _FINAL.finditer(text):
        lead = before(CLAUSE_END, text, found.start())
        if open_or_denied(lead):
            continue
        end = text.find("\n", found.end())
        end = len(text) if end < 0 else end
        if text[found.end() : end].strip():
            spans.append((found.end(), end))
    return spans


# --- Clauses: what a word is said about -----------------------------------------------------------

CLAUSE_END = lazy(
    r"[.,;:!?\n](?!\d)|(?<!thing )(?<!all )\bbut\b"
    r"|\b(?:however|although|though|while|whereas)\b|但是?|而是",
    re.IGNORECASE,
)
SENTENCE_END = lazy(r"[.!?\n](?!\d)")
_NO_DOUBT = lazy(r"\b(?:no|without(?:\s+a)?)\s+doubt\b|\bnot\s+only\b", re.IGNORECASE)
NEGATION = lazy(
    r"\b(?:not|no|never|neither|nor|without|cannot|none|absent|absence|unlikely|negative"
    r"|exclud(?:e[sd]?|ing)|rul(?:e[sd]?|ing)[- ]out|r/o|rather\s+than|instead\s+of"
    r"|as\s+opposed\s+to"
    r"|free\s+of|lack(?:s|ing)?|fail(?:s|ed)?\s+to|den(?:y|ies|ied)|doubt(?:ful)?|wrong|incorrect"
    r"|unlike|mimic(?:s|king)?|than|except(?:ing)?|apart\s+from|other\s+than"
    r"|(?:every|any)thing\s+but|all\s+but|history\s+of|less\s+likely"
    r"|sin|kein(?:e[nrms]?)?|nicht|ohne|pas|aucune?|sans|nessun[ao]?|senza|não|nenhuma?|sem"
    r"|ningun[ao]?|ningún)\b|\bnon\b(?!-)|n't\b|不|没|沒|[无無]|未|非(?!常)|否|排除|아니|않|없|못",
    re.IGNORECASE,
)
_NEGATION_AFTER = lazy(
    r"\b(?:not|never|absent|unlikely|(?<!be )excluded|ruled\s+out|wrong|incorrect|no|resolved"
    r"|less\s+likely|nicht|ausgeschlossen|ausente|assente)\b"
    r"|n't\b|不|没有?|沒|[无無]|未|排除|아니|아닙|않|없",
    re.IGNORECASE,
)
HEDGE = lazy(
    r"\b(?:may|might|could|possibl[ey]|possibility|perhaps|maybe|either|whether|if|uncertain"
    r"|unclear|unsure|unable|cannot|suspicious|suspected|suspicion|differential|versus|vs|query"
    r"|podría|posible|posiblemente|quizás?|pourrait|könnte|möglich(?:erweise)?|vielleicht"
    r"|potrebbe|forse|talvez|poderia|pode)\b|\bpeut-être\b|\bcan't\b|\?"
    r"|(?<!最)可能|或许|也许|疑似|怀疑|是否|不确定|不除外|가능성|의심|수\s*있|또는|혹은|아마",
    re.IGNORECASE,
)
_REACH = 400  # characters; no clause is longer, and a response without a full stop may be endless
# Behind a comma these begin a new statement; without them it continues a list.
_NEW_STATEMENT = lazy(
    r"\b(?:is|are|was|were|has|have|had|shows?|seen|demonstrat\w+|there|it|this|that|the|which|who"
    r"|suggest\w*|so|therefore|thus|hence|consistent|with|only|just|indicat\w+|represent\w*|answer"
    r"|option|i|we|yes)\b",
    re.IGNORECASE,
)
_VERB = lazy(r"\b(?:is|are|was|were|has|have|can|could|isn't|aren't|cannot)\b", re.IGNORECASE)


def before(pattern: re.Pattern[str], text: str, position: int) -> str:
    """The text from the last match of `pattern` up to `position`."""
    return _before(pattern, text[max(0, position - _REACH) : position])


def after(pattern: re.Pattern[str], text: str, position: int) -> str:
    """The text from `position` through the next match of `pattern`."""
    return _after(pattern, text[position : position + _REACH])


# Cached because models that run on write the same clause thousands of times.
@lru_cache(maxsize=2048)
def _before(pattern: re.Pattern[str], window: str) -> str:
    ends = [found.end() for found in pattern.finditer(window)]
    return window[ends[-1] :] if ends else window


@lru_cache(maxsize=2048)
def _after(pattern: re.Pattern[str], window: str) -> str:
    found = pattern.search(window)
    return window[: found.end()] if found else window


@lru_cache(maxsize=2048)
def open_or_denied(lead: str) -> bool:
    """Whether the words before a statement take it back: "I doubt that", "it may be that"."""
    lead = _NO_DOUBT.sub(" ", lead)
    return bool(NEGATION.search(lead) or HEDGE.search(lead))


_BREAK = lazy(
    r"[.;:!?\n](?!\d)|\b(?:but|however|although|though|while|whereas|so|therefore)\b|但是?|而是",
    re.IGNORECASE,
)


def denied(text: str, start: int, end: int) -> bool:
    """Whether the clause around a mention says that it is not so.

    A denial goes on through a list: "no effusion, pneumonia or mass" denies all three.
    """
    return _denied(text[max(0, start - _REACH) : start], text[end : end + _REACH])


@lru_cache(maxsize=2048)
def _denied(left: str, right: str) -> bool:
    if NEGATION.search(_NO_DOUBT.sub(" ", _before(CLAUSE_END, left))):
        return True
    if _NEGATION_AFTER.search(_after(CLAUSE_END, right)):
        return True
    lead = _NO_DOUBT.sub(" ", _before(_BREAK, left))
    negations = list(NEGATION.finditer(lead))
    if negations:
        items = lead[negations[-1].end() :].split(",")
        if items[0].strip() and not any(_NEW_STATEMENT.search(item) for item in items[1:]):
            return True
    rest = _after(_BREAK, right)
    verb = _VERB.search(rest)
    if verb is None:
        return False
    items = rest[: verb.start()].split(",")
    if len(items) < 2 or any(_NEW_STATEMENT.search(item) for item in items):
        return False
    return bool(_NEGATION_AFTER.search(rest[verb.start() :].split(",")[0]))


def hedged(text: str, start: int, end: int) -> bool:
    """Whether the sentence around a mention leaves it open."""
    return _hedged(text[max(0, start - _REACH) : start], text[end : end + _REACH])


@lru_cache(maxsize=2048)
def _hedged(left: str, right: str) -> bool:
    sentence = _before(SENTENCE_END, left) + _after(SENTENCE_END, right)
    return left.endswith("?") or bool(HEDGE.search(sentence))


# --- Refusals -------------------------------------------------------------------------------------

_TELL = (
    r"(?:be\s+)?(?:help|assist|provid|giv|offer|determin|tell|say|answer|diagnos|identif|interpret"
    r"|analy[sz]|assess|evaluat|view|access|comply|confirm|comment|fulfil|process|ascertain|verif"
    r"|judg|conclude|decid|make\s+(?:a|an|any|medical|out|such)|be\s+(?:sure|certain)"
    r"|see\s+(?:the|this|an?|any|your)\s+(?:image|picture|photo|scan|x-?ray|attach))\w*"
)
_REFUSAL = lazy(
    rf"\b(?:can(?:'t|\s?not)|couldn't|could\s+not|unable\s+to|not\s+able\s+to|(?:not|im)\s?possible"
    rf"\s+to|won't|will\s+not)\s+(?:\w+ly\s+)?{_TELL}"
    r"|\bas\s+an?\s+(?:AI|artificial|(?:large\s+)?language)\b"
    r"|\b(?:not\s+enough|insufficient|inadequate)\s+(?:\w+\s+)?(?:information|detail|data|evidence)"
    r"|\bno\s+(?:image|picture|photo|scan)\s+(?:was|is|has\s+been)\s+(?:provided|attached|given)"
    r"|\bI\s+(?:don't|do\s+not)\s+(?:know|have\s+(?:access|enough|sufficient|the\s+ability))\b"
    r"|\bno\s+idea\b|\bI(?:'m|\s+am)\s+(?:not\s+(?:sure|certain|qualified|a\s+doctor)|unsure)\b"
    r"|[无無]法(?:\w{0,4})(?:确定|判断|提供|回答|诊断|识别|分析|查看|看到|给出|评估|得出|辨认|访问|协助"
    r"|满足|帮)|不能(?:提供|确定|判断|回答|诊断|给出)|不知道|难以(?:判断|确定)"
    r"|수\s*(?:가\s*)?없(?:습니다|어요|음|다)|모르겠|모릅니다"
    r"|\bno\s+(?:puedo|soy\s+capaz|se\s+puede|es\s+posible|sé)\b"
    r"|\bje\s+ne\s+(?:peux|suis|sais|saurais)\s+pas\b|\bimpossible\s+de\b"
    r"|\b(?:ich\s+)?kann\s+(?:ich\s+)?(?:[^\s.,]+\s+){0,6}nicht\b|\bich\s+wei(?:ß|ss)\s+(?:es\s+)?nicht\b"
    r"|\bnon\s+(?:posso|sono\s+in\s+grado|è\s+possibile|lo\s+so)\b"
    r"|\bnão\s+(?:posso|consigo|é\s+possível|sei)\b",
    re.IGNORECASE,
)


def refuses(words: str) -> bool:
    """Whether one of the first three sentences of a plain text declines to answer."""
    position = 0
    for _ in range(3):
        sentence = after(SENTENCE_END, words, position)
        if _REFUSAL.search(sentence):
            return True
        position += len(sentence)
        while position < len(words) and words[position] in " \n.!":
            position += 1
    return False


def is_refusal(text: str) -> bool:
    """Whether a response declines to answer, as far as its first three sentences show.

    A response can decline and then answer all the same ("I cannot give advice, but the answer is
    B"); `extract` reads such answers. "I cannot see an effusion" describes and does not decline.

    Examples:
        >>> is_refusal("I'm sorry, but I can't provide a diagnosis.")
        True
        >>> is_refusal("I cannot see an effusion.")
        False
    """
    return refuses(plain(without_thoughts(text)).text)
