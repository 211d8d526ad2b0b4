"""A process beside the model makes the same requests as its threads, and no more when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmeval
from mmeval import store
from mmeval.models.mock import MockModel
from mmeval.running import pipeline
from mmeval.running import plan as planning
from mmeval.running.render import Renderer
from mmeval.schema import Request, Response

MakeQuestions = Callable[..., Path]
TWO = ["clean", "general/jpeg:3"]


class Here:
    """Computes in this process; remembers what it was shown and who rendered it."""

    batch_size = 4
    identity = MockModel().identity
    computes_on: str | None = "cpu"

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.requests: list[Request] = []
        self._mock = MockModel()

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        for request in requests:
            pictures = tuple((image.shape, image.tobytes()) for image in request.images)
            self.seen.append((request.key, request.messages, request.candidates, pictures))
            self.requests.append(request)
            yield from self._mock.generate([request])


def evaluate(path: Path, out: Path, model: Here, **settings: Any) -> mmeval.Run:
    settings.setdefault("conditions", TWO)
    return mmeval.evaluate(model, str(path), out=out, progress=False, **settings)


def children() -> set[int]:
    """Processes of this process."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(number) for number in (task / "children").read_text().split()}
    return found


def alive(process: int) -> bool:
    """Whether a process still runs; nobody may have asked what became of it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("threads", [1, 3])
def test_a_process_makes_what_threads_make(
    make_questions: MakeQuestions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    monkeypatch.setattr(pipeline, "_threads", lambda: threads)
    path = make_questions(60)
    (path.parent / "images" / "p7.png").write_bytes(b"no picture")
    apart, beside = Here(), Here()
    beside.computes_on = None

    one = evaluate(path, tmp_path / "apart", apart)
    other = evaluate(path, tmp_path / "beside", beside)

    assert len(apart.seen) == 2 * 58
    assert apart.seen == beside.seen
    assert one.responses == other.responses
    failures = [(run.path / "failures.jsonl").read_text() for run in (one, other)]
    assert failures[0] == failures[1] != ""
    assert not children()


def test_questions_on_one_picture_share_it(make_questions: MakeQuestions, tmp_path: Path) -> None:
    model = Here()
    evaluate(make_questions(60), tmp_path / "run", model)
    for first, second in zip(model.requests[::2], model.requests[1::2], strict=True):
        assert first.images[0] is second.images[0]


def test_pictures_may_be_written_to(make_questions: MakeQuestions, tmp_path: Path) -> None:
    model = Here()
    evaluate(make_questions(2), tmp_path / "run", model, conditions=["clean"])
    model.requests[0].images[0][:] = 7
    assert (np.asarray(model.requests[1].images[0]) == 7).all()


def test_the_model_is_in_another_process_than_the_renderer(
    make_questions: MakeQuestions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, noted = Renderer.render, tmp_path / "processes"

    def noting(self: Renderer, *args: Any) -> Any:
        with noted.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return original(self, *args)

    monkeypatch.setattr(Renderer, "render", noting)
    evaluate(make_questions(4), tmp_path / "run", Here())
    processes = set(noted.read_text().split())
    assert len(processes) == 1
    assert str(os.getpid()) not in processes


def test_a_killed_renderer_ends_the_run_and_keeps_the_answers(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    class Killing(Here):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for number, response in enumerate(super().generate(requests)):
                yield response
                if number == 20:
                    for child in children():
                        os.kill(child, signal.SIGKILL)

    path, out = make_questions(400), tmp_path / "run"
    with pytest.raises(mmeval.MmevalError, match=r"makes the pictures ended \(SIGKILL"):
        evaluate(path, out, Killing())
    kept = len(list(store.responses(out)))
    assert 20 < kept < 800

    again = Here()
    assert len(evaluate(path, out, again).responses) == 800
    assert len(again.seen) == 800 - kept


def test_what_goes_wrong_with_the_plan_is_said_here(
    make_questions: MakeQuestions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, here = planning.Plan._planned, os.getpid()

    def failing(self: planning.Plan, *args: Any) -> Any:
        if os.getpid() != here and args[1].id == "q3":
            raise mmeval.MmevalError("q3: says nothing")
        return original(self, *args)

    monkeypatch.setattr(planning.Plan, "_planned", failing)
    with pytest.raises(mmeval.MmevalError, match="q3: says nothing"):
        evaluate(make_questions(6), tmp_path / "run", Here())
    assert not children()


def test_after_an_interrupt_no_further_picture_is_rendered(
    make_questions: MakeQuestions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, original, noted = os.getpid(), Renderer.render, tmp_path / "rendered"

    def slow(self: Renderer, *args: Any) -> Any:
        with noted.open("a") as file:
            file.write("+")
        time.sleep(0.1)
        return original(self, *args)

    class Interrupted(Here):
        def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
            for number, response in enumerate(super().generate(requests)):
                if number == 1:
                    os.kill(here, signal.SIGINT)
                yield response

    monkeypatch.setattr(Renderer, "render", slow)
    path, out = make_questions(400), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate(path, out, Interrupted(), conditions=["clean"])
    assert not children()
    assert len(noted.read_text()) < 50  # of 200, some 40 of which had been asked for
    assert len(list(store.responses(out))) >= 2


def test_a_killed_run_leaves_neither_a_process_nor_its_lock(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path, out = make_questions(40), tmp_path / "run"
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_workers import Here, children, evaluate

        class Dying(Here):
            def generate(self, requests):
                for response in super().generate(requests):
                    yield response
                    print(*children(), flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)

        evaluate(Path({str(path)!r}), Path({str(out)!r}), Dying())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (child,) = map(int, done.stdout.split())

    model = Here()
    run = evaluate(path, out, model)  # at once: the lock went with the process that held it
    assert len(run.responses) == 80
    assert len(model.seen) == 79
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
