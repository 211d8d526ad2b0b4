"""Option letters and option texts: the answers to `choice` questions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from mmeval.scoring.extract_yes_no import polarity, read_yes_no
from mmeval.scoring.extraction import Claim, Extraction, agree
from mmeval.scoring.lazy import lazy
from mmeval.scoring.normalize import normalize
from mmeval.scoring.plain_text import (
    ADVERB,
    CLAUSE_END,
    HEAD,
    HEDGE,
    IS,
    SENTENCE_END,
    after,
    before,
    denied,
    hedged,
    open_or_denied,
    plain,
    refuses,
)

__all__ = [
    "CONDITION",
    "LETTER_ENDS",
    "Options",
    "labelled_options",
    "named_options",
    "read_choice",
    "rejected",
]

# --- Options --------------------------------------------------------------------------------------

_PARTICLE = (
    r"(?=$|[^가-힣]|(?:입니다|이다|이며|이고|임|으로|로|이|가|은|는|을|를|의|에|와|과|도)"
    r"(?![가-힣]{4}))"
)
_GAP = r"[\s\-‐-―−]+"


def _phrase(option: str, text: str) -> re.Pattern[str] | None:
    """A pattern for an option text as whole words, whatever its case, spacing and hyphens."""
    return _compiled(option, not text.isascii() and _eastern(text))


@lru_cache(maxsize=16)
def _eastern(text: str) -> bool:
    """Whether a text has signs of a script whose words may stand together without blanks."""
    return any("\u3040" <= sign <= "\u9fff" or _hangul(sign) for sign in text)


def _hangul(sign: str) -> bool:
    return "가" <= sign <= "힣"


def _ideograph(sign: str) -> bool:
    """Whether a sign is Chinese, Hiragana or Katakana."""
    return "\u3040" <= sign <= "\u30ff" or "\u4e00" <= sign <= "\u9fff"


@lru_cache(maxsize=4096)
def _compiled(option: str, eastern: bool) -> re.Pattern[str] | None:
    """See `_phrase`; `eastern` where the text holds such signs."""
    # What goes on with a word. A class of so many signs takes longer to compile than all the rest.
    letter = r"(?-i:[^\W\u3040-\u9fff가-힣])" if eastern else r"\w"
    option = option.strip(" .\n")
    if not re.search(r"\w", option):
        return None
    words = "|".join(
        _GAP.join(re.escape(word) for word in re.split(_GAP, form))
        for form in dict.fromkeys((option, unicodedata.normalize("NFKC", option)))
    )
    head = r"(?<![\w.\-])"
    tail = r"(?![\w\-]|\.\d)"
    if _ideograph(option[0]):
        head = ""
    if _ideograph(option[-1]):
        tail = ""
    elif _hangul(option[-1]):
        tail = _PARTICLE
    elif option[-1] in "+%":
        tail = r"(?!\w)"
    elif re.search(r"\d", option[-1]):
        tail = r"(?![A-Za-z0-9_\-+%]|[.,/]\d)"
    else:
        tail = rf"(?![A-Za-z0-9_\-]|{letter}|\.\d)"
    if not _ideograph(option[0]) and not _hangul(option[0]):
        head = rf"(?<![A-Za-z0-9_.\-/<>≤≥])(?<!{letter})"
    return re.compile(rf"{head}(?:{words}){tail}", re.IGNORECASE)


def _may_hold(text: str, word: str) -> bool:
    """Whether a text can hold a word, whatever its case."""
    text = text.casefold()
    return word.casefold() in text or unicodedata.normalize("NFKC", word).casefold()[:1] in text


class Options:
    """The options of a question, as they can occur in plain text."""

    def __init__(self, options: Sequence[str]) -> None:
        self.texts = [plain(option).text.strip() for option in options]
        self.letters = [chr(ord("A") + index) for index in range(len(options))]
        self.last = self.letters[-1]

    def text(self, letter: str) -> str:
        """The text of an option."""
        return self.texts[ord(letter) - ord("A")]

    def pairs(self) -> list[tuple[str, str]]:
        """Each letter with its text."""
        return list(zip(self.letters, self.texts, strict=True))

    def match(self, letter: str, text: str, start: int) -> int | None:
        """Where the text of an option ends that begins at `start`."""
        if ord(letter) - ord("A") >= len(self.texts):
            return None
        option = self.text(letter)
        if not _may_hold(text[start : start + 1], option[:1]):  # patterns are costly to compile
            return None
        pattern = _phrase(option, text)
        found = pattern.match(text, start) if pattern else None
        return found.end() if found else None

    def beside(self, text: str, start: int) -> str | None:
        """The letter of the longest option text that begins at `start`."""
        ends = {one: end for one in self.letters if (end := self.match(one, text, start))}
        longest = max(ends.values(), default=0)
        best = [one for one, end in ends.items() if end == longest]
        return best[0] if len(best) == 1 else None

    def equal(self, text: str) -> list[str]:
        """Letters of the options that the whole text is."""
        bare = text.strip(" .\n").casefold()
        exact = [letter for letter, option in self.pairs() if option.strip(" .").casefold() == bare]
        if exact or "?" in text:
            return exact
        words = normalize(text)
        # "< 5 cm" and "> 5 cm" come to the same words; a sign decides, or nothing does.
        return [
            letter
            for letter, option in self.pairs()
            if words and normalize(option) == words and _signs(option) == _signs(text)
        ]


def _signs(text: str) -> str:
    return re.sub(r"[^<>≤≥+±%]|(?<!\S)\+(?=\s)", "", text)


# --- Letters --------------------------------------------------------------------------------------

_LETTER = r"(?<![A-Za-z0-9_'])(?P<open>[(\[])?\s*(?P<letter>[A-Za-z])(?![A-Za-z0-9_']|-\w)\s*[)\]]?"
_ARTICLE = r"(?:(?:the|la|el|die|der|das|le)\s+|l')?"
_WORD = (
    r"(?:(?:option|choice|answer|letter|opci[oó]n|letra|lettre|buchstabe|lettera|opzione|opção"
    r"|选项|選項)\s*:?\s*)?"
)
_RIGHT = (
    r"(?:correct|right|best|answer|(?:most\s+)?(?:appropriate|accurate|likely)\s+"
    r"(?:answer|option|choice|diagnosis))\b"
)
_STATED = tuple(
    lazy(pattern, re.IGNORECASE)
    for pattern in (
        # "The answer to this question is B", "Answer: B", "the best option is probably (B)"
        rf"{HEAD}(?:(?!\b(?:not|wrong|incorrect|never)\b|不|非|没|아니)[^.,;:=?!\n]){{0,50}}?"
        rf"{IS}\s*[:=]?\s*{ADVERB}{_ARTICLE}{_WORD}{_LETTER}",
        # "Option B is correct", "I think B is the best answer", not "Hepatitis C is likely"
        r"(?:^|[.,;:!?\n]|\b(?:option|choice|answer|think|believe|so|thus|therefore|that)\b)\s*"
        rf"{_LETTER}\s+(?:is|seems|appears\s+to\s+be|would\s+be)\s+{ADVERB}(?:the\s+)?{_RIGHT}",
        # "I would say b", "I choose option B", "It is B."
        r"(?:\bI(?:'d|'ll|\s+would|\s+will)?\s+(?:have\s+to\s+)?"
        r"(?:choose|select|pick|say|answer|think|believe|go\s+(?:with|for)|opt\s+for|vote\s+for)"
        r"|\bit(?:'s|\s+is|\s+must\s+be|\s+has\s+to\s+be)"
        # "Choose B", "Hence B."
        r"|(?:^|[.;:!?\n])\s*(?:please\s+)?(?:choose|select|pick)|(?:^|[.;:!?\n])\s*(?:so|hence|thus|therefore),?)"
        rf"\s+{ADVERB}{_ARTICLE}{_WORD}{_LETTER}",
        # 选B, 故选择B
        rf"[选選](?:择|擇)?\s*(?:[选選]?[项項])?\s*:?\s*{_LETTER}",
        # B是正确的, 选项B正确, B가 정답입니다
        rf"{_LETTER}\s*(?:[选選]?[项項])?\s*(?:是|最)?(?:正确|正確|对的|最佳|合适|最合适|正解)",
        rf"{_LETTER}\s*(?:번)?\s*[이가]\s*(?:정답|맞)",
    )
)
_CONNECTIVE = (
    r"because|since|as|due|based|given|rather|not|instead|over|or|and|is|are|seems|would|appears|for"
    r"|which|in|from|by|where|when|that|this|the|so|but|on|i|explanation|reason(?:ing)?|rationale"
    r"|justification|porque|parce|car|weil|perché|pois"
)
# After a bare letter only these show that it is not a word of the sentence.
LETTER_ENDS = lazy(
    rf"\s*(?:$|[.,;:!?)\]&|\n(])|\s*/\s*(?=\(?[A-Z]\b)|\s+(?:{_CONNECTIVE})\b|\s+[-–—]\s"
    r"|\s*(?-i:[、\u3040-\u30ff\u4e00-\u9fff가-힣])",
    re.IGNORECASE,
)
_SPECIES = lazy(r"\s?[.\-–—:]\s(?=(?P<word>[a-zà-ÿ]\w*))")
_FUNCTION_WORD = lazy(
    r"(?:the|this|that|there|these|because|since|it|its|as|an?|in|on|no|not|is|based|due|given"
    r"|which|and|or|but|so|both|all|none|only|with|here|if|el|la|le|il|der|die|das)\b",
    re.IGNORECASE,
)
_OTHER_LETTER = lazy(
    r"\s*[)\]]?\s*(?:,|/|&|\||、|和|与|或|또는|혹은|\bor\b|\band\b|,\s*or\b|,\s*and\b)\s*(?:option\s+)?"
    r"[(\[]?\s*([B-HJ-Z](?![A-Za-z0-9_'])|[AI](?![A-Za-z0-9_']|\s+[a-z]))"
)
_SUFFIX = r"(?:选项|選項|项|項|번|입니다|이다|임|です|是正确的|正确)?"
_WHOLE_LETTER = lazy(
    rf"\W*+(?:{ADVERB}(?:the\s+)?(?:option|choice|answer|letter|opci[oó]n|选项|答案|정답)?(?:\b|(?<=\W)))"
    rf"\W*+{_LETTER}\s*{_SUFFIX}{_SUFFIX}[^\w?]*+",
    re.IGNORECASE,
)
_LEADING_LETTER = lazy(
    r"\s*(?:(?:option|choice)\s+)?[(\[]?(?P<letter>[A-Za-z])\s*"
    r"(?:[)\]]|[.:](?=\s|$)|[,;|&]|/(?=\s?\(?[A-Z]\b)|\s[-–—]\s|\n|(?=\s\()"
    r"|(?=[、和或])|(?=\s(?:because|since|as|due|based|given|rather|not|instead|over|or|and)\b))"
)
_BARE_LINE = lazy(r"\W*?[(\[]?(?P<letter>[A-Za-z])[)\].]?[ ]*\n")
_LABEL = lazy(r"(?<![A-Za-z0-9_'.])[(\[]?(?P<letter>[A-Z])[)\].:](?=\s|$)")
_CONTRAST = lazy(
    r"(?:\bnot\s+(?:option\s+)?\(?[A-Z]\)?\s*,?\s+but\s+(?:rather\s+)?(?:option\s+)?"
    r"|不是\s*[A-Z]\s*,?\s*而?是\s*)"
    r"\(?(?P<letter>[A-Z])(?![A-Za-z0-9_'])",
    re.IGNORECASE,
)
_REJECTED = lazy(
    r"\s*[)\].:]?\s*(?:[-–—]\s*)?(?:(?:this|it|that|which|option)\s+)?"
    r"(?:(?:is|was|are|were|seems|has\s+been|have\s+been|can\s+be|would\s+be|does)\s*)?"
    r"(?:\b(?:also|clearly|definitely|probably|both|all)\s+)?"
    r"(?:\b(?:not|no|incorrect|wrong|false|unlikely|excluded|eliminated|ruled\s+out|never"
    r"|less\s+likely|implausible|seen\s+nowhere)\b|n't\b|不|错|아니|아닙|[이가]\s*아니|[이가]\s*아닙)",
    re.IGNORECASE,
)
CONDITION = lazy(r"\b(?:if|unless|assuming|provided)\b|\?|吗|嗎|까\?", re.IGNORECASE)


def rejected(text: str, end: int, options: Options, letter: str) -> bool:
    """Whether a letter is followed by its verdict: "A is wrong", not "A: no change"."""
    found = _REJECTED.match(text, end)
    if not found:
        return False
    label = re.compile(r"\s*[)\].:]?\s*").match(text, end)
    return label is None or options.match(letter, text, label.end()) is None


def _is_letter(text: str, found: re.Match[str], options: Options, *, bracketed: bool) -> bool:
    """Whether a matched character names an option, and is no word or part of a name."""
    letter, (start, end) = found["letter"].upper(), found.span("letter")
    for other, option in options.pairs():
        # "E. coli", "B cell lymphoma" are option texts, "B. effusion" may be one with its label.
        stop = options.match(other, text, start) if len(option) > 1 else None
        if stop and stop > end and other != letter:
            return False
    species = _SPECIES.match(text, end)
    if (
        species
        and letter <= options.last
        and not _FUNCTION_WORD.match(text, species.start("word"))
        and options.beside(text, species.start("word")) is None
    ):
        clause = after(CLAUSE_END, text, species.end())
        own = {word for word in normalize(options.text(letter)).split() if len(word) > 2}
        return bool(own & set(normalize(clause).split()))
    if bracketed or LETTER_ENDS.match(text, end):
        return True
    follows = re.compile(r"\s+(?:an?\s|the\s)?").match(text, end)
    return bool(
        follows
        and letter <= options.last
        and found["letter"] not in ("A", "a", "I", "i")
        and options.match(letter, text, follows.end())
    )


def _letter_claims(
    text: str, found: re.Match[str], options: Options, *, bracketed: bool = False
) -> Iterator[Claim]:
    """The claim of a matched letter, and those of the letters listed with it ("B or C")."""
    if not _is_letter(text, found, options, bracketed=bracketed):
        return
    claims = [Claim(found["letter"].upper(), found.span("letter"))]
    end = found.end("letter")
    for _ in range(25):
        other = _OTHER_LETTER.match(text, end)
        if other is None:
            break
        if "/" in other.group() and other[1] > options.last:
            return  # "A/P view"
        end = other.end(1)
        if not rejected(text, end, options, other[1]):
            claims.append(Claim(other[1], other.span(1)))
    yield from claims


def _stated_letters(text: str, options: Options) -> Iterator[list[Claim]]:
    """The letters of each statement of an answer."""
    for pattern in _STATED:
        for found in pattern.finditer(text):
            claims = list(_letter_claims(text, found, options, bracketed=bool(found["open"])))
            if not claims:
                continue
            start = found.start() + (found.group()[0] in ".,;:!?\n")
            lead = before(CLAUSE_END, text, start)
            if open_or_denied(lead) or HEDGE.search(found.group()):
                continue
            rest = after(SENTENCE_END, text, found.end("letter"))
            if CONDITION.search(rest) or rejected(
                text, found.end("letter"), options, found["letter"].upper()
            ):
                continue
            yield claims


def labelled_options(text: str, options: Options) -> Iterator[Claim]:
    """A letter with its own option text: "B. effusion", "(B) effusion"."""
    for found in _OWN_LABEL.finditer(text):
        letter = found["letter"].upper()
        if letter > options.last:
            continue
        end = options.match(letter, text, found.end())
        if end and not denied(text, found.start(), end):
            yield Claim(letter, (found.start("letter"), end))


_OWN_LABEL = lazy(r"(?<![A-Za-z0-9_'])[(\[]?(?P<letter>[A-Za-z])\s*(?:[)\].:]|\s[-–—]\s|\s*\()\s*")


def _lone_letters(text: str, options: Options) -> Iterator[Claim]:
    """Letters that have a line to themselves."""
    for line in re.finditer(r"[^\n]+", text):
        if line.end() - line.start() > 60:
            continue
        found = _WHOLE_LETTER.fullmatch(text, line.start(), line.end())
        if found and found["letter"].upper() <= options.last:
            yield Claim(found["letter"].upper(), found.span("letter"))


def _set_apart(text: str, options: Options) -> Iterator[Claim]:
    yield from labelled_options(text, options)
    leading, contrast = _LEADING_LETTER.match(text), _CONTRAST.search(text)
    if leading and not (leading["letter"] in "Ii" and leading.group().rstrip().endswith(",")):
        # "I, as a radiologist, ..." begins with a word.
        closed = text[leading.end("letter") : leading.end()].strip() in {")", "]", ".", ":"}
        if not rejected(text, leading.end("letter"), options, leading["letter"].upper()):
            yield from _letter_claims(text, leading, options, bracketed=closed)
        # "A: no. B: yes." goes through the options and does not begin with its answer.
        for label in _LABEL.finditer(text):
            inside = label["letter"] <= options.last and _is_letter(
                text, label, options, bracketed=True
            )
            if inside and not (
                denied(text, *label.span("letter"))
                or HEDGE.search(after(SENTENCE_END, text, label.end()))
                or rejected(text, label.end("letter"), options, label["letter"])
            ):
                yield Claim(label["letter"], label.span("letter"))
    if contrast:
        yield from _letter_claims(text, contrast, options)
    yield from _lone_letters(text, options)


# --- One answer -----------------------------------------------------------------------------------


def read_choice(text: str, options_: Sequence[str]) -> Extraction:
    """The one option that a plain text gives as its answer."""
    options = Options(options_)
    whole = _WHOLE_LETTER.fullmatch(text)
    equal = options.equal(text)
    if whole:
        letter = whole["letter"].upper()
        if equal and equal != [letter]:
            # Options may be letters themselves: "C" is then an option and the text of another.
            return Extraction(None, "letter and text differ")
        if letter > options.last:
            return Extraction(None, "not an option")
        return Extraction(letter, "letter", whole.span("letter"))
    if equal:
        start = len(text) - len(text.lstrip())
        return (
            Extraction(equal[0], "option text", (start, len(text.rstrip())))
            if len(equal) == 1
            else Extraction(None, "several answers")
        )

    apart = agree(_set_apart(text, options), "set apart")
    stated = agree(
        (claim for claims in _stated_letters(text, options) for claim in claims), "stated"
    )
    if stated:
        if stated.value is not None:
            if stated.value > options.last:
                return Extraction(None, "not an option")
            # A model that goes on with a question of its own answers that one too.
            first = _BARE_LINE.match(text)
            opening = first["letter"].upper() if first else apart.value if apart else None
            if opening not in (None, stated.value):
                return Extraction(None, "several answers")
        return _unless_contradicted(stated, text, options)
    if apart:
        if apart.value is not None and apart.value > options.last:
            return Extraction(None, "not an option")
        return _unless_contradicted(apart, text, options)

    pairs = options.pairs()
    polar = {polarity(option): letter for letter, option in pairs if polarity(option)}
    if len(polar) == 2:
        answer = read_yes_no(text)
        if answer.value:
            return Extraction(polar[answer.value], answer.rule, answer.span)
        # "no" within a sentence denies something; it is not the option "No".
        pairs = [pair for pair in pairs if not polarity(pair[1])]
    return _named_option(text, pairs, options)


def _unless_contradicted(answer: Extraction, text: str, options: Options) -> Extraction:
    """Drop a letter whose own label is another option's text: "B. pneumonia" where that is A."""
    if answer.value is None or answer.span is None:
        return answer
    end = answer.span[0] + 1  # behind the letter
    label = re.compile(r"\s*[)\]]?\s*[.:)\-–—(,]?\s*(?:an?\s|the\s)?\s*").match(text, end)
    start = label.end() if label else end
    beside = options.beside(text, start)
    if beside is not None and beside != answer.value:
        own = _phrase(options.text(answer.value), text)
        if own is None or not own.search(after(SENTENCE_END, text, start)):
            return Extraction(None, "letter and text differ")
    return answer


def _outermost(mentions: Iterable[Claim]) -> list[Claim]:
    """Leave out mentions inside longer ones: "pleural effusion" does not also name "effusion"."""
    kept: list[Claim] = []
    for one in sorted(mentions, key=lambda mention: (mention.span[0], -mention.span[1])):
        if not kept or one.span == kept[-1].span or one.span[1] > kept[-1].span[1]:
            kept.append(one)
    return kept


_LEAD = lazy(
    rf"{HEAD}(?:(?!\b(?:not|wrong|incorrect|never)\b|不|非|没)[^.,;:=?!\n]){{0,50}}?{IS}\s*[:=]?\s*"
    rf"{ADVERB}(?:an?\s+|the\s+|la\s+|el\s+)?",
    re.IGNORECASE,
)


def _stated_texts(text: str, pairs: Sequence[tuple[str, str]], options: Options) -> list[Claim]:
    """Option texts right behind "the answer is"."""
    claims = []
    for found in _LEAD.finditer(text):
        lead = before(CLAUSE_END, text, found.start())
        if open_or_denied(lead):
            continue
        letter = options.beside(text, found.end())
        if letter is None or letter not in {one for one, _ in pairs}:
            continue
        end = options.match(letter, text, found.end()) or found.end()
        if not CONDITION.search(after(SENTENCE_END, text, end)) and not re.compile(
            r"\s*(?:,|/|\bor\b|\band\b|或|、)"
        ).match(text, end):
            claims.append(Claim(letter, (found.end(), end)))
    return claims


def named_options(text: str, pairs: Sequence[tuple[str, str]]) -> list[Claim]:
    """The option texts that occur somewhere in the text."""
    found = []
    folded = unicodedata.normalize("NFKC", text).casefold()
    for letter, option in pairs:
        first = unicodedata.normalize("NFKC", re.split(_GAP, option.strip(" .\n"))[0]).casefold()
        if not re.search(r"\w\w|\d", option) or first not in folded:
            continue
        pattern = _phrase(option, text)
        if pattern:
            found += [Claim(letter, one.span()) for one in pattern.finditer(text)]
    return _outermost(found)


def _named_option(text: str, pairs: Sequence[tuple[str, str]], options: Options) -> Extraction:
    stated = agree(_stated_texts(text, pairs, options), "option text")
    if stated:
        return stated
    mentions = named_options(text, pairs)
    if not mentions:
        return Extraction(None, "no answer found")
    said = [one for one in mentions if not denied(text, *one.span)]
    if not said:
        return Extraction(None, "denied")
    firm = [one for one in said if not hedged(text, *one.span)]
    if not firm:
        return Extraction(None, "hedged")
    answer = agree(firm, "option text")
    if answer is not None and answer.span is not None:
        start, end = answer.span
        if refuses(f"{text[:start]} {text[end:]}"):
            return Extraction(None, "refusal")
    return answer or Extraction(None, "no answer found")
