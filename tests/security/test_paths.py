"""A question file leads mmeval to nothing outside its own folder, and to nothing that hangs it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmeval
import modalities
from mmeval import benchmarks
from mmeval.benchmarks.images import EMBEDDED, confined, embedding
from mmeval.errors import MmevalError
from mmeval.models.mock import MockModel
from mmeval.report import examples
from mmeval.schema import ImageRef, Request
from tests.security.planting import png_bytes

SECRET_GREY = 201


def picture(path: Path, grey: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 24), grey, np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set's folder, with a private picture beside it and every way that leads there."""
    root = tmp_path / "data"
    inside = picture(root / "inside.png")
    secret = picture(tmp_path / "private" / "secret.png", SECRET_GREY)
    (root / "link-inside.png").symlink_to("inside.png")
    (root / "link.png").symlink_to(secret)
    (root / "link-relative.png").symlink_to("../private/secret.png")
    (root / "chain.png").symlink_to("link.png")
    (root / "folder").symlink_to(secret.parent)
    (root / "series").mkdir()
    (root / "series" / "a.dcm").symlink_to(secret)
    (root / "dangling.png").symlink_to("nothing.png")
    (root / "ring.png").symlink_to("ring.png")
    assert inside.is_file()
    return root


LEADING_OUT = [
    *("link.png", "link-relative.png", "chain.png", "folder/secret.png", "folder", "series"),
    *("../private/secret.png", "a/../../private/secret.png", "folder/../private/secret.png"),
    *("/etc/hostname", "//etc/hostname", "/proc/self/environ", "/inside.png", "..", "../", "./.."),
    *("..\\private\\secret.png", "C:\\private\\secret.png", "inside.png\0.txt", "\0"),
    *("dangling.png", "ring.png", "inside.png/x", "~/secret.png", "$HOME/secret.png"),
    *("file:///etc/hostname", "http://127.0.0.1:9/x.png", "a" * 300 + ".png", "a/" * 3000),
]


@pytest.mark.parametrize("path", LEADING_OUT, ids=lambda path: repr(path[:30]))
def test_a_path_that_leads_out_is_refused_in_one_line(root: Path, path: str) -> None:
    with pytest.raises(MmevalError) as caught:
        confined(root, path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(root) not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["inside.png", "link-inside.png", "./inside.png", "x/../inside.png"]
)
def test_a_path_that_stays_inside_is_found(root: Path, path: str) -> None:
    assert confined(root, path).resolve() == (root / "inside.png").resolve()


def test_a_root_that_is_itself_a_link_is_the_folder_it_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(root)
    assert confined(tmp_path / "shortcut", "inside.png").is_file()


def test_a_hard_link_is_a_file_of_the_folder(root: Path, tmp_path: Path) -> None:
    # Nothing tells it from the file itself; SECURITY.md says so.
    os.link(tmp_path / "private" / "secret.png", root / "hard.png")
    assert confined(root, "hard.png").is_file()


class Looking(MockModel):
    """Notes how bright the pictures are that it is shown."""

    def __init__(self) -> None:
        super().__init__(script=self.note)
        self.greys: set[int] = set()

    def note(self, request: Request) -> None:
        self.greys |= {round(float(image.mean())) for image in request.images}


def questions(root: Path, paths: list[str]) -> Path:
    lines = [
        {"id": f"q{i}", "question": "Is it there?", "kind": "yes_no", "answer": "yes",
         "images": [{"path": path, "modality": "photo"}]}
        for i, path in enumerate(paths)
    ]  # fmt: skip
    file = root / "samples.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def ask(file: Path, out: Path, **settings: Any) -> tuple[mmeval.Run, Looking]:
    model = Looking()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = mmeval.evaluate(model, str(file), out=out, progress=False, **settings)
    return run, model


def test_a_model_never_sees_what_lies_outside(root: Path, tmp_path: Path) -> None:
    file = questions(root, ["inside.png", *LEADING_OUT])
    run, model = ask(file, tmp_path / "run")
    assert model.greys == {90}
    assert [r.status for r in run.responses] == ["ok", *["error"] * len(LEADING_OUT)]
    assert all(len(str(r.error).splitlines()) == 1 for r in run.responses if r.error)


def test_a_question_file_may_not_lie_outside_its_root(root: Path) -> None:
    questions(root.parent / "private", ["secret.png"])
    (root / "q.jsonl").symlink_to(root.parent / "private" / "samples.jsonl")
    for file in ("q.jsonl", "../private/samples.jsonl"):
        with pytest.raises(MmevalError, match=r"leads out of the root|images lie under the root"):
            benchmarks.load({"name": "b", "reader": "jsonl", "root": str(root), "file": file})


ODD = [
    *("two\nlines.png", "tab\t.png", "\x1b[31mred.png", "rtl\u202egnp.png", " blank .png"),
    *("-dash.png", "a" * 251 + ".png", "quote\"'.png", "<b>.png", "%s{x}.png", "é.png"),
]


def test_files_of_odd_names_are_asked_about(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    for name in ODD:
        picture(root / name)
    run, _ = ask(questions(root, ODD), tmp_path / "run")
    assert [r.status for r in run.responses] == ["ok"] * len(ODD)
    lines = (tmp_path / "run" / "responses.jsonl").read_bytes().splitlines()
    assert len(lines) == len(ODD)  # no name can end a line


def test_what_is_no_file_fails_without_being_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    picture(root / "good.png")
    os.mkfifo(root / "pipe.png")
    (root / "folder.png").mkdir()
    (root / "empty.png").touch()
    (root / "zero.png").symlink_to("/dev/zero")
    names = ["good.png", "pipe.png", "folder.png", "empty.png", "zero.png"]
    run, _ = ask(questions(root, names), tmp_path / "run")
    assert [r.status for r in run.responses] == ["ok", *["error"] * 4]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to(path)),
    ],
    ids=["removed", "cut", "emptied", "a pipe", "a folder", "a ring"],
)
def test_a_file_that_changes_after_it_was_found_costs_its_own_questions_only(
    tmp_path: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "moving"
    picture(root / "b.png", 40)
    picture(root / "a.png")
    left = [True]

    def late(opened: Callable[..., Any]) -> Callable[..., Any]:
        def open_late(path: Any, *args: Any, **choices: Any) -> Any:
            if left and Path(path).name == "a.png":
                left.clear()
                change(root / "a.png")
            return opened(path, *args, **choices)

        return open_late

    monkeypatch.setattr(modalities, "load", late(modalities.load))
    monkeypatch.setattr(modalities, "picture", late(modalities.picture))
    run, model = ask(questions(root, ["a.png", "b.png"]), tmp_path / "run")
    assert not left
    assert [r.status for r in run.responses] == ["error", "ok"]
    assert model.greys == {40}


def test_an_embedded_image_is_named_after_its_bytes_alone(tmp_path: Path) -> None:
    raw = png_bytes(np.zeros((4, 4), np.uint8))
    name = embedding(tmp_path)(raw)
    assert EMBEDDED.fullmatch(name)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")] == [name]


def test_only_the_whole_name_counts_as_embedded(root: Path, tmp_path: Path) -> None:
    benchmark = benchmarks.Benchmark("b", (), root, data_dir=tmp_path / "private")
    for path in ("embedded/../secret.png", "secret.png", f"embedded/{'0' * 64}/../../secret.png"):
        with pytest.raises(MmevalError):
            benchmark.locate(ImageRef(path))


def test_a_listing_of_examples_cannot_bring_other_files_into_a_report(tmp_path: Path) -> None:
    run = tmp_path / "run"
    picture(run / "examples" / "mine.png")
    picture(tmp_path / "secret.png")
    (run / "examples" / "link.png").symlink_to(tmp_path / "secret.png")
    listed = [
        "examples/mine.png",
        "examples/link.png",
        "../secret.png",
        str(tmp_path / "secret.png"),
    ]
    entries = [{"benchmark": "b", "sample": "s", "condition": "c", "image": i} for i in listed]
    (run / "examples.json").write_text(json.dumps(entries))
    assert examples.read_examples(run) == {("b", "s", "c", ""): [run / "examples" / "mine.png"]}


@pytest.mark.parametrize("name", ["../other", "a/b", "/tmp/x", ".", "..", "a\nb", "", "a b"])
def test_the_name_of_a_benchmark_is_no_path(root: Path, tmp_path: Path, name: str) -> None:
    spec = {"name": name, "reader": "jsonl", "root": str(root), "file": "samples.jsonl"}
    questions(root, ["inside.png"])
    if name:
        with pytest.raises(MmevalError, match="letters, digits"):
            mmeval.evaluate("mock", [spec], out=tmp_path / "run")
    assert not (tmp_path / "other").exists()


def test_degraded_copies_go_below_their_folder_only(root: Path, tmp_path: Path) -> None:
    from mmeval import sweep

    shutil.rmtree(root / "series")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written, _ = sweep.degrade_folder(root, tmp_path / "out", "general/jpeg:2", progress=False)
    assert written
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in written)
