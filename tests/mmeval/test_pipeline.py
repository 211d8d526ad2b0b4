"""Asking and storing: every answer kept, every failure counted, nothing asked twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmeval
from mmeval import store
from mmeval.models import Model
from mmeval.models.mock import MockModel
from mmeval.running import pipeline
from mmeval.running.render import Renderer
from mmeval.schema import Request, Response

MakeQuestions = Callable[..., Path]
TWO = ["clean", "general/jpeg:3"]


class Counting:
    """The mock, remembering what it was asked."""

    batch_size = 4
    identity = MockModel().identity

    def __init__(self, script: Any = None) -> None:
        self.asked: list[str] = []
        self._mock = MockModel(script)

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        for request in requests:
            self.asked.append(f"{request.sample}@{request.condition}")
            yield from self._mock.generate([request])


def evaluate(path: Path, out: Path, model: Model, **settings: Any) -> mmeval.Run:
    settings.setdefault("conditions", TWO)
    return mmeval.evaluate(model, str(path), out=out, progress=False, **settings)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]


def test_every_question_is_asked_once_and_scored(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    model = Counting()
    run = evaluate(make_questions(6), tmp_path / "run", model)
    assert sorted(model.asked) == sorted(f"q{i}@{c}" for i in range(6) for c in TWO)
    assert len(run.responses) == len(run.scores) == 12
    accuracy = [row for row in run.metrics if row["metric"] == "accuracy" and row["by"] is None]
    right = sum(score.correct for score in run.scores if score.condition == "clean")
    assert [row["value"] for row in accuracy if row["condition"] == "clean"] == [
        pytest.approx(right / 6)
    ]


def test_a_finished_run_asks_nothing_and_changes_nothing(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(4), tmp_path / "run"
    evaluate(path, out, Counting())
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    again = Counting()
    evaluate(path, out, again)
    assert again.asked == []
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before


def test_after_a_crash_only_what_is_missing_is_asked(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(6), tmp_path / "run"
    whole = evaluate(path, tmp_path / "whole", Counting())
    evaluate(path, out, Counting())
    kept = (out / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (out / "responses.jsonl").write_bytes(b"".join(kept[:5]) + kept[5][:30])  # a torn sixth line
    model = Counting()
    resumed = evaluate(path, out, model)
    assert len(model.asked) == 12 - 5
    assert resumed.metrics == whole.metrics
    assert [s.to_dict() for s in resumed.scores] == [s.to_dict() for s in whole.scores]


def test_a_new_condition_asks_only_itself(make_questions: MakeQuestions, tmp_path: Path) -> None:
    path, out = make_questions(4), tmp_path / "run"
    evaluate(path, out, Counting(), conditions=["clean"])
    model = Counting()
    run = evaluate(path, out, model, conditions=TWO)
    assert model.asked == [f"q{i}@general/jpeg:3" for i in range(4)]
    assert len(run.scores) == 8


def test_a_smaller_plan_reads_only_its_own_answers(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(6), tmp_path / "run"
    evaluate(path, out, Counting())
    model = Counting()
    run = evaluate(path, out, model, limit=2, conditions=["clean"])
    assert model.asked == []
    assert len(run.scores) == 2
    assert len(lines(out)) == 12


def test_a_changed_picture_is_asked_again(make_questions: MakeQuestions, tmp_path: Path) -> None:
    path, out = make_questions(4), tmp_path / "run"
    evaluate(path, out, Counting(), conditions=["clean"])
    (path.parent / "images" / "p1.png").write_bytes((path.parent / "images/p0.png").read_bytes())
    model = Counting()
    evaluate(path, out, model, conditions=["clean"])
    # p1 shows what p0 shows now: the same pixels and words were answered already.
    assert model.asked == []
    assert len(lines(out)) == 6


def test_equal_questions_are_asked_once_and_answered_for_both(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path = make_questions(2, question="Is it present?")
    model = Counting()
    run = evaluate(path, tmp_path / "run", model)
    assert len(model.asked) == 2
    assert sorted((r.sample, r.condition) for r in run.responses) == sorted(
        (f"q{i}", c) for i in range(2) for c in TWO
    )


def test_an_image_that_cannot_be_read_is_an_error_and_the_run_goes_on(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(6), tmp_path / "run"
    (path.parent / "images" / "p1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    model = Counting()
    run = evaluate(path, out, model)
    failed = [r for r in run.responses if r.status == "error"]
    assert sorted((r.sample, r.condition) for r in failed) == sorted(
        (q, c) for q in ("q2", "q3") for c in TWO
    )
    assert all("p1.png" in str(r.error) for r in failed)
    assert len(model.asked) == 8


def test_a_failing_backend_is_never_scored_as_an_answer(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    script = {"q0": RuntimeError("no"), "q1": {"error": "timeout"}, "q4": {"status": "refused"}}
    run = evaluate(make_questions(6), tmp_path / "run", Counting(script))
    status = {(s.sample, s.condition): s for s in run.scores}
    for sample in ("q0", "q1"):
        score = status[sample, "clean"]
        assert (score.status, score.correct, score.parsed, score.confidence) == (
            "error",
            0,
            None,
            {},
        )
    assert status["q4", "clean"].status == "refused"
    row = next(r for r in run.metrics if r["metric"] == "accuracy" and r["condition"] == "clean")
    assert (row["n_error"], row["n_refused"]) == (2, 1)


def test_errors_are_asked_again_and_recorded_once(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(4), tmp_path / "run"
    broken = {"q1": RuntimeError("overloaded")}
    evaluate(path, out, Counting(broken))
    for _ in range(2):
        again = Counting(broken)
        evaluate(path, out, again)
        assert again.asked == ["q1@clean", "q1@general/jpeg:3"]
    assert len(lines(out)) == 8
    run = evaluate(path, out, Counting())
    assert {r.status for r in run.responses} == {"ok"}
    assert len(lines(out)) == 10


def test_records_that_cannot_be_asked_are_errors_with_file_and_line(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path = make_questions(3)
    path.write_text(path.read_text() + '{"id": "q9", "question": "", "kind": "open"}\n')
    run = evaluate(path, tmp_path / "run", Counting())
    errors = [r for r in run.responses if r.status == "error"]
    assert [r.condition for r in errors] == TWO
    assert errors[0].error == "samples.jsonl:4: question: is empty"
    row = next(r for r in run.metrics if r["metric"] == "accuracy" and r["condition"] == "clean")
    assert row["n_error"] == 1


def test_each_degraded_picture_reaches_the_model(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    seen: dict[tuple[str, str], bytes] = {}

    def look(request: Request) -> str:
        (image,) = request.images
        seen[request.sample, request.condition] = image.tobytes()
        return "yes"

    evaluate(
        make_questions(2),
        tmp_path / "run",
        MockModel(look),
        conditions=["clean", "general/contrast_down:5"],
    )
    assert seen["q0", "clean"] == seen["q1", "clean"]
    assert seen["q0", "clean"] != seen["q0", "general/contrast_down:5"]


def test_the_order_of_answers_does_not_matter(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    class Backwards(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            yield from reversed([*super().generate(requests)])

    path = make_questions(6)
    one = evaluate(path, tmp_path / "one", Counting())
    other = evaluate(path, tmp_path / "other", Backwards())
    assert one.metrics == other.metrics
    assert one.responses == other.responses


def test_a_model_that_loses_requests_is_found_out(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    class Forgetful(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            yield from [*super().generate(requests)][1:]

    with pytest.raises(mmeval.MmevalError, match="left 1 requests without an answer"):
        evaluate(make_questions(2), tmp_path / "run", Forgetful(), conditions=["clean"])


def test_more_threads_render_the_same_pictures_in_the_same_order(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path = make_questions(60)
    (path.parent / "images" / "p7.png").write_bytes(b"no picture")
    original = Renderer.render

    def uneven(self: Renderer, file: Path, *args: Any) -> Any:
        time.sleep(0.004 if file.name in ("p2.png", "p11.png") else 0.0)
        return original(self, file, *args)

    class Seeing(Counting):
        batch_size = 12

        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for request in requests:
                shown = [hashlib.sha256(image).hexdigest() for image in request.images]
                seen.append((request.sample, request.condition, *shown))
                yield from self._mock.generate([request])

    found = []
    for threads in (1, 2, 3):
        seen: list[tuple[str, ...]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Renderer, "render", uneven)
            patch.setattr(pipeline, "_threads", lambda threads=threads: threads)
            run = evaluate(path, tmp_path / str(threads), Seeing())
        found.append((seen, run.responses))
    assert len(found[0][0]) == 2 * 58
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_need_not_wait_for_many_slow_pictures(
    make_questions: MakeQuestions, tmp_path: Path, threads: int
) -> None:
    rendered, before = 0, []
    original = Renderer.render

    def slow(self: Renderer, *args: Any) -> Any:
        nonlocal rendered
        time.sleep(0.05)
        rendered += 1
        return original(self, *args)

    class Seeing(Counting):
        batch_size = 32

        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for request in requests:
                before.append(rendered)
                yield from self._mock.generate([request])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "render", slow)
        patch.setattr(pipeline, "_threads", lambda: threads)
        evaluate(make_questions(64), tmp_path / "run", Seeing(), conditions=["clean"])
    assert before[0] <= 12


def test_a_model_elsewhere_leaves_all_cores_to_the_renderer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert pipeline._threads() == 3
    monkeypatch.delitem(sys.modules, "torch")
    assert pipeline._threads() == 6


@pytest.mark.parametrize(
    ("room", "batches"), [(1 << 28, 16), (1, 2)], ids=["small pictures", "large pictures"]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_model_is_not_fed_much_faster_than_it_answers(
    make_questions: MakeQuestions, tmp_path: Path, room: int, batches: int, threads: int
) -> None:
    ahead: list[int] = []
    rendered = 0
    lock = threading.Lock()
    original = Renderer.render

    def counted(self: Renderer, *args: Any) -> Any:
        nonlocal rendered
        with lock:
            rendered += 1
        return original(self, *args)

    class Slow(Counting):
        batch_size = 2

        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for done, response in enumerate(super().generate(requests)):
                time.sleep(0.005)
                ahead.append(rendered - done)
                yield response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "render", counted)
        patch.setattr(pipeline, "_threads", lambda: threads)
        patch.setattr(pipeline, "_AHEAD_BYTES", room)
        evaluate(make_questions(80), tmp_path / "run", Slow(), conditions=["clean"])
    # What lies ready, one picture in the model's hands, and waiting to be put one picture, or what
    # is handed to a thread at once.
    waiting = 1 if threads == 1 else Slow.batch_size
    assert max(ahead) <= batches * Slow.batch_size + 1 + waiting
    assert max(ahead) >= batches * Slow.batch_size


@pytest.mark.parametrize("slow", ["model", "renderer"])
def test_the_model_has_all_cores_while_nothing_is_rendered(
    make_questions: MakeQuestions, tmp_path: Path, slow: str
) -> None:
    import torch

    threads: list[int] = []
    original = Renderer.render

    def render(self: Renderer, *args: Any) -> Any:
        time.sleep(0.01 if slow == "renderer" else 0.0)
        return original(self, *args)

    class Seeing(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for response in super().generate(requests):
                threads.append(torch.get_num_threads())
                time.sleep(0.01 if slow == "model" else 0.0)
                yield response

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "render", render)
        patch.setattr(pipeline, "_threads", lambda: 1)
        torch.set_num_threads(3)
        try:
            evaluate(make_questions(60), tmp_path / "run", Seeing(), conditions=["clean"])
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)
    assert set(threads) <= {2, 3}
    assert Counter(threads).most_common(1)[0][0] == (3 if slow == "model" else 2)
    if slow == "model":  # long after the last picture was rendered
        assert threads[-10:] == [3] * 10


def test_two_benchmarks_may_call_different_pictures_by_one_name(tmp_path: Path) -> None:
    specs = []
    for name, grey in (("dark", 10), ("bright", 240)):
        (tmp_path / name / "images").mkdir(parents=True)
        picture = Image.new("L", (16, 16), grey)
        picture.save(tmp_path / name / "images" / "a.png")
        sample = {"id": "q", "question": "?", "kind": "yes_no", "answer": "yes"}
        sample["images"] = [{"path": "images/a.png", "modality": "xray"}]
        path = tmp_path / name / "samples.jsonl"
        path.write_text(json.dumps(sample) + "\n")
        specs.append({"name": name, "reader": "jsonl", "root": str(path.parent), "file": path.name})
    shown: dict[str, int] = {}

    class Seeing(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for request in requests:
                shown[request.benchmark] = int(request.images[0][0, 0, 0])
                yield from self._mock.generate([request])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_threads", lambda: 1)
        mmeval.evaluate(Seeing(), specs, out=tmp_path / "run", progress=False)
    assert shown == {"dark": 10, "bright": 240}


def test_after_an_interrupt_no_further_picture_is_rendered(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    interrupted = threading.Event()
    late = []
    original = Renderer.render

    def slow(self: Renderer, *args: Any) -> Any:
        if interrupted.is_set():
            late.append(args)
        time.sleep(0.01)
        return original(self, *args)

    class Interrupted(Counting):
        batch_size = 32

        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for response in super().generate(requests):
                if not interrupted.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                    interrupted.set()
                yield response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "render", slow)
        patch.setattr(pipeline, "_threads", lambda: 2)
        with pytest.raises(KeyboardInterrupt):
            evaluate(make_questions(200), tmp_path / "run", Interrupted(), conditions=["clean"])
        for thread in threading.enumerate():
            if thread.name.startswith("mmeval-render"):
                thread.join(timeout=30)
    assert len(late) <= 4  # those under way, of the dozens that had been handed over


def test_an_interrupt_keeps_the_answers_and_the_next_call_goes_on(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(10), tmp_path / "run"

    class Interrupted(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for response in super().generate(requests):
                if len(self.asked) == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                yield response

    before = signal.getsignal(signal.SIGINT)
    first = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        evaluate(path, out, first, conditions=["clean"])
    assert signal.getsignal(signal.SIGINT) is before
    assert len(lines(out)) == len(first.asked) == 3
    assert not (out / "metrics.json").exists()
    second = Counting()
    evaluate(path, out, second, conditions=["clean"])
    assert not set(first.asked) & set(second.asked)
    assert len(list(store.responses(out))) == 10
