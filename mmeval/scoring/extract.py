"""Read the answer a model gave out of the text it wrote, or say that there is none.

Every rule needs the model to have *said* which answer it gives: there is no nearest match, no first
letter found somewhere, no random choice. What cannot be read is `unparsed`, with the reason in
`rule`.

Markdown, LaTeX, XML tags and closed or unclosed `<think>` passages are blanked out first, character
for character, so that a span always points into the text as the model wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mmeval.scoring.normalize import normalize

__all__ = ["Extraction", "extract"]


@dataclass(frozen=True)
class Extraction:
    """What was read from one response.

    Attributes:
        value: The answer: an option letter, "yes" or "no", normalised text, or "[x1, y1, x2, y2]".
            None when the response states no single answer.
        rule: The rule that read the answer, or the reason why there is none.
        span: Start and end of the deciding characters in the response; None without an answer.
    """

    value: str | None
    rule: str
    span: tuple[int, int] | None = None


def extract(kind: str, text: str, options: Sequence[str] = ()) -> Extraction:
    """Read the answer to a question of `kind` from a response.

    choice: the response is a letter; or it states one ("the answer is B"); or it begins with a
    letter set apart, or has one on a line of its own, beside its own option text, or in "not B but
    C"; or it names exactly one option text without denying or hedging it. Options that are "yes"
    and "no" are also read as yes_no. Two different answers under one rule, a letter beyond the
    options and a letter followed by another option's text are unparsed.

    yes_no: the word stands alone, opens a sentence as an answer ("No, ...") or is stated ("the
    answer is no"). "normal", "not" and "note" hold no "no". "No effusion is seen" is unparsed: it
    would answer "yes" to a negated question.

    open: the whole response, normalised (see `normalize`), without a leading "The answer is".

    box: one bracketed list of four numbers, or exactly four numbers in all, x1 < x2 and y1 < y2;
    neither scaled nor clipped.

    Args:
        kind: "choice", "yes_no", "open" or "box".
        text: The response as the model wrote it.
        options: Option texts of a "choice" question, in the order of their letters.

    Raises:
        ValueError: If `kind` is unknown, or a choice question has no or more than 26 options.

    Examples:
        >>> extract("choice", "The answer is **B**, not A.", ["pneumonia", "effusion"])
        Extraction(value='B', rule='stated', span=(16, 17))
        >>> extract("choice", "A mass is seen", ["pneumonia", "effusion"]).value is None
        True
        >>> extract("yes_no", "Yes, the heart size is normal.").value
        'yes'
    """
    if kind not in ("choice", "yes_no", "open", "box"):
        raise ValueError(f"kind is {kind!r}; it must be 'choice', 'yes_no', 'open' or 'box'")
    if kind == "choice" and not 1 <= len(options) <= 26:
        raise ValueError(f"a choice question needs 1 to 26 options, not {len(options)}")
    plain, position = _plain(text)
    if not plain.strip():
        return Extraction(None, "empty")
    if kind == "choice":
        found = _choice(plain, options)
    else:
        found = {"yes_no": _yes_no, "open": _open, "box": _box}[kind](plain)
    if found.span is None:
        return found
    start, end = found.span
    return replace(found, span=(position[start], position[end - 1] + 1))


# --- Text that is not part of the answer ----------------------------------------------------------

_MARKUP = re.compile(
    r"""
      <think>.*?(?:</think>|\Z)                                   # reasoning is not the answer
    | \A(?:(?!<think>).)*?</think>                                # opened by the prompt template
    | </?[A-Za-z][\w-]*>                                          # tags
    | \\(?:boxed|fbox|text(?:bf|rm|it)?|mathrm|mathbf|bf|rm)\b    # LaTeX
    | \\[()\[\]]
    | [*_`#~$"“”{}]
    | (?<!\w)['‘’] | ['’](?!\w)                                   # quotation marks
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def _plain(text: str) -> tuple[str, list[int]]:
    """The text without markup or long gaps, and where each of its characters stood.

    Models that run on write thousands of line breaks; without gaps no rule takes long over them.
    """
    blanked = _MARKUP.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    blanked = blanked.replace("’", "'")
    pieces: list[str] = []
    position: list[int] = []
    for found in re.finditer(r"\S+|\s+", blanked):
        piece = found.group()
        if piece.isspace() and len(piece) > 2:
            piece = "\n\n" if "\n" in piece else "  "
        pieces.append(piece)
        position.extend(range(found.start(), found.start() + len(piece)))
    return "".join(pieces), position


# --- Clauses: what a word is said about -----------------------------------------------------------

_CLAUSE_END = re.compile(
    r"[.,;:!?\n](?!\d)|\b(?:but|however|although|though|while)\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?\n](?!\d)")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|without|cannot|none|absent|absence|unlikely|negative|exclude[sd]?"
    r"|rule[sd]? out|ruling out|rather than|instead of|free of|doubt|wrong|incorrect)\b|n't\b",
    re.IGNORECASE,
)
_NEGATION_AFTER = re.compile(
    r"\b(?:not|never|absent|unlikely|excluded|ruled out|wrong|incorrect|no)\b|n't\b", re.IGNORECASE
)
_HEDGE = re.compile(
    r"\b(?:may|might|could|possibl[ey]|possibility|perhaps|maybe|either|whether|if|uncertain|unclear"
    r"|unsure|unable|cannot|suspicious|suspected|differential|versus|vs)\b|\bcan't\b|\?",
    re.IGNORECASE,
)


_REACH = 400  # characters; no clause is longer, and a response without a full stop may be endless


def _before(pattern: re.Pattern[str], text: str, position: int) -> str:
    start = max(0, position - _REACH)
    ends = [found.end() for found in pattern.finditer(text, start, position)]
    return text[ends[-1] if ends else start : position]


def _after(pattern: re.Pattern[str], text: str, position: int) -> str:
    end = min(len(text), position + _REACH)
    found = pattern.search(text, position, end)
    return text[position : found.end() if found else end]


def _denied(text: str, start: int, end: int) -> bool:
    """Whether the clause around a mention says that it is not so."""
    return bool(
        _NEGATION.search(_before(_CLAUSE_END, text, start))
        or _NEGATION_AFTER.search(_after(_CLAUSE_END, text, end))
    )


def _hedged(text: str, start: int, end: int) -> bool:
    """Whether the sentence around a mention leaves it open."""
    sentence = _before(_SENTENCE_END, text, start) + _after(_SENTENCE_END, text, end)
    return bool(_HEDGE.search(sentence))


# --- Claims: passages that give an answer ---------------------------------------------------------


@dataclass(frozen=True)
class _Claim:
    value: str
    span: tuple[int, int]


def _decide(claims: Iterable[_Claim], rule: str) -> Extraction | None:
    """The answer all claims agree on; None without claims, unparsed where they differ."""
    found = list(claims)
    if not found:
        return None
    if len({claim.value for claim in found}) > 1:
        return Extraction(None, "several answers")
    return Extraction(found[0].value, rule, found[0].span)


_ADVERB = r"(?:(?:most\s+likely|likely|probably|clearly|definitely|certainly|therefore|thus)\s+)?"
_HEAD = (
    r"(?:\b(?:answer|option|choice|letter|response|respuesta|réponse|antwort|risposta|resposta)\b"
    r"|答案|答え|정답)"
)
_IS = (
    r"(?:\bis\b|\bwould\s+be\b|\bshould\s+be\b|\bist\b|\best\b|\bes\b|是|为|は|은|[:：=]|\s[-–—]\s)"
)

_LETTER = r"(?<![A-Za-z0-9_'])(?P<open>\()?\s*(?P<letter>[A-Za-z])(?![A-Za-z0-9_']|-\w)\s*\)?"
_STATED_LETTER = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "The answer to this question is B", "Answer: B", "the best option is probably (B)"
        rf"{_HEAD}(?:(?!\bnot\b)[^.,;:：=\n]){{0,60}}?{_IS}\s*[:：=]?\s*{_ADVERB}"
        rf"(?:(?:option|choice|answer|letter)\s*[:：]?\s*)?{_LETTER}",
        # "Option B is correct", "I think B is the best answer", not "Hepatitis C is likely"
        r"(?:^|[.,;:!?\n]|\b(?:option|choice|answer|think|believe|so|thus|therefore|that)\b)\s*"
        rf"{_LETTER}\s+(?:is|seems|appears\s+to\s+be|would\s+be)\s+{_ADVERB}(?:the\s+)?"
        r"(?:correct|right|best|answer|(?:most\s+)?(?:appropriate|accurate|likely)\s+"
        r"(?:answer|option|choice|diagnosis))\b",
        # "I would say b", "I choose option B", "It is B."
        r"(?:\bI(?:'d|'ll|\s+would|\s+will)?\s+"
        r"(?:choose|select|pick|say|answer|go\s+with|opt\s+for)|\bit(?:'s|\s+is))\s+"
        rf"(?:the\s+)?(?:(?:option|choice|answer)\s+)?{_LETTER}",
    )
)
_CONNECTIVE = (
    r"because|since|as|due|based|given|rather|not|instead|over|or|and|is|seems|would|appears"
)
# After a bare "A" (or any lower-case letter) only these show that it is not a word of the sentence.
_LETTER_ENDS = re.compile(rf"\s*(?:$|[.,;:!?)\]/&|\n])|\s+(?:{_CONNECTIVE})\b", re.IGNORECASE)
_OTHER_LETTER = re.compile(
    r"\s*\)?\s*(?:,|/|&|\||\bor\b|\band\b|,\s*or\b)\s*(?:option\s+)?\(?\s*([A-Z])(?![A-Za-z0-9_'])"
)
_WHOLE_LETTER = re.compile(
    rf"\W*+(?:(?:option|choice|answer)\b\W*+)?{_LETTER}[^\w?]*+", re.IGNORECASE
)
_LEADING_LETTER = re.compile(
    r"\s*(?:(?:option|choice)\s+)?\(?(?P<letter>[A-Za-z])\s*"
    r"(?:\)|[.:](?=\s|$)|[,;/&|]|\s[-–—]\s|\n"
    r"|(?=\s(?:because|since|as|due|based|given|rather|not|instead|over|or|and)\b))"
)
_LABEL = re.compile(r"(?<![A-Za-z0-9_'.])\(?(?P<letter>[A-Z])[).:](?=\s|$)")
_CONTRAST = re.compile(
    r"\bnot\s+(?:option\s+)?\(?[A-Z]\)?\s*,?\s+but\s+(?:rather\s+)?(?:option\s+)?\(?(?P<letter>[A-Z])"
    r"(?![A-Za-z0-9_'])",
    re.IGNORECASE,
)


def _letter_claim(
    plain: str, found: re.Match[str], last: str, *, bracketed: bool = False
) -> Iterator[_Claim]:
    """The claim of a matched letter, and those of the letters listed with it ("B or C")."""
    letter, span = found["letter"], found.span("letter")
    rest = plain[span[1] :]
    is_a_word_too = letter.islower() or letter in "AI"
    if is_a_word_too and not bracketed and not _LETTER_ENDS.match(rest):
        return
    if letter.upper() <= last:
        yield _Claim(letter.upper(), span)
    other = _OTHER_LETTER.match(rest)
    if other and other[1] <= last:
        yield _Claim(other[1], (span[1] + other.start(1), span[1] + other.end(1)))


def _stated_letters(plain: str, last: str) -> Iterator[_Claim]:
    for pattern in _STATED_LETTER:
        for found in pattern.finditer(plain):
            start = found.start() + (found.group()[0] in ".,;:!?\n")
            lead = _before(_CLAUSE_END, plain, start)
            if not (_NEGATION.search(lead) or _HEDGE.search(lead)):
                yield from _letter_claim(plain, found, last, bracketed=bool(found["open"]))


def _labelled_options(plain: str, options: Sequence[str]) -> Iterator[_Claim]:
    """A letter with its own option text: "B. effusion", "(B) effusion"."""
    for letter, option in _lettered(options):
        pattern = rf"(?<![A-Za-z0-9_'])\(?{letter}\s*[).:]\s*{_phrase(option)}"
        for found in re.finditer(pattern, plain, re.IGNORECASE):
            if not _denied(plain, found.start(), found.end()):
                yield _Claim(letter, found.span())


def _lettered(options: Sequence[str]) -> list[tuple[str, str]]:
    return [(chr(ord("A") + index), option) for index, option in enumerate(options)]


def _phrase(option: str) -> str:
    """A pattern for an option text as whole words, whatever its case, spacing and hyphens."""
    words = r"[\s\-]+".join(re.escape(word) for word in re.split(r"[\s\-]+", option.strip(" .")))
    return rf"(?<![\w.\-])(?:{words})(?![\w\-]|\.\d)"


def _choice(plain: str, options: Sequence[str]) -> Extraction:
    last = chr(ord("A") + len(options) - 1)

    whole = _WHOLE_LETTER.fullmatch(plain)
    if whole:
        if whole["letter"].upper() > last:
            return Extraction(None, "not an option")
        return Extraction(whole["letter"].upper(), "letter", whole.span("letter"))

    stated = _decide(_stated_letters(plain, last), "stated")
    if stated:
        return _unless_contradicted(stated, plain, options)

    claims = list(_labelled_options(plain, options))
    leading, contrast = _LEADING_LETTER.match(plain), _CONTRAST.search(plain)
    if leading:
        closed = plain[leading.end("letter") : leading.end()].strip() in {")", ".", ":"}
        claims.extend(_letter_claim(plain, leading, last, bracketed=closed))
        # "A: no. B: yes." goes through the options and does not begin with its answer.
        claims.extend(
            _Claim(label["letter"], label.span("letter"))
            for label in _LABEL.finditer(plain)
            if label["letter"] <= last and not _denied(plain, *label.span("letter"))
        )
    if contrast:
        claims.extend(_letter_claim(plain, contrast, last))
    for line in re.finditer(r"[^\n]+", plain):
        found = _WHOLE_LETTER.fullmatch(plain, line.start(), line.end())
        if found and found["letter"].upper() <= last:
            claims.append(_Claim(found["letter"].upper(), found.span("letter")))
    apart = _decide(claims, "set apart")
    if apart:
        return _unless_contradicted(apart, plain, options)

    lettered = _lettered(options)
    by_word = {normalize(option): letter for letter, option in lettered}
    if {"yes", "no"} <= by_word.keys():
        answer = _yes_no(plain)
        if answer.value:
            return Extraction(by_word[answer.value], answer.rule, answer.span)
        # "no" within a sentence denies something; it is not the option "No".
        lettered = [pair for pair in lettered if normalize(pair[1]) not in ("yes", "no")]
    return _named_option(plain, lettered)


def _unless_contradicted(answer: Extraction, plain: str, options: Sequence[str]) -> Extraction:
    """Drop a letter whose own label is another option's text: "B. pneumonia" where that is A."""
    if answer.value is None or answer.span is None:
        return answer
    label = re.match(r"\s*\)?\s*[.:)\-–—]?\s*(?:an?\s|the\s)?\s*", plain[answer.span[1] :])
    start = answer.span[1] + (label.end() if label else 0)
    beside = {
        letter: found.end()
        for letter, option in _lettered(options)
        if (found := re.compile(_phrase(option), re.IGNORECASE).match(plain, start))
    }
    if beside and max(beside, key=lambda letter: beside[letter]) != answer.value:
        sentence = _after(_SENTENCE_END, plain, start)
        own = options[ord(answer.value) - ord("A")]
        if not re.search(_phrase(own), sentence, re.IGNORECASE):
            return Extraction(None, "letter and text differ")
    return answer


def _outermost(mentions: list[_Claim]) -> list[_Claim]:
    """Leave out mentions inside longer ones: "pleural effusion" does not also name "effusion"."""
    kept: list[_Claim] = []
    for one in sorted(mentions, key=lambda mention: (mention.span[0], -mention.span[1])):
        if not kept or one.span == kept[-1].span or one.span[1] > kept[-1].span[1]:
            kept.append(one)
    return kept


def _named_option(plain: str, lettered: Sequence[tuple[str, str]]) -> Extraction:
    mentions = [
        _Claim(letter, found.span())
        for letter, option in lettered
        if re.search(r"\w\w|\d", option)
        for found in re.finditer(_phrase(option), plain, re.IGNORECASE)
    ]
    mentions = _outermost(mentions)
    if not mentions:
        return Extraction(None, "no answer found")
    said = [one for one in mentions if not _denied(plain, *one.span)]
    if not said:
        return Extraction(None, "denied")
    firm = [one for one in said if not _hedged(plain, *one.span)]
    if not firm:
        return Extraction(None, "hedged")
    return _decide(firm, "option text") or Extraction(None, "no answer found")


_POLAR = r"(?P<polar>yes|no)\b(?!-|')"
_STATED_POLAR = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_HEAD}(?:(?!\bnot\b)[^.,;:：=\n]){{0,60}}?{_IS}\s*[:：=]?\s*{_ADVERB}{_POLAR}(?!\s+\w)",
        rf"\bI(?:'d|\s+would|\s+will)?\s+(?:say|answer|go\s+with)\s+{_POLAR}(?!\s+\w)",
    )
)
# "No." and "No, ..." answer; the "No" of "No effusion is seen" only describes, and answers a
# negated question with yes.
_SENTENCE_POLAR = re.compile(
    rf"(?:^|[.!?\n:])\s*[-•]?\s*{_ADVERB}{_POLAR}"
    r"(?:(?=\s*(?:$|[.,;:!\n)\-–—]))|(?=\s+(?:there|it|this|the|that|i)\b))",
    re.IGNORECASE,
)
_BOTH_POLAR = re.compile(r"\byes\W*(?:or|and|/)\W*no\b|\bno\W*(?:or|and|/)\W*yes\b", re.IGNORECASE)


_WHOLE_POLAR = re.compile(r"\W*+(?P<polar>yes|no)[^\w?]*+", re.IGNORECASE)
_POLAR_ASIDE = re.compile(r"[.,;:!?\n]\s*(?P<polar>yes|no)\s*(?=[.,;:!?\n]|$)", re.IGNORECASE)


def _yes_no(plain: str) -> Extraction:
    whole = _WHOLE_POLAR.fullmatch(plain)
    if whole:
        return Extraction(whole["polar"].lower(), "yes or no", whole.span("polar"))
    if _BOTH_POLAR.search(plain):
        return Extraction(None, "several answers")

    def claims(pattern: re.Pattern[str]) -> Iterator[_Claim]:
        for found in pattern.finditer(plain):
            yield _Claim(found["polar"].lower(), found.span("polar"))

    stated = _decide(
        (
            claim
            for pattern in _STATED_POLAR
            for claim in claims(pattern)
            if not _NEGATION.search(_before(_CLAUSE_END, plain, claim.span[0]))
        ),
        "stated",
    )
    if stated:
        return stated
    opening = list(claims(_SENTENCE_POLAR))
    if opening:
        opening.extend(claims(_POLAR_ASIDE))
    opened = _decide(opening, "yes or no")
    if opened:
        return opened
    if re.match(r"\s*no\b", plain, re.IGNORECASE):
        return Extraction(None, "no as a determiner")
    return Extraction(None, "no answer found")


_OPEN_LEAD = re.compile(
    rf"\s*(?:the\s+)?(?:final\s+|correct\s+)?{_HEAD}\s*(?:is\b|[:：=])\s*", re.I
)


def _open(plain: str) -> Extraction:
    lead = _OPEN_LEAD.match(plain)
    start = lead.end() if lead else len(plain) - len(plain.lstrip())
    end = len(plain.rstrip())
    value = normalize(plain[start:end])
    if not value:
        return Extraction(None, "empty")
    return Extraction(value, "text", (start, end))


_NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w]|\.\d)"
_FOUR = re.compile(
    r"[\[(]\s*" + r"\s*%?\s*[,;\s]\s*".join(f"({_NUMBER})" for _ in range(4)) + r"\s*%?\s*[\])]"
)


def _box(plain: str) -> Extraction:
    lists: list[tuple[tuple[float, ...], tuple[int, int]]] = [
        (tuple(float(number) for number in found.groups()), found.span())
        for found in _FOUR.finditer(plain)
    ]
    rule = "brackets"
    if not lists:
        numbers = list(re.finditer(_NUMBER, plain))
        if len(numbers) != 4:
            return Extraction(None, "no answer found")
        rule = "four numbers"
        span = (numbers[0].start(), numbers[-1].end())
        lists = [(tuple(float(number.group()) for number in numbers), span)]
    if len({box for box, _ in lists}) > 1:
        return Extraction(None, "several answers")
    (x1, y1, x2, y2), span = lists[0]
    if not (x1 < x2 and y1 < y2):
        return Extraction(None, "not a box")
    return Extraction(f"[{x1:g}, {y1:g}, {x2:g}, {y2:g}]", rule, span)
