"""What is read out of a response, case by case, and what is refused."""

from __future__ import annotations

import importlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeval.schema import Sample
from mmeval.scoring import Extraction, extract
from mmeval.scoring.extract import KINDS, is_refusal
from mmeval.scoring.lazy import _Lazy
from mmeval.scoring.normalize import number_within, parse_box

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
OPTIONS = ["pneumonia", "effusion", "normal", "mass"]


FILES = sorted(path.stem for path in CONFORMANCE.glob("extract_*.json"))
Case = tuple[str, str, list[str], dict[str, Any]]


def cases(name: str) -> list[Case]:
    file = json.loads((CONFORMANCE / f"{name}.json").read_text(encoding="utf-8"))
    found = []
    for case in file["cases"]:
        kind = case.get("kind", file.get("kind"))
        lettered = kind in ("choice", "multiple")
        options = case.get("options", file.get("options", [])) if lettered else []
        found.append((kind, case["response"], options, case))
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_case_is_read_as_written_down(name: str) -> None:
    misread = []
    for kind, response, options, case in cases(name):
        found = extract(kind, response, options)
        if found.value != case["answer"] or found.rule != case.get("rule", found.rule):
            misread.append((kind, response, case["answer"], case.get("rule"), found))

    assert misread == []


def test_the_cases_hold_every_kind_and_more_than_nine_hundred_strings() -> None:
    read = [case for name in FILES for case in cases(name)]

    assert {kind for kind, *_ in read} == set(KINDS)
    assert len({(kind, response, tuple(options)) for kind, response, options, _ in read}) > 900


# --- What other tools read ------------------------------------------------------------------------

TOOLS = ("VLMEvalKit", "lmms-eval", "inspect")


def peer_cases() -> list[dict[str, Any]]:
    text = (CONFORMANCE / "extract_peers.json").read_text(encoding="utf-8")
    return list(json.loads(text)["cases"])


def cell(case: dict[str, Any], tool: str) -> str:
    if tool not in case["peers"]:
        return "not run"
    read = case["peers"][tool]
    shown = "none" if read is None else str(read)
    return shown if read in (None, case["answer"]) else f"**{shown}**"


def peer_table() -> str:
    lines = [
        "| response | right | mmeval (rule) | " + " | ".join(TOOLS) + " |",
        "|---|---|---|" + "---|" * len(TOOLS),
    ]
    for case in peer_cases():
        found = extract("choice", case["response"], OPTIONS)
        said = f"`{case['response']}`" if case["response"] else "(empty)"
        right = case["answer"] or "none"
        read = f"{found.value or 'none'} ({found.rule})"
        lines.append(
            f"| {said} | {right} | {read} | " + " | ".join(cell(case, t) for t in TOOLS) + " |"
        )
    return "\n".join(lines)


def test_the_published_table_is_what_the_extractor_does_today() -> None:
    assert peer_table() in (ROOT / "docs" / "extraction.md").read_text(encoding="utf-8")


def test_where_another_tool_grades_a_wrong_answer_as_right_this_one_does_not() -> None:
    graded = [case for case in peer_cases() if "graded" in case]

    assert len(graded) == 2
    for case in graded:
        found = extract("choice", case["response"], OPTIONS)
        assert (found.value == case["graded"]["gold"]) is not case["graded"]["correct"]


# --- Spans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "response", "said"),
    [
        ("choice", "The answer is **B**.", "B"),
        ("choice", "B. effusion", "B. effusion"),
        ("choice", "Based on it, Effusion", "Effusion"),
        ("choice", "<think>A or C?</think>\n**Answer:** $\\boxed{B}$", "B"),
        ("choice", '{"why": "not A", "answer": "C"}', "C"),
        ("choice", "第一步……答案是Ｂ。", "Ｂ"),
        ("multiple", "The answers are **A** and C.", "A** and C"),
        ("yes_no", "It is clear: **Yes**, there is.", "Yes"),
        ("yes_no", "ſı", "ſı"),
        ("number", "It measures about 3.5 cm in all.", "3.5 cm"),
        ("number", "Final answer: **1.2 × 10⁻³ mol**", "1.2 × 10⁻³"),
        ("box", "At <|box_start|>(1,2),(3,4)<|box_end|>.", "(1,2),(3,4)"),
        ("report", "<think>hm</think>\nHeart **normal**.\n", "Heart **normal**."),
    ],
)
def test_the_span_holds_the_words_that_decided(kind: str, response: str, said: str) -> None:
    span = extract(kind, response, OPTIONS).span

    assert span is not None
    assert response[slice(*span)] == said


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["choice", "multiple"])
@pytest.mark.parametrize("number", [0, 27])
def test_a_question_with_no_or_too_many_options_is_refused(kind: str, number: int) -> None:
    with pytest.raises(ValueError, match="1 to 26 options"):
        extract(kind, "B", ["x"] * number)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="essay"):
        extract("essay", "B")


def test_an_extraction_is_a_plain_value() -> None:
    assert extract("yes_no", "Yes.") == Extraction("yes", "yes or no", (0, 3))


@pytest.mark.parametrize(
    ("response", "refused"),
    [
        ("I'm sorry, but I can't provide a diagnosis.", True),
        ("As an AI language model, I have no eyes.", True),
        ("I am unable to determine this.", True),
        ("There is not enough information to say.", True),
        ("抱歉，我无法确定。", True),
        ("죄송합니다. 판단할 수 없습니다.", True),
        ("No puedo determinarlo.", True),
        ("Je ne peux pas répondre.", True),
        ("Ich kann das nicht beurteilen.", True),
        ("Non posso rispondere.", True),
        ("Não posso responder.", True),
        ("<think>I cannot tell.</think> B", False),
        ("I cannot see an effusion.", False),
        ("Malignancy cannot be excluded.", False),
        ("The answer is B.", False),
        ("", False),
    ],
)
def test_a_refusal_declines_and_a_finding_does_not(response: str, refused: bool) -> None:
    assert is_refusal(response) is refused


# --- Numbers and boxes ----------------------------------------------------------------------------


def number(answer: str, **extra: Any) -> Sample:
    return Sample(id="s", question="?", kind="number", answer=answer, extra=extra)


@pytest.mark.parametrize(
    ("value", "sample", "accepted"),
    [
        ("3.5", number("3.5"), True),
        ("3.50", number("3.5"), True),
        ("3.51", number("3.5"), False),
        ("3.15", number("3", tolerance=0.05), True),
        ("3.1500001", number("3", tolerance=0.05), False),
        ("-95", number("-100", tolerance=0.05), True),
        ("0.1", number("0", tolerance=0.05), False),
        ("0.33", number("0.3", tolerance=0.1), True),
        ("2", number("3", low=2, high=4), True),
        ("4", number("3", low=2, high=4), True),
        ("4.01", number("3", low=2, high=4), False),
        ("9", number("3", low=2), True),
        ("1", number("3", low=2), False),
        ("1", number("3", high=2), True),
        ("3.4", number("3", low="2.5", high="3.5"), True),
        ("4", number("3", low=2, high=3, tolerance=9), False),
    ],
)
def test_a_number_is_accepted_within_its_limits(value: str, sample: Sample, accepted: bool) -> None:
    assert number_within(value, sample) is accepted


@pytest.mark.parametrize(
    ("value", "sample", "complaint"),
    [
        ("many", number("3"), "value"),
        ("3", number("3", low="few"), "extra.low"),
        ("3", number("3", tolerance=True), "extra.tolerance"),
        ("3", number("3", tolerance=-1), "negative"),
        ("3", number("3", low=5, high=4), "exceeds"),
        ("NaN", number("3"), "value"),
    ],
)
def test_limits_that_are_no_numbers_are_named(value: str, sample: Sample, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        number_within(value, sample)


def test_a_box_without_end_is_no_box() -> None:
    with pytest.raises(ValueError, match="x1 < x2"):
        parse_box("[0, 0, inf, inf]")


# --- For any text ---------------------------------------------------------------------------------

PIECES = [
    *("A", "B", "C", "D", "yes", "no", "not", "effusion", "mass"),
    *("The", "answer", "is", "or", "and"),
    *(".", ",", ":", "(", ")", "[", "]", "\n", "<think>", "</think>", "<answer>"),
    *("\\boxed{", "}", "{"),
    *("3.5", "cm", "12", "1/2", "%", "^", "10", "-", "—", "?", "I", "cannot", '"', '"answer":'),
    *("答案", "是", "选", "没有", "正常", "정답", "은"),
]
any_text = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)
)


@settings(deadline=None)
@given(any_text, st.sampled_from(KINDS))
def test_any_text_gives_a_valid_answer_inside_it_or_none(text: str, kind: str) -> None:
    found = extract(kind, text, OPTIONS)

    assert found == extract(kind, text, OPTIONS)
    assert found.rule
    if found.value is None:
        assert found.span is None
        return
    assert found.span is not None
    assert 0 <= found.span[0] < found.span[1] <= len(text)
    if kind == "choice":
        assert found.value in "ABCD"
    if kind == "multiple":
        letters = found.value.split(",")
        assert letters == sorted(set(letters))
        assert set(letters) <= set("ABCD")
    if kind == "yes_no":
        assert found.value in ("yes", "no")
    if kind == "number":
        assert Decimal(found.value).is_finite()
    if kind == "box":
        assert parse_box(found.value)


@settings(deadline=None)
@given(
    st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    st.sampled_from(
        [
            *("{}", "({})", "[{}]", "**{}**", "{}.", "\\boxed{{{}}}", "<answer>{}</answer>"),
            *(
                "The answer is {}.",
                "Answer: {}",
                "答案是{}",
                "정답은 {}입니다",
                '{{"answer": "{}"}}',
            ),
            *("<think>no idea</think>{}", "Final answer: **{}**", "La respuesta es {}."),
        ]
    ),
    st.integers(1, 26),
)
def test_a_plainly_given_letter_is_read_whatever_its_wrapping(
    letter: str, shape: str, number: int
) -> None:
    found = extract("choice", shape.format(letter), [f"finding {i}" for i in range(number)])

    within = ord(letter) - ord("A") < number
    assert (found.value, found.rule == "not an option") == (
        (letter, False) if within else (None, True)
    )


@settings(deadline=None)
@given(st.sets(st.sampled_from("ABCDEF"), min_size=1))
def test_several_letters_come_back_in_order(letters: set[str]) -> None:
    options = [f"finding {i}" for i in range(6)]
    backwards = sorted(letters, reverse=True)

    for said in (", ".join(backwards), "The answers are " + " and ".join(backwards) + "."):
        assert extract("multiple", said, options).value == ",".join(sorted(letters))


@settings(deadline=None)
@given(st.decimals(-(10**9), 10**9, places=3, allow_nan=False), st.sampled_from(["", " cm", "%"]))
def test_a_number_is_read_as_it_is_written(value: Decimal, unit: str) -> None:
    found = extract("number", f"The answer is {value:f}{unit}.")

    assert found.value is not None
    assert Decimal(found.value) == value


ENDLESS = (
    *(
        "\n",
        " ",
        "(",
        "A, ",
        "no ",
        "the answer is ",
        "1 ",
        "[1, ",
        "<think>",
        "\\boxed{",
        '"answer": "',
    ),
    *("effusion or mass, ", "A. ", "answer ", "(1,1),", "1,", "not ", "A and "),
)


@pytest.mark.parametrize("length", [6_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_never_stops_is_read_like_one_that_does(kind: str, length: int) -> None:
    # A rule that tries every way of splitting a list would come back from neither.
    for piece in ENDLESS:
        short, endless = (
            extract(kind, piece * n, OPTIONS) for n in (200, length // 2 // len(piece) * 2)
        )

        assert (endless.value is None, endless.rule) == (short.value is None, short.rule), piece


@pytest.mark.parametrize(
    "name",
    ["", "_box", "_choice", "_multiple", "_number", "_yes_no"],
)
def test_every_pattern_that_is_compiled_late_compiles(name: str) -> None:
    module = importlib.import_module(f"mmeval.scoring.extract{name}")
    values = (
        each
        for value in vars(module).values()
        for each in (value if isinstance(value, tuple) else [value])
    )
    late = [each for each in values if isinstance(each, _Lazy)]

    assert late
    assert all(each.groups >= 0 for each in late)
