"""Benchmarks: specifications over question files, and what happens to records that are wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmeval import benchmarks, config, phantom
from mmeval.errors import MmevalError
from mmeval.schema import ImageRef

MakeQuestions = Callable[..., Path]

TABLE = """\
qid,picture,text,a,b,c,right,split
1,one,"Which, of these?",cat,dog,,B,test
2,two,"Two
lines?",cat,dog,cow,C,test
3,one,Train?,cat,dog,,A,train
"""
COLUMNS = {
    "id": "{split}-{qid}",
    "question": "text",
    "answer": "right",
    "options": ["a", "b", "c"],
    "images": "{picture}.png",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"not opened here")
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def spec(root: Path, **changes: Any) -> dict[str, Any]:
    start = {"name": "t", "reader": "csv", "file": "t.csv", "root": str(root), "columns": COLUMNS}
    return start | changes


def test_columns_and_templates_become_samples(root: Path) -> None:
    found = benchmarks.load(spec(root, where={"split": "test"}, tags={"part": "split"}))
    first, second = found.samples
    assert (first.id, first.question, first.options) == (
        "test-1",
        "Which, of these?",
        ("cat", "dog"),
    )
    assert (first.kind, first.answer, first.chance) == ("choice", "B", 0.5)
    assert first.images == (ImageRef("one.png"),)
    assert (first.cluster, first.tags) == ("one.png", {"part": "test"})
    assert (second.question, second.answer) == ("Two\nlines?", "C")


@pytest.mark.parametrize(
    ("form", "written"), [("letter", "b"), ("text", "Dog"), ("index0", "1"), ("index1", "2")]
)
def test_the_same_answer_written_four_ways(root: Path, form: str, written: str) -> None:
    (root / "t.csv").write_text(f"q,a,b,r\nWhich?,cat,dog,{written}\n")
    columns = {"id": "q", "question": "q", "answer": "r", "options": ["a", "b"]}
    (sample,) = benchmarks.load(spec(root, columns=columns, answer_is=form)).samples
    assert sample.answer == "B"


def test_kinds_follow_the_first_rule_that_fits_whatever_the_case(root: Path) -> None:
    records = [("CLOSED ", "Yes"), ("CLOSED", "left"), ("OPEN", "yes")]
    lines = [
        {"id": i, "q": "?", "type": kind, "a": answer} for i, (kind, answer) in enumerate(records)
    ]
    (root / "q.json").write_text(json.dumps(lines))
    rules = yaml.safe_load("[{kind: yes_no, when: {type: closed, a: [yes, no]}}, {kind: open}]")
    found = benchmarks.load(
        spec(
            root,
            reader="json",
            file="q.json",
            columns={"id": "id", "question": "q", "answer": "a"},
            kind=rules,
        )
    )
    assert [(s.kind, s.answer) for s in found.samples] == [
        ("yes_no", "yes"),
        ("open", "left"),
        ("open", "yes"),
    ]


def test_bad_records_stay_in_the_denominator_with_file_and_line(root: Path) -> None:
    (root / "t.csv").write_text(
        TABLE + "4,one,,cat,dog,,A,test\n5,gone,Where?,cat,dog,,A,test\n6,one,short\n"
    )
    found = benchmarks.load(spec(root))
    assert len(found.samples) == 6
    assert [sample.invalid for sample in found.invalid] == [
        "t.csv:6: question: is empty",
        "t.csv:7: images[0].path: 'gone.png': no such file under the root",
        "t.csv:8: 3 fields, but the header has 8",
    ]
    assert [sample.id for sample in found.invalid] == ["test-4", "test-5", "t.csv:8"]


def test_a_wrong_mapping_is_one_message_not_one_per_record(root: Path) -> None:
    with pytest.raises(
        MmevalError, match=r"none of 3 records.*no column 'txt'; did you mean 'text'"
    ):
        benchmarks.load(spec(root, columns={**COLUMNS, "question": "txt"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": "cvs"}, "reader: unknown 'cvs'; did you mean 'csv'"),
        ({"root": None}, "root: say which folder holds t.csv"),
        ({"root": "/nowhere"}, "root: /nowhere is not a folder"),
        ({"file": "u.csv"}, "no such file under the root"),
        ({"file": "../t.csv"}, "relative to it"),
        ({"colums": {}}, "unknown key 'colums'; did you mean 'columns'"),
        ({"columns": {"ids": "qid"}}, "columns: unknown field 'ids'"),
        ({"columns": None}, "columns: say which column is the question"),
        ({"expected": {"samples": 4}}, "expected 4 samples, found 3"),
        ({"where": {"split": "val"}}, "no records left by `where`"),
    ],
)
def test_a_wrong_specification_says_how_to_mend_it(
    root: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(MmevalError) as caught:
        benchmarks.load(spec(root) | change)
    assert message in str(caught.value)
    assert "benchmark" in str(caught.value)


def test_an_id_used_twice_is_refused_also_with_blanks(make_questions: MakeQuestions) -> None:
    path = make_questions(2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "id": "same"}) + "\n" for line in lines))
    with pytest.raises(MmevalError, match=r"id 'same' was already used in samples\.jsonl:1"):
        benchmarks.load(config.resolve(str(path), "benchmarks"))


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "a/../../secret.png", "a\\b"])
def test_images_outside_the_root_are_not_reached(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    with pytest.raises(MmevalError, match="images lie under the root"):
        benchmarks.confined(root, path)


def test_a_symbolic_link_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    root = tmp_path / "root"
    (root / "series").mkdir(parents=True)
    (root / "inside.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "series" / "1.dcm").symlink_to(tmp_path / "secret.png")
    (root / "fine.png").symlink_to(root / "inside.png")
    for path in ("link.png", "series"):
        with pytest.raises(MmevalError, match="symbolic link leads out"):
            benchmarks.confined(root, path)
    assert benchmarks.confined(root, "fine.png").is_file()


def test_phantoms_are_written_once_and_again_for_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = phantom.write

    def counted(out: Path, seed: int, n: int) -> Path:
        written.append(seed)
        return write(out, seed, n)

    monkeypatch.setattr(phantom, "write", counted)
    folder = tmp_path / "data"
    for seed in (5, 5, 6):
        found = benchmarks.load({"name": "p", "reader": "phantom", "seed": seed, "n": 4}, folder)
        assert len(found.samples) == 4
        assert not found.invalid
    assert written == [5, 6]


def test_phantoms_do_not_replace_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(MmevalError, match="holds other files"):
        benchmarks.load({"reader": "phantom", "n": 4, "root": str(tmp_path)})
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_vqa_rad_reads_as_published(shared: Path) -> None:
    found = config.resolve("vqa-rad", "benchmarks")
    found.pop("conditions")
    root = shared / "data" / "vqa" / "VQA-RAD"
    benchmark = benchmarks.load({**found, "root": str(root)})
    kinds = Counter(sample.kind for sample in benchmark.samples)
    assert kinds == {"yes_no": 251, "open": 200}
    assert not benchmark.invalid
    assert len({sample.cluster for sample in benchmark.samples}) == 203
    assert {image.modality for sample in benchmark.samples for image in sample.images} == {"photo"}


def test_hostile_question_files_are_told_apart(shared: Path) -> None:
    folder = shared / "data" / "bad" / "questions"
    columns = {"id": "id", "question": "question", "answer": "answer", "options": "options"}

    def load(name: str) -> benchmarks.Benchmark:
        reader = name.rpartition(".")[2]
        changes = {"options": ["A", "B"]} if reader == "csv" else {}
        return benchmarks.load(
            spec(folder, reader=reader, file=name, columns=columns | changes, kind="choice")
        )

    def usable(name: str) -> list[str]:
        return [sample.id for sample in load(name).samples if sample.invalid is None]

    assert usable("good.jsonl") == [f"q{i}" for i in range(8)]
    assert usable("question_bad.jsonl") == ["u6"]
    assert usable("ragged.csv") == ["1", "3"]
    assert usable("utf8_bom.jsonl") == ["bom1", "bom2"]
    assert len(usable("injection.jsonl")) == len(load("injection.jsonl").samples)
    for name in ("dup_ids_same", "json_traps", "latin1", "whitespace", "array_named"):
        with pytest.raises(MmevalError):
            load(f"{name}.jsonl")
    with pytest.raises(MmevalError, match="one column only"):
        load("semicolon.csv")
