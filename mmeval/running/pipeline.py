"""Render, ask, store: overlapped, never far ahead, stoppable, and never losing an answer.

Memory does not grow with the run: of a planned question one byte is kept, of an answer 48 (see
`mmeval.store.Answers`), of the pictures those that lie ready.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import sys
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from mmeval.errors import MmevalError
from mmeval.models.base import Model
from mmeval.privacy import Guard, guard
from mmeval.running.plan import Plan, Planned
from mmeval.running.render import Renderer
from mmeval.running.workers import Apart, Failure, Made, Workers
from mmeval.schema import Request, Response
from mmeval.store import Row, Store

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Failures", "Outcome", "Todo", "ask", "todo"]

_PLAIN_S = 10.0
_PATIENCE_S = 0.1
#: What becomes of a planned question: nothing, it is asked, it takes the answer to an equal one.
_ANSWERED, _ASK, _COPY = range(3)
#: Different reasons that are told apart; what else fails is counted with the last of them.
_REASONS = 1_000
_MOST_THREADS = 8
#: Questions that are handed to a thread at once, as each time takes as long as a small picture.
_HANDED = 16
#: Batches that may lie ready for the model, and what their pictures may take.
_AHEAD, _AHEAD_BYTES = 16, 1 << 28


@dataclass
class Todo:
    """What a store still lacks of a plan.

    Attributes:
        total: Rows of the plan.
        answered: Rows that are answered, here or by the answer to an equal recipe.
        to_ask: Rows that wait for an answer.
        requests: Different recipes among them: what the model is sent.
        again: Rows to ask whose last answer was an error.
        conditions: Requests by condition.
        states: What becomes of each row, in the plan's order.
    """

    total: int = 0
    answered: int = 0
    to_ask: int = 0
    requests: int = 0
    again: int = 0
    conditions: Mapping[str, int] = field(default_factory=dict)
    states: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def copies(self) -> bool:
        """Whether rows take the answer to an equal recipe."""
        return _COPY in self.states


@dataclass
class _Reason:
    """Why something failed: how often, in how many pictures, and the first."""

    rows: int = 0
    images: int = 0
    first: str = ""


class Failures:
    """Counts what failed: once for each picture that cannot be read, and once for each reason."""

    def __init__(self) -> None:
        self.rows = 0
        self.examples: dict[Row, str] = {}
        self._images: dict[tuple[str, str], tuple[str, int]] = {}
        self._others: dict[str, tuple[Row, int]] = {}

    def add(self, row: Row, reason: str, image: str | None = None) -> None:
        """Notes that a row has no answer, for this reason; `image` if a picture is to blame."""
        self.rows += 1
        if len(self.examples) < _REASONS:
            self.examples[row] = reason
        if image is not None:
            _, count = self._images.get((row.benchmark, image), ("", 0))
            self._images[row.benchmark, image] = (_without_name(reason, image), count + 1)
            return
        if reason not in self._others and len(self._others) >= _REASONS:
            reason = next(reversed(self._others))
        example, count = self._others.get(reason, (row, 0))
        self._others[reason] = (example, count + 1)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yields the lines of ``failures.jsonl``: unreadable pictures, then other reasons."""
        for (benchmark, image), (reason, count) in self._images.items():
            yield {"benchmark": benchmark, "image": image, "reason": reason, "questions": count}
        for reason, (row, count) in self._others.items():
            yield {
                "benchmark": row.benchmark,
                "image": None,
                "sample": row.sample,
                "condition": row.condition,
                "reason": reason,
                "questions": count,
            }

    def table(self, most: int = 10) -> str:
        """Returns what failed and why, the most frequent reason first; empty if nothing did.

        Args:
            most: Lines; the rest is summed up.
        """
        reasons: dict[str, _Reason] = {}
        for (_, image), (reason, count) in self._images.items():
            found = reasons.setdefault(reason, _Reason(first=image))
            found.rows += count
            found.images += 1
        for reason, (row, count) in self._others.items():
            found = reasons.setdefault(reason, _Reason(first=f"{row.sample} ({row.condition})"))
            found.rows += count
        if not reasons:
            return ""
        ranked = sorted(reasons.items(), key=lambda item: -item[1].rows)
        lines = [f"failed: {self.rows} questions (failures.jsonl has every picture)"]
        for reason, found in ranked[:most]:
            others = f" and {found.images - 1} other pictures" if found.images > 1 else ""
            lines.append(f"  {found.rows:6d}  {found.first}{others}: {reason[:200]}")
        if len(ranked) > most:
            rest = sum(found.rows for _, found in ranked[most:])
            lines.append(f"  {rest:6d}  for {len(ranked) - most} other reasons")
        return "\n".join(lines)


def _without_name(reason: str, image: str) -> str:
    """A reason that does not start with the picture's name, so that equal ones are equal."""
    for name in (image, repr(image), image.rpartition("/")[2]):
        reason = reason.removeprefix(f"{name}: ")
    return reason


@dataclass(frozen=True)
class Outcome:
    """What asking came to.

    Attributes:
        asked: Questions that were put to the model or failed before.
        errors: Row and reason of questions that failed; of very many only the first.
        interrupted: Whether questions are left because somebody stopped the run.
        failures: All that failed, counted.
        total: Rows of the plan.
    """

    asked: int
    errors: Mapping[Row, str]
    interrupted: bool
    failures: Failures = field(default_factory=Failures)
    total: int = 0


def todo(plan: Plan, store: Store) -> Todo:
    """Writes the plan to the store and finds what is still to be asked."""
    work, answers = Todo(), store.answers
    digests, numbers = bytearray(), array("L")  # of what is to be asked: its key, its condition
    conditions: dict[str, int] = {}

    def rows() -> Iterator[Row]:
        for planned in plan:
            row = planned.row
            work.total += 1
            state = answers.state(row)
            if state:
                work.answered += 1
                work.states.append(_ANSWERED)
            elif answers.has_key(row.key):
                work.answered += 1
                work.states.append(_COPY)
            else:
                work.to_ask += 1
                work.again += state is False
                work.states.append(_ASK)
                digests.extend(hashlib.blake2b(row.key.encode(), digest_size=16).digest())
                numbers.append(conditions.setdefault(row.condition, len(conditions)))
            yield row

    store.write_plan(rows())
    states = np.frombuffer(work.states, np.uint8)
    asked = np.flatnonzero(states == _ASK)
    repeated = _repeated(digests)
    states[asked[repeated]] = _COPY
    counts = np.bincount(np.array(numbers, int)[~repeated], minlength=len(conditions))
    work.conditions = dict(zip(conditions, counts.tolist(), strict=True))
    work.requests = sum(work.conditions.values())
    return work


def _repeated(digests: bytearray) -> npt.NDArray[np.bool_]:
    """Which of the 16-byte digests have come before."""
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    order = np.lexsort(halves.T)  # stable: of equal ones the first stays first
    ordered = halves[order]
    repeated = np.zeros(len(halves), bool)
    repeated[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return repeated


def _for_row(response: Response, row: Row) -> Response:
    same = Row.of(response) == row
    return response if same else dataclasses.replace(response, **row._asdict())


class _Feeder(threading.Thread):
    """Has requests rendered ahead of the model, and hands them out in the plan's order.

    It works ahead in bursts, so that the model has all cores between them: see `resting`.
    """

    def __init__(
        self,
        plan: Plan,
        work: Todo,
        renderer: Renderer,
        batch: int,
        check: Guard | None = None,
        *,
        forked: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name="mmeval-plan", daemon=True)
        self.plan, self.work = plan, work
        self.stop = threading.Event()
        self._batch = batch
        #: Some requests, and how many they are; None at the end.
        self._ready: deque[tuple[Made, int] | None] = deque()
        self._lying = self._taken = 0
        self._full_since: int | None = None
        self._change = threading.Condition()
        self._largest = 0
        self._waiting = self._done = False
        self._last: Made | None = None
        workers = Workers(self._to_ask(), renderer, _threads(), check, self.stop)
        self._makers = workers if forked is None else Apart(workers, self.stop, forked)

    def start(self) -> None:
        self._makers.start()
        super().start()

    def run(self) -> None:
        try:
            self._share_out()
        except Exception as error:  # raised again where it is waited for
            failed: Made = Future()
            failed.set_exception(error)
            self._put(failed, 0)
        finally:
            self._done = True
            self._put(None, 0)
            self._makers.close(cancel=self.stop.is_set())

    def _share_out(self) -> None:
        """Has everything made, in blocks."""
        left, size = self.work.requests, 1  # few at first: the model waits for them
        while left and not self.stop.is_set():
            n = min(size, left)
            size = min(2 * size, _HANDED, self._batch)
            left -= n
            self._wait_for_room(n)
            self._put(self._makers.make(n), n)

    def _to_ask(self) -> Iterator[Planned]:
        left = self.work.requests
        # Always the same order, so that a byte for each tells what was found out before.
        for planned, state in zip(self.plan, self.work.states, strict=True):
            if self.stop.is_set() or not left:
                return
            if state == _ASK:
                left -= 1
                yield planned

    @property
    def threads(self) -> int:
        """Threads that render."""
        return self._makers.threads

    @property
    def resting(self) -> bool:
        """Whether nothing is being rendered."""
        rendered = self._last is None or self._last.done()
        return rendered and (self._waiting or self._done)

    def _enough(self) -> int:
        """Requests that suffice to rest."""
        return max(2 * self._batch, self._most() * 5 // 8)

    def _most(self) -> int:
        """Requests that may lie ready."""
        if not self._largest:  # how much memory they take is not known yet
            return 2 * self._batch
        return max(2 * self._batch, min(_AHEAD * self._batch, _AHEAD_BYTES // self._largest))

    def _wait_for_room(self, n: int) -> None:
        with self._change:
            if self._lying + n <= self._enough():
                return
            if self._full_since is None:
                self._full_since = self._taken
            if self._taken == self._full_since and self._lying + n <= self._most():
                return  # the batch under way does without our cores to its end: go on till then
            self._waiting = True
            while self._waiting and not self.stop.is_set():
                self._change.wait(0.1)  # stop may be set by a signal, which wakes nobody
            self._waiting = False
            self._full_since = None

    def _put(self, some: Made | None, n: int) -> None:
        with self._change:
            self._ready.append(None if some is None else (some, n))
            self._lying += n
            self._last = some or self._last  # the end comes behind what is still being rendered
            if not n or self._lying >= self._batch:
                self._change.notify()

    def _next(self) -> Made | None:
        with self._change:
            # Waking up for every few pictures would take longer than the pictures do.
            while not (self._ready or self.stop.is_set()):
                self._change.wait(_PATIENCE_S)
            item = None if self.stop.is_set() else self._ready.popleft()
            if item is None:
                return None
            some, n = item
            self._lying -= n
            self._taken += 1
            # Late, and then much: a batch begun while others render has fewer cores to its end.
            if self._waiting and self._lying <= max(self._batch, self._most() // 8):
                self._waiting = False
                self._change.notify()
            return some

    def __iter__(self) -> Iterator[Request | Failure]:
        """Yields what is ready until there is no more or `stop` is set."""
        while (some := self._next()) is not None:
            try:
                found = some.result()
            except CancelledError:  # stopped before anybody began with it
                return
            for item in found:
                if self.stop.is_set():
                    return
                if isinstance(item, Request):
                    size = sum(image.nbytes for image in item.images)
                    self._largest = max(self._largest, size, 1)
                yield item


def _threads() -> int:
    """Threads that render: half the cores, as a model in this process needs some too, else all."""
    cores = len(os.sched_getaffinity(0))
    alone = "torch" not in sys.modules  # no model of ours computes without
    return max(1, min(_MOST_THREADS, cores if alone else cores // 2))


def ask(
    plan: Plan,
    work: Todo,
    renderer: Renderer,
    model: Model,
    store: Store,
    *,
    progress: bool = True,
) -> Outcome:
    """Asks what is to be done and stores every answer as it comes.

    The first Ctrl-C lets the model finish what it has begun and keeps the answers; the second stops
    at once, losing that only.

    Args:
        plan: What to ask.
        work: What is left of it, from `todo`.
        renderer: Makes the pictures.
        model: Answers.
        store: Keeps the answers, and what failed in ``failures.jsonl``.
        progress: Show how far it is, on standard error.

    Returns:
        What it came to. Errors of earlier runs have been asked again, so `Outcome.failures` and
        ``failures.jsonl`` hold all there are.

    Raises:
        MmevalError: The run directory can no longer be written; what came before is kept.
    """
    failures = Failures()
    asked, interrupted = 0, False
    if work.requests:
        asked, interrupted = _ask(plan, work, renderer, model, store, failures, progress)
    if work.copies and not interrupted:
        _copy(plan, work, store, failures)
    if failures.rows or (store.path / "failures.jsonl").exists():
        store.write_failures(failures.records())
    return Outcome(asked, failures.examples, interrupted, failures, work.total)


def _ask(
    plan: Plan,
    work: Todo,
    renderer: Renderer,
    model: Model,
    store: Store,
    failures: Failures,
    progress: bool,
) -> tuple[int, bool]:
    """Returns how many were asked, and whether somebody stopped it."""
    device = getattr(model, "computes_on", None)
    apart = device is not None and Apart.possible()

    def forked() -> None:
        store.forget()
        if device == "cpu":
            os.nice(19)  # in the gaps that the model leaves

    feeder = _Feeder(
        plan,
        work,
        renderer,
        max(1, model.batch_size),
        guard(model),
        forked=forked if apart else None,
    )
    flying: dict[str, Row] = {}
    asked = 0

    def take(response: Response, row: Row, image: str | None = None) -> None:
        nonlocal asked
        _keep(store, response, row, failures, image)
        asked += 1
        bar.update(row.condition, failed=response.status == "error")

    def requests() -> Iterator[Request]:
        for item in feeder:
            if isinstance(item, Failure):
                take(item.response, Row.of(item.response), item.image)
            else:
                flying[item.key] = Row.of(item)
                cores.share()
                yield item

    with (
        _Progress(work.conditions, progress) as bar,
        _stoppable(feeder.stop, bar),
        _Cores(feeder, shared=not apart) as cores,
    ):
        feeder.start()
        try:
            for response in model.generate(requests()):
                row = flying.pop(response.key, None)
                if row is None:
                    raise MmevalError(
                        f"the model answered a request it was not asked ({response.key[:12]})"
                    )
                take(response, row)
            interrupted = feeder.stop.is_set() and asked < work.requests
        finally:
            feeder.stop.set()
            feeder.join()
    if asked < work.requests and not interrupted:
        raise MmevalError(f"the model left {work.requests - asked} requests without an answer")
    return asked, interrupted


def _keep(
    store: Store, response: Response, row: Row, failures: Failures, image: str | None = None
) -> None:
    """Stores an answer, unless it is the very error that is on record for this row."""
    if response.status == "error":
        failures.add(row, response.error or "unknown", image)
        before = store.answers.to_row(row)
        if before is not None and (before.status, before.error) == ("error", response.error):
            return
    store.append([_for_row(response, row)])


def _copy(plan: Plan, work: Todo, store: Store, failures: Failures) -> None:
    """Answers the rows whose recipe was asked for another row."""
    for planned, state in zip(plan, work.states, strict=True):
        if state == _COPY:
            response = store.answers.to_key(planned.row.key)
            if response is None:  # its request was never answered
                raise MmevalError(f"no answer to copy ({planned.row.key[:12]})")
            _keep(store, response, planned.row, failures)


class _Cores:
    """Leaves cores to the renderer while it works, and gives them to the model while it rests.

    More threads than cores would spin, waiting for each other. A renderer in a process of its own
    needs none: it is content with what is left.
    """

    def __init__(self, feeder: _Feeder, *, shared: bool) -> None:
        self._feeder = feeder
        # Where it is absent, the model does without.
        self._torch = sys.modules.get("torch") if shared else None
        self._all = self._now = self._torch.get_num_threads() if self._torch else 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._set(self._all)

    def share(self) -> None:
        """Sets how many threads the model may use for what it does next."""
        if self._all > 1:
            rest = max(1, self._all - self._feeder.threads)
            self._set(self._all if self._feeder.resting else rest)

    def _set(self, threads: int) -> None:
        if self._torch is not None and threads != self._now:
            self._torch.set_num_threads(threads)
            self._now = threads


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

    def __init__(self, conditions: Mapping[str, int], shown: bool) -> None:
        self.conditions, self.total = conditions, sum(conditions.values())
        self.done, self.failed, self._said_done = 0, 0, 0
        self.by_condition: Counter[str] = Counter()
        self._plain = shown and not sys.stderr.isatty()
        self._began = self._said = time.monotonic()
        self._bar: tqdm[Any] | None = None
        if shown and not self._plain:
            from tqdm import tqdm

            # A terminal that does not say its size (0 columns) would get an empty bar.
            sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
            self._bar = tqdm(
                total=self.total,
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

    def update(self, condition: str, *, failed: bool) -> None:
        self.done += 1
        self.failed += failed
        self.by_condition[condition] += 1
        if self._bar is not None:
            if time.monotonic() - self._said > 1.0:
                self._said = time.monotonic()
                told = {"failed": self.failed} if self.failed else {}
                self._bar.set_postfix(told | {"": self._conditions(1)}, refresh=False)
            self._bar.update()
        elif self._plain and time.monotonic() - self._said > _PLAIN_S:
            self._line()

    def _line(self) -> None:
        self._said, self._said_done = time.monotonic(), self.done
        seconds = max(self._said - self._began, 1e-9)
        rate = self.done / seconds
        failed = f", {self.failed} failed" if self.failed else ""
        left = f", {_time((self.total - self.done) / rate)} left" if self.done < self.total else ""
        self.say(
            f"asked {self.done} of {self.total} ({rate:.1f}/s{left}{failed}); {self._conditions(3)}"
        )

    def _conditions(self, most: int) -> str:
        """How far the first unfinished conditions are, and how many are finished or not begun."""
        under_way, finished = [], 0
        for name, total in self.conditions.items():
            done = self.by_condition[name]
            finished += done == total
            if 0 < done < total:
                under_way.append(f"{name} {done}/{total}")
        shown = under_way[:most]
        if len(under_way) > most:
            shown.append(f"{len(under_way) - most} more under way")
        return ", ".join([*shown, f"{finished} of {len(self.conditions)} conditions done"])

    def say(self, message: str) -> None:
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    """Returns a duration as ``42 s``, ``3:07 min`` or ``5:20 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
