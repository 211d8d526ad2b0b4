"""What is read out of a response, case by case, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmeval.scoring import Extraction, extract

CONFORMANCE = Path(__file__).resolve().parent.parent / "conformance"
OPTIONS = ["pneumonia", "effusion", "normal", "mass"]


def cases() -> list[Any]:
    found = []
    for path in sorted(CONFORMANCE.glob("extract_*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        found += [
            pytest.param(
                file["kind"],
                case["response"],
                case.get("options", file.get("options", [])),
                case["answer"],
                case.get("rule"),
                id=f"{file['kind']}-{case['response'][:40]!r}",
            )
            for case in file["cases"]
        ]
    return found


@pytest.mark.parametrize(("kind", "response", "options", "answer", "rule"), cases())
def test_conformance_case(
    kind: str, response: str, options: list[str], answer: str | None, rule: str | None
) -> None:
    found = extract(kind, response, options)

    assert found.value == answer
    if rule is not None:
        assert found.rule == rule


@pytest.mark.parametrize(
    ("response", "said"),
    [("The answer is **B**.", "B"), ("B. effusion", "B"), ("Based on it, Effusion", "Effusion")],
)
def test_the_span_points_at_the_words_that_decided(response: str, said: str) -> None:
    span = extract("choice", response, OPTIONS).span

    assert span is not None
    assert response[span[0] : span[1]].startswith(said)


def test_markup_before_the_answer_does_not_move_the_span() -> None:
    response = "<think>A or C?</think>\n**Answer:** $\\boxed{B}$"

    span = extract("choice", response, OPTIONS).span

    assert span is not None
    assert response[slice(*span)] == "B"


def test_a_question_without_options_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 26 options"):
        extract("choice", "B", [])


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="essay"):
        extract("essay", "B")


@given(st.text(max_size=80), st.sampled_from(["choice", "yes_no", "open", "box"]))
def test_any_text_gives_a_valid_answer_inside_it_or_none(text: str, kind: str) -> None:
    found = extract(kind, text, OPTIONS)

    if found.value is None:
        assert found.span is None
        assert found.rule
    else:
        assert found.span is not None
        assert 0 <= found.span[0] < found.span[1] <= len(text)
        if kind == "choice":
            assert found.value in "ABCD"
        if kind == "yes_no":
            assert text[slice(*found.span)].lower() == found.value


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "**{}**", "The answer is {}."]))
def test_a_plainly_given_letter_is_read_whatever_its_wrapping(letter: str, shape: str) -> None:
    assert extract("choice", shape.format(letter), OPTIONS).value == letter


def test_an_extraction_is_a_plain_value() -> None:
    assert extract("yes_no", "Yes.") == Extraction("yes", "yes or no", (0, 3))


@pytest.mark.parametrize("kind", ["choice", "yes_no", "box"])
@pytest.mark.parametrize("piece", ["\n", " ", "(", "A, ", "no ", "the answer is ", "1 ", "[1, "])
def test_a_model_that_never_stops_is_read_like_one_that_does(kind: str, piece: str) -> None:
    # Rules whose time grows with the square of the length would need minutes here.
    short, endless = (extract(kind, piece * times, OPTIONS) for times in (50, 20_000))

    assert (endless.value, endless.rule) == (short.value, short.rule)
