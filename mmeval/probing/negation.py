"""Questions turned into their negation, with the answer flipped, where that is safe.

"Is the heart enlarged?" becomes "Is it true that the heart is not enlarged?". The bare negated
question ("Is there no effusion?", "Isn't the heart enlarged?") is not used: English answers it
both ways, because yes may confirm the negation or contradict it. Under "Is it true that" a yes says
that the negated statement holds, and nothing else.

It is a small grammar with closed word lists, and it would rather refuse than write something that
is not English or whose answer does not flip. Refused are wh-questions, conjunctions (of "not A and
B" nobody knows which part fails), negations, quantifiers, degrees, comparisons, modals, second
clauses, and subjects whose end the word lists do not show. Every result is read back by a grammar
of its own, and must give the original question to the byte.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import replace

from mmeval.probing.draw import Refused
from mmeval.schema import Sample

__all__ = ["negate"]

_TRUE = "is it true that "
_OTHER = {"yes": "no", "no": "yes", "A": "B", "B": "A"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- what is refused wherever it stands -------------------------------------------------------

_REFUSED_WORDS = {
    "is negated already": _words(
        "no not none never neither nor without non cannot absent absence lack lacks lacking "
        "negative fail fails failed unable excluded excludes exclude deny denies denied except "
        "nothing nobody nowhere hardly barely scarcely missing devoid unlikely nil n't spared"
    ),
    "has more than one clause or part": _words(
        "and or but that which who whom whose where when while if because since although though "
        "whether how why what versus vs plus "
        "is are was were am been being do does did has had can could"
    ),
    "quantifies or compares": _words(
        "all both every each either some several many few most more less least fewer only half "
        "multiple entire whole throughout one two three four five six seven eight nine ten "
        "single numerous various another other others else additional besides also too still yet "
        "again already ever just even exactly than as same equal equally first second third last "
        "little such often usually sometimes generally commonly frequently majority minority "
        "larger smaller wider narrower bigger higher greater worse better best worst"
    ),
    "is a matter of degree": _words(
        "slight slightly mild mildly moderate moderately severe severely minimal minimally subtle "
        "somewhat very much quite rather fairly enough partially partly mostly mainly "
        "essentially relatively nearly almost virtually practically predominantly completely "
        "fully entirely"
    ),
    "says what may be, not what is": _words(
        "may might must shall should will would need ought likely probably possible possibly "
        "probable potential potentially maybe perhaps suspected able"
    ),
    "speaks to the reader": _words("you your i we my our me us"),
}
_FREE_OF = re.compile(r"\bfree (?:of|from)\b|-free\b|\brul(?:e|ed|es) out\b|\bnon-|n't\b", re.I)
_TOGETHER = re.compile(r"\b(?:along|together) with\b", re.I)
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9'-]*")
# Small letters by their sound, capitals ("an MRI", "a CT") by the names of the letters.
_WRONG_ARTICLE = re.compile(
    r"\b[Aa] (?:[aeio](?!ne\b|nce\b|u)|[AEFHILMNORSX][A-Z-])"
    r"|\b[Aa]n (?:[bcdfgjkpqtvwyz][a-z]|[BCDGJKPQTUVWYZ][A-Z0-9])"
)
# "What" and its kin have no yes or no to flip.
_WH = re.compile(r"(?:what|where|which|who|whom|whose|why|when|how)\b", re.I)

# --- word lists -------------------------------------------------------------------------------

#: Says that something is there, so that it also fits a subject without an article.
_PRESENCE = _words(
    "present visible visualized visualised seen identified identifiable evident apparent noted "
    "demonstrated detected detectable depicted shown observed recognizable appreciated "
    "displayed used administered"
)
_PREDICATES = _PRESENCE | _words(
    "normal abnormal enlarged dilated distended collapsed compressed displaced deviated shifted "
    "widened narrowed thickened thick flattened flat blunted sharp obscured effaced atrophied "
    "atrophic swollen inflamed infarcted fractured broken dislocated calcified cystic solid "
    "homogenous homogeneous heterogenous heterogeneous hyperdense hypodense isodense hyperintense "
    "hypointense isointense hyperechoic hypoechoic enhancing enhanced ring-enhancing wedge-shaped "
    "loculated lobulated spiculated circumscribed well-circumscribed well-defined ill-defined "
    "defined midline symmetric symmetrical asymmetric asymmetrical rotated tilted intact preserved "
    "patent occluded stenosed obstructed perforated ruptured hyperinflated inflated clear opaque "
    "radiopaque radioopaque radiolucent lucent pathologic pathological malignant benign cancerous "
    "healthy diseased affected elevated increased decreased prominent large small tortuous "
    "air-filled fluid-filled filled removed supine prone upright erect axial sagittal coronal "
    "transverse given taken acquired obtained performed positioned placed located centered "
    "centred highlighted opacified aerated necrotic hemorrhagic edematous included involved "
    "invaded eroded infected ulcerated atypical typical round oval irregular smooth bright dark "
    "consistent viewed visualised"
)
#: Stands before or behind a predicate and never ends a noun; so does what ends in -ly.
_ADVERBS = _words("well here abnormally clearly prominently adequately normally appropriately")
# Nouns in spite of their -ly.
_NO_ADVERBS = ("supply", "anomaly", "family", "belly", "assembly", "megaly", "cephaly", "dactyly")
_PREPOSITIONS = _words(
    "of in on at within under above below behind near with from around along over through between "
    "across beneath underneath inside outside into against by for to via during after before "
    "beyond adjacent"
)
_DETERMINERS = _words("a an the this these those any")
_VERBS = _words(
    "show have contain demonstrate appear look reveal exhibit indicate suggest involve include "
    "represent depict display cross extend compress enhance"
)
#: Ends of "in the ...": after any other word, "in the lung" may belong to the subject.
_PLACES = _words(
    "image picture scan view section slice plane position midline limits range lung lungs lobe "
    "lobes thorax chest abdomen pelvis head brain skull neck liver spleen pancreas kidney kidneys "
    "stomach colon bowel heart mediastinum trachea cerebellum cerebrum ventricle ventricles aorta "
    "bladder gallbladder retina macula cortex brainstem hemisphere diaphragm apex base"
)
_PARTICIPLES = _words(
    "shifted changed increased decreased progressed resolved improved worsened collapsed herniated "
    "ruptured enlarged healed perforated"
)
_SINGULAR = _words("pancreas ascites lens atlas caries herpes diabetes rabies scabies gas bias")
_PLURAL = _words(
    "hila cilia septa ganglia atria data people men women children bronchi nuclei alveoli sulci "
    "gyri vertebrae fossae diverticula foramina crura ostia infundibula"
)
#: Take an article where there is one of them; without it, the question is not English.
_COUNTED = _words(
    "nodule mass lesion tumor tumour cyst fracture abnormality abscess aneurysm kidney lung heart "
    "liver spleen tube catheter opacity image finding"
)
_NUMBERLESS = _words("feces series pneumatoceles forceps biceps")

_COPULA = "is|are|was|were"
_TENSED = {"shows": "show", "contains": "contain", "depicts": "depict", "displays": "display"}
_ALL_OR_NONE = re.compile(
    r"\b(?:all|both|none|neither|either|cannot|unable|undetermined|unclear|not)\b", re.I
)


def _adverb(word: str) -> bool:
    lower = word.lower()
    return lower in _ADVERBS or (lower.endswith("ly") and not lower.endswith(_NO_ADVERBS))


def _plural(noun: str) -> bool | None:
    """Whether a noun is a plural, None if it may be either."""
    word = noun.lower()
    if word in _NUMBERLESS:
        return None
    if word in _PLURAL:
        return True
    return word.endswith("s") and not (word in _SINGULAR or word.endswith(("ss", "us", "is")))


def _head(words: Iterable[str]) -> str:
    """The noun that a verb agrees with: the last before a preposition or what follows the noun."""
    noun = ""
    for word in words:
        lower = word.lower()
        if lower in _PREPOSITIONS:
            break
        # A participle behind the noun: "contrast used", "air trapped". In front of it, another
        # noun follows and is taken instead.
        if noun and (lower in _PREDICATES or lower.endswith(("ed", "ing"))):
            continue
        noun = word
    return noun


def _agrees(auxiliary: str, words: Iterable[str]) -> bool:
    plural = _plural(_head(words))
    return plural is None or plural == (auxiliary.lower() in ("are", "were", "do", "have"))


# --- reading a question -----------------------------------------------------------------------


def _noun_phrase(words: list[str]) -> bool:
    """Whether words may be one noun phrase: one determiner at its start and after prepositions."""
    if "be" in words:
        return False
    previous = None
    for i, word in enumerate(words):
        lower = word.lower()
        if lower in _DETERMINERS and i and previous not in _PREPOSITIONS:
            return False
        if lower in _VERBS:
            return False
        previous = lower
    # "the lesions ring" of "are the lesions ring enhancing": a modifier, not the noun's end.
    last = words[-1].lower() if words else "of"
    return (
        last not in _DETERMINERS | _PREPOSITIONS and not _adverb(last) and not last.endswith("ing")
    )


def _definite(words: list[str]) -> bool:
    """Whether words are a subject that a determiner opens, or "this" alone."""
    if [word.lower() for word in words] in (["this"], ["it"]):
        return True
    if len(words) < 2 or words[0] not in ("the", "this", "these", "those"):
        return False
    if words[1].lower() in _PREPOSITIONS or _adverb(words[1]):
        return False
    if words[0] in ("this", "these", "those") and _plural(_head(words)) not in (
        None,
        words[0] != "this",
    ):
        return False
    return _noun_phrase(words)


def _bare(words: list[str]) -> bool:
    """Whether words are a noun phrase that needs no article ("cardiomegaly", "gallstones")."""
    return _noun_phrase(words) and _head(words).lower() not in _COUNTED


def _predicate(words: list[str]) -> int | None:
    """Where the subject of "is" ends and an adjective or participle begins, if that is certain."""
    found = None
    for i, word in enumerate(words):
        behind = words[i + 1 :]
        if behind and _adverb(behind[0]):
            behind = behind[1:]
        ends = not behind or behind[0].lower() in _PREPOSITIONS or word.lower() == "given"
        if i and word.lower() in _PREDICATES and ends:
            if found is not None:
                return None  # "the lesion seen in the liver cystic": either may be the predicate
            found = i
    if found is None:
        return None
    while found > 1 and _adverb(words[found - 1]):
        found -= 1
    return found


def _is(auxiliary: str, words: list[str]) -> str | Refused:
    """Negates "is/are/was/were ..."."""
    aux = auxiliary.lower()
    if words[0].lower() == "there":
        return _there(aux, words[1:])
    if words[0] in ("this", "it") and len(words) > 1:
        following = words[1].lower()
        place = following in _PREPOSITIONS and words[-1].lower() in _PLACES
        if following in ("a", "an", "the") or place:
            if aux in ("are", "were") or not _noun_phrase(words[1:]):
                return Refused("the subject cannot be told from the predicate")
            return f"{words[0]} {aux} not {' '.join(words[1:])}"
    at = _predicate(words)
    if at is not None:
        subject, rest = words[:at], words[at:]
        first = subject[0].lower()
        if not _agrees(aux, subject[1:] if first in _DETERMINERS else subject):
            return Refused("subject and verb do not agree")
        presence = rest[0].lower() in _PRESENCE
        if _definite(subject):
            return f"{' '.join(subject)} {aux} not {' '.join(rest)}"
        if first in ("a", "an", "any") and presence and _noun_phrase(subject):
            return f"no {' '.join(subject[1:])} {aux} {' '.join(rest)}"
        if first not in _DETERMINERS and presence and _bare(subject):
            return f"{' '.join(subject)} {aux} not {' '.join(rest)}"
        return Refused("the subject cannot be told from the predicate")
    return _is_noun_or_place(aux, words)


def _is_noun_or_place(aux: str, words: list[str]) -> str | Refused:
    """Negates "is the lesion a cyst" and "is the trachea in the midline"."""
    for i, word in enumerate(words):
        lower = word.lower()
        subject, rest = words[:i], words[i:]
        if i < 2 or not (lower in ("a", "an") or lower in _PREPOSITIONS):
            continue
        place = lower in ("in", "within", "on", "at") and rest[-1].lower() in _PLACES
        single = sum(w.lower() in _PREPOSITIONS for w in rest) == 1
        if not (lower in ("a", "an") or (place and single)):
            return Refused("the subject cannot be told from the predicate")
        if not (_definite(subject) and _noun_phrase(rest)):
            return Refused("the subject cannot be told from the predicate")
        if not _agrees(aux, subject[1:]):
            return Refused("subject and verb do not agree")
        return f"{' '.join(subject)} {aux} not {' '.join(rest)}"
    return Refused("the subject cannot be told from the predicate")


def _there(aux: str, words: list[str]) -> str | Refused:
    if not words or words[0].lower() in _DETERMINERS - {"a", "an", "any"}:
        return Refused("nothing follows 'there' that may be there or not")
    article = words[0].lower() in ("a", "an", "any")
    rest = words[1:] if article else words
    if not rest or not _agrees(aux, rest) or (aux in ("are", "were") and words[0] in ("a", "an")):
        return Refused("subject and verb do not agree")
    if rest[0].lower() in _PREPOSITIONS or _adverb(rest[0]):
        return Refused("an adverb follows 'there'")
    dangling = rest[-1].lower() in _PRESENCE and any(w.lower() in _PREPOSITIONS for w in rest)
    if not _noun_phrase(rest) or dangling:
        return Refused("the subject cannot be told from the predicate")
    return f"there {aux} {'not' if article else 'no'} {' '.join(words)}"


def _does(auxiliary: str, words: list[str]) -> str | Refused:
    """Negates "does/do/did ... show ..."."""
    aux = auxiliary.lower()
    at = next((i for i, word in enumerate(words) if word in _VERBS), None)
    if at is None or at == len(words) - 1 or not _definite(words[:at]):
        return Refused("the subject cannot be told from the verb")
    if aux != "did" and not _agrees(aux, words[1:at] or words[:at]):
        return Refused("subject and verb do not agree")
    rest = words[at + 1 :]
    if not _complement(words[at], [word.lower() for word in rest]):
        return Refused("what follows the verb is not what the grammar knows")
    if any(word.lower() in _VERBS for word in rest) or not _one_statement(rest):
        return Refused("has more than one clause or part")
    return f"{' '.join(words[:at])} {aux} not {' '.join(words[at:])}"


def _complement(verb: str, rest: list[str]) -> bool:
    """Whether what follows a verb is what it asks for."""
    if verb == "represent":
        return rest[0] in ("a", "an", "the")
    if verb in ("appear", "look"):
        if rest[0] == "like":
            return verb == "look" and rest[1:2] in (["a"], ["an"], ["the"])
        if rest[:2] == ["to", "be"]:
            return _predicate(["it", *rest[2:]]) == 1
        return _predicate(["it", *rest]) == 1
    return True


def _one_statement(words: list[str]) -> bool:
    """Whether determiners stand only where one noun phrase, with its prepositions, has them."""
    lower = [word.lower() for word in words]
    allowed = _PREPOSITIONS | {"like", "be", "showing", "containing"}
    return all(
        lower[i - 1] in allowed for i in range(1, len(lower)) if lower[i] in _DETERMINERS
    ) and lower[-1] not in (_DETERMINERS | _PREPOSITIONS)


def _can(auxiliary: str, words: list[str]) -> str | Refused:
    """Negates "can ... be seen"."""
    if auxiliary.lower() != "can" or "be" not in words[1:-1]:
        return Refused("says what may be, not what is")
    at = words.index("be")
    subject, rest = words[:at], words[at:]
    if rest[1].lower() not in _PRESENCE - {"used", "administered"} or (
        len(rest) > 2 and rest[2].lower() not in _PREPOSITIONS | {"here"}
    ):
        return Refused("says what may be, not what is")
    if not _noun_phrase(subject) or not _one_statement(rest):
        return Refused("the subject cannot be told from the predicate")
    if subject[0].lower() in ("a", "an"):
        return f"no {' '.join(subject[1:])} can {' '.join(rest)}"
    if not (_definite(subject) if subject[0].lower() in _DETERMINERS else _bare(subject)):
        return Refused("the subject cannot be told from the predicate")
    return f"{' '.join(subject)} cannot {' '.join(rest)}"


def _has(auxiliary: str, words: list[str]) -> str | Refused:
    """Negates "has/have the ... shifted" and "has the ... been removed"."""
    aux = auxiliary.lower()
    for i, word in enumerate(words):
        been = word == "been" and i + 1 < len(words) and words[i + 1] in _PREDICATES
        if i > 1 and (been or word in _PARTICIPLES):
            subject, rest = words[:i], words[i:]
            follows = rest[2 if been else 1 :]
            if not _definite(subject) or not _agrees(aux, subject[1:]):
                return Refused("the subject cannot be told from the predicate")
            if follows and follows[0].lower() not in _PREPOSITIONS:
                return Refused("the subject cannot be told from the predicate")
            return f"{' '.join(subject)} {aux} not {' '.join(rest)}"
    return Refused("the subject cannot be told from the predicate")


_READERS = {
    **dict.fromkeys(("is", "are", "was", "were"), _is),
    **dict.fromkeys(("does", "do", "did"), _does),
    "can": _can,
    **dict.fromkeys(("has", "have"), _has),
}


def _why_not(words: list[str], body: str) -> str | None:
    """What speaks against negating a question at all."""
    if not body.isascii():
        return "is not plain English"
    if _FREE_OF.search(body):
        return "is negated already"
    if _TOGETHER.search(body):
        return "has more than one clause or part"
    inside = words[1:]
    # What the patterns below name themselves.
    if words and words[0].lower() in ("has", "have") and "been" in inside:
        inside = [word for word in inside if word != "been"]
    lower = {word.lower() for word in inside}
    for reason, listed in _REFUSED_WORDS.items():
        if lower & listed:
            return reason
    if any(not _TOKEN.fullmatch(word) for word in words):
        return "holds a number or a sign that the grammar does not know"
    if any(a.lower() == b.lower() for a, b in itertools.pairwise(words)):
        return "repeats a word"
    if _WRONG_ARTICLE.search(body):
        return "has the wrong article"
    return None


def _split(question: str) -> tuple[str, str]:
    """The sentence and its question mark, with the blanks around that."""
    body = question.rstrip().removesuffix("?").rstrip()
    return body, question[len(body) :]


def _negated(question: str) -> str | Refused:
    """Returns the negated wording of a yes/no question."""
    body, mark = _split(question)
    words = body.split(" ")
    if not body or "" in words or words[0] not in (words[0].lower(), words[0].capitalize()):
        return Refused("is not one plain sentence")
    first = words[0].lower()
    if _WH.match(body):
        return Refused("is not a yes/no question")
    if first not in _READERS or len(words) < 3:
        return Refused("does not begin as a yes/no question that the grammar knows")
    reason = _why_not(words, body)
    if reason is not None:
        return Refused(reason)
    statement = _READERS[first](words[0], words[1:])
    if isinstance(statement, Refused):
        return statement
    opening = _TRUE.capitalize() if words[0][0].isupper() else _TRUE
    return opening + statement + mark


# --- reading a negated question back ----------------------------------------------------------

_BACK = (
    (re.compile(rf"there ({_COPULA}) not ((?:a|an|any) .+)"), r"\1 there \2"),
    (re.compile(rf"there ({_COPULA}) no (.+)"), r"\1 there \2"),
    (re.compile(r"no (.+?) can (be .+)"), r"can {a} \1 \2"),
    (re.compile(r"no (.+?) (is|was) (.+)"), r"\2 {a} \1 \3"),
    (re.compile(r"no (.+?) (are|were) (.+)"), r"\2 any \1 \3"),
    (re.compile(r"(.+?) cannot (be .+)"), r"can \1 \2"),
    (re.compile(rf"(.+?) ({_COPULA}|does|do|did|has|have) not (.+)"), r"\2 \1 \3"),
)


def _restored(question: str) -> str | None:
    """Returns the question that a negated wording was made from, None if it is none."""
    body, mark = _split(question)
    if not body.lower().startswith(_TRUE):
        return None
    statement = body[len(_TRUE) :]
    for pattern, template in _BACK:
        match = pattern.fullmatch(statement)
        if match:
            noun = match[1]
            article = "an" if noun[0].lower() in "aeiou" else "a"
            text = match.expand(template).replace("{a}", article)
            return (text[0].upper() + text[1:] if body[0].isupper() else text) + mark
    return None


# --- choices ----------------------------------------------------------------------------------

_WHICH_IS = re.compile(
    r"(?P<head>[Ww]hich (?:of (?:these|the following)(?: [a-z]+)?|[a-z]+) (?:is|are))"
    r"(?P<tail> (?P<predicate>[a-z-]+)(?: (?P<preposition>[a-z]+) [a-z' -]+)?)"
)
_WHICH_SHOWS = re.compile(
    r"(?P<head>[Ww]hich (?:of (?:these|the following) [a-z]+|[a-z]+)) (?P<verb>[a-z]+)"
    r"(?P<tail> [A-Za-z' -]+)"
)


def _choice(question: str) -> str | Refused:
    body, mark = _split(question)
    words = body.split(" ")
    reason = _why_not([word for word in words if word.lower() not in ("which", "is", "are")], body)
    if reason is not None:
        return Refused(reason)
    match = _WHICH_IS.fullmatch(body)
    if (
        match
        and match["predicate"] in _PREDICATES
        and match["preposition"] in {None, *_PREPOSITIONS}
    ):
        return f"{match['head']} not{match['tail']}{mark}"
    match = _WHICH_SHOWS.fullmatch(body)
    if match and match["verb"] in _TENSED:
        return f"{match['head']} does not {_TENSED[match['verb']]}{match['tail']}{mark}"
    return Refused("is not a 'which of these' question that the grammar knows")


_BACK_SHOWS = re.compile(r"(.+?) does not (\S+)( .+)")
_BACK_IS = re.compile(r"(.+? (?:is|are)) not( .+)")


def _restored_choice(question: str) -> str | None:
    body, mark = _split(question)
    match = _BACK_SHOWS.fullmatch(body)
    if match:
        return f"{match[1]} {match[2]}s{match[3]}{mark}"
    match = _BACK_IS.fullmatch(body)
    return f"{match[1]}{match[2]}{mark}" if match else None


# --- samples ----------------------------------------------------------------------------------


def negate(sample: Sample) -> Sample | Refused:
    """Returns the negated question with its flipped answer, or why there is none.

    Of a ``yes_no`` question, yes becomes no. Of a ``choice`` between two options, "which is
    present" becomes "which is not present" and the other option is right; with more options several
    would be. Id, images and group stay as they are. What was negated here is negated back, so that
    ``negate(negate(sample)) == sample``; anything else that is negated already is refused.

    Args:
        sample: A question; its answer is not looked at beyond being flipped.
    """
    if sample.invalid is not None:
        return Refused("the record cannot be asked")
    if sample.kind == "yes_no":
        forward, back = _negated, _restored
    elif sample.kind == "choice" and len(sample.options) == 2:
        if any(_ALL_OR_NONE.search(option) for option in sample.options):
            return Refused("an option says all, none or not")
        forward, back = _choice, _restored_choice
    elif sample.kind == "choice":
        return Refused("of more than two options, several would be right")
    else:
        return Refused(f"questions of the kind {sample.kind} have no answer to flip")

    answer = _OTHER[sample.answer]
    if sample.extra.get("negated"):
        original = back(sample.question)
        if original is None:
            return Refused("the negated wording was changed since")
        extra = {key: value for key, value in sample.extra.items() if key != "negated"}
        return replace(sample, question=original, answer=answer, extra=extra)
    text = forward(sample.question)
    if isinstance(text, Refused):
        return text
    if back(text) != sample.question:
        return Refused("the negation does not read back as the original question")
    return replace(sample, question=text, answer=answer, extra={**sample.extra, "negated": True})
