"""Render, ask, store: overlapped through a bounded queue, stoppable, and never losing an answer."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmeval.errors import MmevalError, is_plain
from mmeval.models.base import Model
from mmeval.privacy import Guard, guard
from mmeval.running.plan import Plan, Planned
from mmeval.running.render import Renderer
from mmeval.schema import Request, Response
from mmeval.store import Row, Store

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Outcome", "Todo", "ask", "todo"]

_FLUSH_S = 2.0
_PLAIN_S = 10.0


@dataclass
class Todo:
    """What a store still lacks of a plan.

    Attributes:
        rows: Key to the rows that wait for its answer.
        total: Rows of the plan.
        answered: Rows that have an answer.
        copies: Answers to equal recipes, to be written for other rows.
        failures: Rows whose last answer was an error, with that error; they are asked again.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    total: int = 0
    answered: int = 0
    copies: list[Response] = field(default_factory=list)
    failures: dict[Row, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What asking came to.

    Attributes:
        asked: Questions that were put to the model or failed before.
        errors: Row and reason of each question that failed.
        interrupted: Whether questions are left because somebody stopped the run.
    """

    asked: int
    errors: Mapping[Row, str]
    interrupted: bool


def todo(plan: Plan, store: Store) -> Todo:
    """Writes the plan to the store and finds what is still to be asked."""
    work = Todo()
    last = store.answers()
    good = {row.key: response for row, response in last.items() if response.status != "error"}

    def rows() -> Iterator[Row]:
        for planned in plan:
            row = planned.row
            work.total += 1
            before = last.get(row)
            if before is not None and before.status != "error":
                work.answered += 1
            elif row.key in good:
                work.copies.append(_for_row(good[row.key], row))
            else:
                work.rows.setdefault(row.key, []).append(row)
                if before is not None:
                    work.failures[row] = before.error
            yield row

    store.write_plan(rows())
    return work


def _for_row(response: Response, row: Row) -> Response:
    return dataclasses.replace(response, **row._asdict())


class _Feeder(threading.Thread):
    """Renders requests ahead of the model; a failure travels as the request's error response."""

    def __init__(
        self, plan: Plan, work: Todo, renderer: Renderer, ahead: int, check: Guard | None = None
    ) -> None:
        super().__init__(name="mmeval-render", daemon=True)
        self.plan, self.renderer, self.check = plan, renderer, check
        self.keys = set(work.rows)
        self.ready: queue.Queue[Request | Response | Exception | None] = queue.Queue(ahead)
        self.stop = threading.Event()

    def run(self) -> None:
        import torch

        torch.set_num_threads(1)  # of this thread: one picture is too little work to share
        try:
            for planned in self.plan:
                if self.stop.is_set():
                    return
                if planned.row.key in self.keys:
                    self.keys.discard(planned.row.key)
                    self._put(self._request(planned))
            self._put(None)
        except Exception as error:  # raised again where it is waited for
            self._put(error)

    def _put(self, item: Request | Response | Exception | None) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(queue.Full):
                self.ready.put(item, timeout=0.1)
                return

    def __iter__(self) -> Iterator[Request | Response]:
        """Yields what is ready until there is no more or `stop` is set."""
        while not self.stop.is_set():
            try:
                item = self.ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def _request(self, planned: Planned) -> Request | Response:
        request = Request(
            **planned.row._asdict(),
            messages=planned.messages,
            images=(),
            candidates=planned.candidates,
            max_new_tokens=planned.max_new_tokens,
            temperature=planned.temperature,
        )
        if planned.problem is not None:
            return Response.failed(request, planned.problem)
        path = ""
        try:
            images = []
            for image in planned.sample.images:
                path = image.path
                file = planned.benchmark.locate(image)
                if self.check is not None:
                    self.renderer.check(file, image, self.check)
                images.append(self.renderer.render(file, image, planned.condition))
        except Exception as error:  # one bad image must not end the run
            reason = str(error) if is_plain(error) else f"{type(error).__name__} while rendering"
            return Response.failed(request, f"{path}: {reason}")
        return dataclasses.replace(request, images=tuple(images))


def ask(
    plan: Plan, work: Todo, renderer: Renderer, model: Model, store: Store, *, progress: bool = True
) -> Outcome:
    """Asks what is to be done and stores every answer.

    The first Ctrl-C lets the model finish its batch and keeps the answers; the second stops at
    once, losing that batch only.

    Args:
        plan: What to ask.
        work: What is left of it, from `todo`.
        renderer: Makes the pictures.
        model: Answers.
        store: Keeps the answers.
        progress: Show how far it is, on standard error.
    """
    if work.copies:
        store.append(work.copies)
    if not work.rows:
        return Outcome(0, {}, False)
    size = max(1, model.batch_size)
    feeder = _Feeder(plan, work, renderer, ahead=2 * size, check=guard(model))
    buffer: list[Response] = []
    errors: dict[Row, str] = {}
    flushed = time.monotonic()
    asked = 0

    def take(response: Response) -> None:
        nonlocal flushed, asked
        if response.key not in work.rows:
            raise MmevalError(
                f"the model answered a request it was not asked ({response.key[:12]})"
            )
        for row in work.rows.pop(response.key):
            if response.status == "error":
                errors[row] = response.error or "unknown"
                if work.failures.get(row, "") == response.error:
                    continue  # this very error is already on record
            buffer.append(_for_row(response, row))
        asked += 1
        bar.update(failed=response.status == "error")
        if len(buffer) >= size or time.monotonic() - flushed > _FLUSH_S:
            flush()

    def flush() -> None:
        nonlocal flushed
        store.append(buffer)
        buffer.clear()
        flushed = time.monotonic()

    def requests() -> Iterator[Request]:
        for item in feeder:
            if isinstance(item, Response):
                take(item)
            else:
                yield item

    with (
        _Progress(len(work.rows), progress) as bar,
        _stoppable(feeder.stop, bar),
        _one_core_less(),
    ):
        feeder.start()
        try:
            for response in model.generate(requests()):
                take(response)
            interrupted = feeder.stop.is_set() and bool(work.rows)
        finally:
            feeder.stop.set()
            flush()
            feeder.join()
    if work.rows and not interrupted:
        raise MmevalError(f"the model left {len(work.rows)} requests without an answer")
    return Outcome(asked, errors, interrupted)


@contextlib.contextmanager
def _one_core_less() -> Iterator[None]:
    """Leaves a core to the renderer: threads of one operation that wait for each other spin."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _stoppable(stop: threading.Event, bar: _Progress) -> Iterator[None]:
    """Turns the first interrupt into `stop`; only the main thread receives interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        bar.say("stopping after this batch; its answers are kept (Ctrl-C again: at once)")

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A bar on a terminal; elsewhere a plain line now and then."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.done, self.failed, self._said_done = total, 0, 0, 0
        self._plain = shown and not sys.stderr.isatty()
        self._began = self._said = time.monotonic()
        self._bar: tqdm[Any] | None = None
        if shown and not self._plain:
            from tqdm import tqdm

            # A terminal that does not say its size (0 columns) would get an empty bar.
            sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
            self._bar = tqdm(
                total=total,
                desc="asking",
                unit="question",
                smoothing=0.1,
                ncols=None if sized else 80,
                nrows=None if sized else 20,
                dynamic_ncols=sized,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._plain and self.done and self.done != self._said_done:
            self._line()

    def update(self, *, failed: bool) -> None:
        self.done += 1
        self.failed += failed
        if self._bar is not None:
            if failed:
                self._bar.set_postfix(failed=self.failed, refresh=False)
            self._bar.update()
        elif self._plain and time.monotonic() - self._said > _PLAIN_S:
            self._line()

    def _line(self) -> None:
        self._said, self._said_done = time.monotonic(), self.done
        seconds = max(self._said - self._began, 1e-9)
        rate = self.done / seconds
        failed = f", {self.failed} failed" if self.failed else ""
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.done < self.total else ""
        self.say(f"asked {self.done} of {self.total} ({rate:.1f}/s{left}{failed})")

    def say(self, message: str) -> None:
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)
