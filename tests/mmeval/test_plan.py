"""The plan: what is asked, in which order, and what a request's key depends on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmeval import benchmarks, config
from mmeval.running.plan import Plan, Planned

MakeQuestions = Callable[..., Path]
MODEL = {"backend": "mock", "revision": "1"}


def plan(path: Path, identity: dict[str, str] = MODEL, **settings: Any) -> Plan:
    run = config.load({"model": "mock", "benchmarks": str(path), **settings})
    return Plan(run, [benchmarks.load(spec) for spec in run.benchmarks], identity)


def keys(path: Path, identity: dict[str, str] = MODEL, **settings: Any) -> list[str]:
    return [planned.row.key for planned in plan(path, identity, **settings)]


def rewrite(path: Path, **changes: Any) -> Path:
    lines = [json.loads(line) | changes for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


JPEG = {"conditions": ["general/jpeg:3"]}


@pytest.mark.parametrize(
    "settings",
    [
        {"conditions": ["general/jpeg:4"]},
        {"conditions": ["general/gaussian_blur:3"]},
        {"conditions": ["general/jpeg:3+general/jpeg:1"]},
        {**JPEG, "seed": 1},
        {**JPEG, "render_size": 12},
        {**JPEG, "max_new_tokens": 8},
        {**JPEG, "temperature": 1.0},
        {**JPEG, "confidence": []},
        {**JPEG, "assume_window": [40, 80]},
        {**JPEG, "identity": {**MODEL, "revision": "2"}},
    ],
)
def test_whatever_changes_an_answer_changes_the_key(
    make_questions: MakeQuestions, settings: dict[str, Any]
) -> None:
    path = make_questions(2)
    assert not set(keys(path, **JPEG)) & set(keys(path, **settings))


def test_one_pixel_changes_the_key_of_its_questions_only(make_questions: MakeQuestions) -> None:
    path = make_questions(4)
    before = keys(path)
    picture = path.parent / "images" / "p1.png"
    pixels = Image.open(picture)
    pixels.putpixel((3, 3), 254)
    pixels.save(picture)
    after = keys(path)
    assert before[:2] == after[:2]
    assert not set(before[2:]) & set(after[2:])


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Is another finding present?"},
        {"images": [{"path": "images/p0.png", "modality": "fundus"}]},
        {"images": [{"path": "images/p0.png", "modality": "photo", "choices": {"frame": 0}}]},
        {"images": [{"path": "images/p0.png", "modality": "photo"}] * 2},
    ],
)
def test_another_question_or_reading_is_another_key(
    make_questions: MakeQuestions, change: dict[str, Any]
) -> None:
    path = make_questions(1)
    before = keys(path)
    assert before != keys(rewrite(path, **change))


def test_each_trial_has_its_own_key(make_questions: MakeQuestions) -> None:
    assert len(set(keys(make_questions(2), confidence=["voting"], trials=3))) == 8


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"backend": "mock", "batch_size": 3}},
        {"name": "other"},
        {"out": "elsewhere"},
        {"fail_on_error": 5},
        {"limit": 100},
    ],
)
def test_how_it_is_run_does_not_change_the_key(
    make_questions: MakeQuestions, settings: dict[str, Any]
) -> None:
    path = make_questions(2)
    assert keys(path) == keys(path, **settings)


def test_neither_folder_nor_file_name_nor_sample_names_change_the_key(
    make_questions: MakeQuestions,
) -> None:
    path = make_questions(2)
    moved = path.parent.parent / "moved" / "samples.jsonl"
    shutil.copytree(path.parent, moved.parent)
    (moved.parent / "images" / "p0.png").rename(moved.parent / "other.png")
    rewrite(moved, images=[{"path": "other.png", "modality": "photo"}], tags={}, cluster="x")
    assert keys(path, **JPEG) == keys(moved, **JPEG)


def test_the_seed_does_not_matter_where_nothing_is_drawn(make_questions: MakeQuestions) -> None:
    path = make_questions(2)
    assert keys(path, seed=0) == keys(path, seed=1)


def test_severity_zero_is_the_clean_question(make_questions: MakeQuestions) -> None:
    path = make_questions(2)
    assert keys(path) == keys(path, conditions=["general/jpeg:0"])


def test_questions_on_the_same_pixels_come_together(make_questions: MakeQuestions) -> None:
    found = plan(make_questions(4), conditions=["clean", "general/jpeg:3"])
    assert [(p.row.sample, p.row.condition) for p in found] == [
        (sample, condition)
        for pair in (("q0", "q1"), ("q2", "q3"))
        for condition in ("clean", "general/jpeg:3")
        for sample in pair
    ]


def test_a_degradation_is_asked_on_its_own_modality_only(make_questions: MakeQuestions) -> None:
    path = make_questions(4)
    lines = path.read_text().splitlines()
    lines[0] = json.dumps(
        json.loads(lines[0]) | {"images": [{"path": "images/p0.png", "modality": "pathology"}]}
    )
    path.write_text("\n".join(lines) + "\n")
    found = plan(path, conditions=["clean", "pathology/stain:3"])
    stained = [p.row.sample for p in found if p.condition.spec]
    assert stained == ["q0"]
    assert found.skipped == {"pathology/stain:3": 3}


def test_a_question_without_images_is_asked_clean_only(make_questions: MakeQuestions) -> None:
    path = make_questions(1, images=[])
    assert [p.row.condition for p in plan(path, conditions=["clean", "general/jpeg:3"])] == [
        "clean"
    ]


def test_an_unreadable_image_is_planned_with_its_problem(make_questions: MakeQuestions) -> None:
    path = make_questions(4)
    found = plan(path)
    (path.parent / "images" / "p1.png").unlink()  # after the benchmark was read
    planned: list[Planned] = list(found)
    assert [bool(p.problem) for p in planned] == [False, False, True, True]
    assert "images/p1.png" in str(planned[2].problem)


def test_the_data_fingerprint_follows_pixels_and_answers(make_questions: MakeQuestions) -> None:
    path = make_questions(4)
    first = plan(path).data_fingerprint(path)
    assert first == plan(path).data_fingerprint(path)
    image = path.parent / "images" / "p0.png"
    pixels = image.read_bytes()
    image.write_bytes((path.parent / "images" / "p1.png").read_bytes())
    assert first != plan(path).data_fingerprint(path)
    image.write_bytes(pixels)
    assert first == plan(path).data_fingerprint(path)
    assert first != plan(rewrite(path, answer="no")).data_fingerprint(path)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"question": "Is there a nodule?"}, True),
        ({"question": "On which side is the nodule?"}, False),
        ({"question": "Is the LEFT lung clear?"}, False),
        ({"question": "Is the finding bright?"}, True),
        ({"kind": "box", "answer": "[1, 2, 3, 4]"}, False),
        ({"kind": "choice", "options": ["upper lobe", "none"], "answer": "A"}, False),
    ],
)
def test_moved_anatomy_is_not_asked_about_its_place_unless_told_otherwise(
    make_questions: MakeQuestions, changes: dict[str, Any], asked: bool
) -> None:
    path = rewrite(make_questions(1), **changes)
    rotated = {"conditions": ["general/rotation:3"]}
    assert bool(keys(path, **rotated)) is asked
    assert keys(path, **rotated, ask_geometric=True)
    assert keys(path, conditions=["general/gaussian_blur:3"])
