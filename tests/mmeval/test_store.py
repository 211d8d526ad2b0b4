"""The run directory: what survives a crash, and who may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmeval import store
from mmeval.errors import MmevalError
from mmeval.schema import Response, Sample
from mmeval.store import Row, Store


def response(key: str, status: str = "ok", sample: str = "s", text: str = "yes") -> Response:
    error = "broken" if status == "error" else None
    return Response(key, "b", sample, "clean", 0, status, text, error=error)


def test_answers_are_on_the_disk_after_each_batch(tmp_path: Path) -> None:
    with Store(tmp_path) as kept:
        kept.append([response("k1"), response("k2")])
        lines = (tmp_path / "responses.jsonl").read_text().splitlines()
        assert len(lines) == 2
        assert set(kept.answers().values()) == {response("k1"), response("k2")}


@pytest.mark.parametrize("kept_bytes", [1, 40, -1])
def test_a_torn_last_line_is_cut_and_what_follows_is_whole(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "responses.jsonl"
    with Store(tmp_path) as kept:
        kept.append([response("k1"), response("k2")])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept_bytes])
    with Store(tmp_path) as kept:
        assert kept.repaired
        assert [row.key for row in kept.answers()] == ["k1"]
        kept.append([response("k3")])
    with Store(tmp_path) as kept:
        assert not kept.repaired
        assert [row.key for row in kept.answers()] == ["k1", "k3"]


def test_a_torn_line_does_not_keep_a_run_from_being_read(tmp_path: Path) -> None:
    with Store(tmp_path) as kept:
        kept.append([response("k1")])
        kept.write_plan([Row.of(response("k1")), Row.of(response("k2"))])
    with (tmp_path / "responses.jsonl").open("a") as file:
        file.write('{"key": "k2", "bench')
    assert list(store.responses(tmp_path)) == [response("k1")]


def test_damage_in_the_middle_is_reported_with_its_line(tmp_path: Path) -> None:
    with Store(tmp_path) as kept:
        kept.append([response("k1"), response("k2")])
    path = tmp_path / "responses.jsonl"
    path.write_text("{]\n" + path.read_text())
    with Store(tmp_path) as kept, pytest.raises(MmevalError, match=r"responses\.jsonl:1: damaged"):
        kept.answers()


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(MmevalError, match=r"another mmeval \(process \d+\)"):
        Store(tmp_path).__enter__()
    with Store(tmp_path):
        pass  # the lock went with its holder


def test_the_last_answer_to_a_row_counts(tmp_path: Path) -> None:
    with Store(tmp_path) as kept:
        kept.append([response("k1", "error"), response("k1", text="no")])
        kept.write_plan([Row.of(response("k1"))])
    assert [r.text for r in store.responses(tmp_path)] == ["no"]


def test_answers_of_an_earlier_plan_are_kept_but_not_read(tmp_path: Path) -> None:
    with Store(tmp_path) as kept:
        kept.append([response("old"), response("new")])
        kept.write_plan([Row.of(response("new")), Row.of(response("not asked yet"))])
        assert len(kept.answers()) == 2
    assert [r.key for r in store.responses(tmp_path)] == ["new"]


def test_samples_come_back_by_benchmark_and_id(tmp_path: Path) -> None:
    sample = Sample("s", "Is it?", "yes_no", "yes")
    with Store(tmp_path) as kept:
        kept.write_samples([("a", sample), ("b", sample)])
    assert store.samples(tmp_path) == {("a", "s"): sample, ("b", "s"): sample}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmevalError, match=r"has no requests\.jsonl; is it a run directory"):
        list(store.responses(tmp_path))
