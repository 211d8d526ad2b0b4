"""The run directory: what was planned, asked and answered, safe against crashes and second writers.

====================  =========================================================================
``config.yaml``       the configuration as resolved, without secrets
``environment.json``  versions, hardware, model and data fingerprints
``samples.jsonl``     the questions, with their benchmark
``requests.jsonl``    the current plan: one row (key, benchmark, sample, condition, ...) a line
``responses.jsonl``   append-only; the last line of a row counts; rows outside the plan are kept
``scores.jsonl``      remade by ``mmeval score``, as are ``metrics.json`` and ``report.html``
====================  =========================================================================
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from mmeval.errors import MmevalError
from mmeval.schema import Response, Sample, canonical, read_jsonl

__all__ = ["Row", "Store", "plan", "responses", "samples", "write_atomic"]


class Row(NamedTuple):
    """One planned question: which recipe (`key`) answers which sample under which condition.

    `purpose` says what for (see `mmeval.schema.PURPOSES`); votes are counted by `trial`.
    """

    key: str
    benchmark: str
    sample: str
    condition: str
    trial: int
    purpose: str = "answer"

    @classmethod
    def of(cls, response: Response) -> Self:
        """Returns the row that a response answers."""
        return cls(
            response.key,
            response.benchmark,
            response.sample,
            response.condition,
            response.trial,
            response.purpose,
        )


def write_atomic(path: Path, text: str) -> None:
    """Writes a file in one step: a reader sees the old content or the new, never half."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, in one step (see `write_atomic`)."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(canonical(record) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Store:
    """Writes one run directory; a context manager that holds the directory's lock.

    Args:
        path: The run directory; made if it does not exist.

    Raises:
        MmevalError: Another process writes to it, or ``responses.jsonl`` is damaged in the middle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = False
        self._file: IO[bytes] | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MmevalError(f"{self.path}: cannot be made: {error.strerror}") from None
        self._acquire()
        try:
            self.repaired = _repair(self.path / "responses.jsonl")
            self._file = (self.path / "responses.jsonl").open("ab")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in (self._file, self._lock):
            if handle is not None:
                handle.close()
        self._file = self._lock = None

    def _acquire(self) -> None:
        import fcntl

        lock = (self.path / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise MmevalError(
                f"{self.path}: another mmeval (process {holder}) is writing this run; wait for it "
                "or choose another --out"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def answers(self) -> dict[Row, Response]:
        """Returns the last response to every row, also rows of earlier plans."""
        return _answers(self.path)

    def append(self, batch: Iterable[Response]) -> None:
        """Appends responses and waits until they are on the disk."""
        if self._file is None:
            raise RuntimeError("the store is not open")
        lines = "".join(canonical(response.to_dict()) + "\n" for response in batch)
        if lines:
            self._file.write(lines.encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, name: str, text: str) -> None:
        """Writes one of the directory's other files in one step."""
        write_atomic(self.path / name, text)

    def write_samples(self, found: Iterable[tuple[str, Sample]]) -> None:
        """Writes ``samples.jsonl`` from pairs of benchmark and sample."""
        write_jsonl(
            self.path / "samples.jsonl",
            ({"benchmark": benchmark, **sample.to_dict()} for benchmark, sample in found),
        )

    def write_plan(self, rows: Iterable[Row]) -> None:
        """Writes ``requests.jsonl``."""
        write_jsonl(self.path / "requests.jsonl", (row._asdict() for row in rows))


def _repair(path: Path) -> bool:
    """Cuts a torn last line, left by a crash; returns whether there was one."""
    if not path.exists():
        return False
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        start = end
        while start > 0:  # back to the last newline, a block at a time
            block = min(65536, start)
            file.seek(start - block)
            newline = file.read(block).rfind(b"\n")
            if newline >= 0:
                start = start - block + newline + 1
                break
            start -= block
        if start == end:
            return False
        file.truncate(start)
        file.flush()
        os.fsync(file.fileno())
    return True


def _records(path: Path, *, torn: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a file of ours; `torn` allows an unfinished last line."""
    bad: MmevalError | None = None
    for number, value in read_jsonl(path):
        if bad is not None:
            raise bad
        if isinstance(value, dict):
            yield number, value
            continue
        bad = MmevalError(
            f"{path}:{number}: damaged line ({value}); remove it and run again to ask it anew"
        )
    if bad is not None and not torn:
        raise bad


def _answers(run: Path) -> dict[Row, Response]:
    path = run / "responses.jsonl"
    answers: dict[Row, Response] = {}
    for number, data in _records(path, torn=True) if path.exists() else ():
        try:
            response = Response.from_dict(data)
        except MmevalError as error:
            raise MmevalError(f"{path}:{number}: {error}") from None
        answers[Row.of(response)] = response
    return answers


def _run_file(run: str | os.PathLike[str], name: str) -> Path:
    path = Path(run) / name
    if not path.is_file():
        raise MmevalError(
            f"{Path(run)}: has no {name}; is it a run directory? (`mmeval run` makes one, "
            "`mmeval score` scores it)"
        )
    return path


def plan(run: str | os.PathLike[str]) -> Iterator[Row]:
    """Yields the rows of a run's current plan.

    Raises:
        MmevalError: The folder is not a run directory.
    """
    for _, data in _records(_run_file(run, "requests.jsonl")):
        yield Row(**data)


def samples(run: str | os.PathLike[str]) -> dict[tuple[str, str], Sample]:
    """Returns a run's samples by benchmark and id.

    Raises:
        MmevalError: The folder is not a run directory.
    """
    found: dict[tuple[str, str], Sample] = {}
    for _, data in _records(_run_file(run, "samples.jsonl")):
        benchmark = data.pop("benchmark")
        sample = Sample.from_dict(data)
        found[benchmark, sample.id] = sample
    return found


def responses(run: str | os.PathLike[str]) -> Iterator[Response]:
    """Yields the counting response to each row of the current plan, in the plan's order.

    Rows that have not been asked yet (an interrupted run) are left out.

    Raises:
        MmevalError: The folder is not a run directory.
    """
    answers = _answers(Path(run))
    for row in plan(run):
        with contextlib.suppress(KeyError):
            yield answers[row]


def read_records(run: str | os.PathLike[str], name: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of one of a run's JSON Lines files.

    Raises:
        MmevalError: The folder is not a run directory, or lacks the file.
    """
    for _, data in _records(_run_file(run, name)):
        yield data


def read_json(run: str | os.PathLike[str], name: str) -> Any:  # noqa: ANN401
    """Reads ``metrics.json`` or ``environment.json`` of a run.

    Raises:
        MmevalError: The folder is not a run directory or has not been scored.
    """
    return json.loads(_run_file(run, name).read_text(encoding="utf-8"))
