"""What a question's negation is, and which questions have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmeval.probing import Refused, negate
from mmeval.schema import Sample

CASES = json.loads(
    (Path(__file__).resolve().parent.parent / "conformance" / "negation.json").read_text("utf-8")
)
FLIPPED = {"yes": "no", "no": "yes", "A": "B", "B": "A"}


def ask(question: str, answer: str = "yes", options: tuple[str, ...] = (), **more: Any) -> Sample:
    kind = "choice" if options else "yes_no"
    return Sample("q", question, kind, answer, options=options, **more)


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [
        pytest.param(case, id=f"{case['question'][:50]} {len(case.get('options', ()))}")
        for case in cases
    ]


@pytest.mark.parametrize("answer", ["yes", "no"])
@pytest.mark.parametrize("case", named(CASES["yes_no"]))
def test_conformance_case_of_yes_and_no(case: dict[str, Any], answer: str) -> None:
    found = negate(ask(case["question"], answer))

    if case["negated"] is None:
        assert isinstance(found, Refused)
        assert found.reason
    else:
        assert isinstance(found, Sample)
        assert (found.question, found.answer) == (case["negated"], FLIPPED[answer])


@pytest.mark.parametrize("answer", ["A", "B"])
@pytest.mark.parametrize("case", named(CASES["choice"]))
def test_conformance_case_of_a_choice(case: dict[str, Any], answer: str) -> None:
    sample = ask(case["question"], answer, tuple(case["options"]))
    found = negate(sample)

    if case["negated"] is None:
        assert isinstance(found, Refused)
    else:
        assert isinstance(found, Sample)
        assert (found.question, found.answer) == (case["negated"], FLIPPED[answer])
        assert found.options == sample.options
        assert negate(found) == sample


# Pieces of which a question and its negation are put together here, by another road.
SUBJECTS = ["the heart", "the left kidney", "this image", "the wall of the stomach", "the R lung"]
PREDICATES = [
    "enlarged",
    "abnormal",
    "clearly visible",
    "displaced to the left",
    "seen in this view",
]
NOUNS = ["pleural effusion", "calcified nodule", "fracture of the skull", "mass"]
SUBSTANCES = ["free air", "pulmonary edema", "contrast in the bowel", "evidence of a hernia"]
PLURALS = ["nodules", "skull fractures", "cysts in the liver"]


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, str]:
    """A question and its negated statement, without opening and mark."""
    subject = draw(st.sampled_from(SUBJECTS))
    predicate = draw(st.sampled_from(PREDICATES))
    noun = draw(st.sampled_from(NOUNS))
    substance = draw(st.sampled_from(SUBSTANCES))
    many = draw(st.sampled_from(PLURALS))
    past = draw(st.booleans())
    is_, are = ("was", "were") if past else ("is", "are")
    return draw(
        st.sampled_from(
            [
                (f"{is_} {subject} {predicate}", f"{subject} {is_} not {predicate}"),
                (f"{is_} there a {noun}", f"there {is_} not a {noun}"),
                (f"{is_} there {substance}", f"there {is_} no {substance}"),
                (f"{are} there {many}", f"there {are} no {many}"),
                (f"{are} there any {many}", f"there {are} not any {many}"),
                (f"{is_} this a {noun}", f"this {is_} not a {noun}"),
                (f"{is_} a {noun} present", f"no {noun} {is_} present"),
                (f"does {subject} show a {noun}", f"{subject} does not show a {noun}"),
                (f"did {subject} contain {many}", f"{subject} did not contain {many}"),
                (f"can {subject} be seen", f"{subject} cannot be seen"),
                (f"has {subject} shifted", f"{subject} has not shifted"),
            ]
        )
    )


@given(questions(), st.booleans(), st.sampled_from(["?", " ?", "", "? "]), st.sampled_from("yn"))
def test_negating_twice_gives_the_question_back(
    pair: tuple[str, str], capital: bool, mark: str, letter: str
) -> None:
    question, statement = pair
    opening = "Is it true that " if capital else "is it true that "
    question = question[0].upper() + question[1:] if capital else question
    sample = ask(
        question + mark,
        {"y": "yes", "n": "no"}[letter],
        group="g",
        role="plain",
        tags={"task": "presence"},
        extra={"origin": 7},
    )

    once = negate(sample)

    assert isinstance(once, Sample)
    assert once.question == opening + statement + mark
    assert once.answer == FLIPPED[sample.answer]
    assert (once.id, once.group, once.role) == ("q", "g", "plain")
    assert negate(once) == sample


WORDS = [
    *("is", "are", "was", "were", "does", "do", "can", "has", "which", "there", "it", "be", "been"),
    *("this", "these", "the", "a", "an", "any", "no", "not", "or", "and", "both", "of", "in", "on"),
    *("image", "images", "lesion", "heart", "lungs", "contrast", "supply", "free", "from", "to"),
    *("seen", "present", "enlarged", "enhancing", "abnormal", "clearly", "given", "shifted"),
    *("show", "shows", "appear", "like"),
]


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=9),
    st.sampled_from(["?", "", "."]),
    st.booleans(),
)
@example(["is"], "?", True)
def test_whatever_the_words_a_negation_reads_back_or_is_refused(
    words: list[str], mark: str, choice: bool
) -> None:
    text = " ".join(words).capitalize() + mark
    sample = ask(text, "A", ("one", "two")) if choice else ask(text)

    once = negate(sample)

    if isinstance(once, Sample):
        assert negate(once) == sample
        assert once.answer != sample.answer
        assert len(once.question) > len(sample.question)
    else:
        assert once.reason


@given(st.text(max_size=60).filter(str.strip))
def test_any_text_is_answered_with_a_negation_or_a_reason(text: str) -> None:
    assert isinstance(negate(ask(text)), Sample | Refused)


@pytest.mark.parametrize("kind", ["open", "report", "number", "box", "multiple"])
def test_only_answers_that_can_be_flipped_are(kind: str) -> None:
    answers = {"number": "1", "box": "[0, 0, 1, 1]", "multiple": "A"}
    sample = Sample("q", "Is there a mass?", kind, answers.get(kind, "x"), options=("a", "b"))

    assert isinstance(negate(sample), Refused)


def test_what_cannot_be_asked_is_not_negated() -> None:
    assert isinstance(negate(ask("Is there a mass?", invalid="no image")), Refused)


def test_a_negation_whose_words_were_changed_is_not_undone() -> None:
    once = negate(ask("Is there a mass?"))
    assert isinstance(once, Sample)
    changed = Sample(once.id, "Is there really no mass?", "yes_no", "no", extra=once.extra)

    assert isinstance(negate(changed), Refused)


@pytest.mark.parametrize(
    ("name", "asked", "least"), [("testset", 251, 190), ("trainset", 1713, 780)]
)
def test_real_questions_of_vqa_rad(shared: Path, name: str, asked: int, least: int) -> None:
    """Counts of the grammar as read through by hand; every result was looked at."""
    path = shared / "data" / "vqa" / "VQA-RAD" / f"{name}.json"
    records = json.loads(path.read_text("utf-8"))
    samples = [
        ask(record["question"], str(record["answer"]).strip().lower())
        for record in records
        if str(record["answer"]).strip().lower() in ("yes", "no")
    ]
    assert len(samples) == asked

    pairs = [(sample, negate(sample)) for sample in samples]

    done = [(sample, once) for sample, once in pairs if isinstance(once, Sample)]
    assert len(done) >= least
    for sample, once in done:
        assert negate(once) == sample
        assert once.answer == FLIPPED[sample.answer]
        assert " or " not in sample.question
        assert " and " not in sample.question
