"""The run directory: what was planned, asked and answered, safe against crashes and second writers.

====================  =========================================================================
``config.yaml``       the configuration as resolved, without secrets
``environment.json``  versions, hardware, model and data fingerprints
``samples.jsonl``     the questions, with their benchmark
``requests.jsonl``    the current plan: one row (key, benchmark, sample, condition, ...) a line
``responses.jsonl``   append-only; the last line of a row counts; rows outside the plan are kept
``failures.jsonl``    what could not be asked or answered, one line a picture or reason
``scores.jsonl``      remade by ``mmeval score``, as are ``metrics.json`` and ``report.html``
====================  =========================================================================

Each line of ``responses.jsonl`` ends in ``"crc"``: the CRC-32 (hexadecimal, as of zlib) of the
line's bytes before it. A damaged line counts as not written: it is named, and asked again. All
other files are replaced in one step. Answers are read from the disk when they are needed; memory
holds 48 bytes for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import mmap
import os
import socket
import struct
import threading
import warnings
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from mmeval.errors import MmevalError
from mmeval.schema import Request, Response, Sample, canonical, parse_json

__all__ = [
    "Answers",
    "Row",
    "Store",
    "is_finished",
    "mark_finished",
    "plan",
    "responses",
    "samples",
    "write_atomic",
]

#: At most so long (seconds) an answer is on its way to the disk; a power cut costs these answers.
SYNC_S = 0.2


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
    def of(cls, item: Request | Response) -> Self:
        """Returns the row that a request asks or a response answers."""
        return cls(item.key, item.benchmark, item.sample, item.condition, item.trial, item.purpose)


# --- Files that are replaced in one step ----------------------------------------------------------


def write_atomic(path: Path, text: str) -> None:
    """Writes a file in one step: a reader sees the old content or the new, never half.

    Raises:
        MmevalError: It cannot be written; what was there before still is.
    """
    _replace(path, [text.encode()])


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, in one step (see `write_atomic`)."""
    _replace(path, (f"{canonical(record)}\n".encode() for record in records))


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    # The process in the name: two may write the same summary at once.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Puts the names of new files on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> MmevalError:
    return MmevalError(
        f"{path}: cannot be written ({error.strerror}); all answers before are kept: make room or "
        "set the rights, then run the same command again"
    )


def _remove_leftovers(folder: Path) -> None:
    """Removes half-written files of processes that were killed."""
    for path in folder.glob(".*.tmp"):
        process = path.name.split(".")[-2]
        if process.isdecimal():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)
            except PermissionError:
                pass  # somebody else's, alive


# --- Lines of responses.jsonl ---------------------------------------------------------------------

_FIELDS = tuple(field.name for field in dataclasses.fields(Response))
_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=dict
).encode
_SEAL = len(',"crc":"01234567"}')


def _line(response: Response) -> bytes:
    """Returns a response as a line that tells whether it is whole."""
    # Not to_dict: it copies what is only written.
    # A server may send half of a character (a lone surrogate); UTF-8 has none: "?" stands for it.
    body = _ENCODE({name: getattr(response, name) for name in _FIELDS}).encode(errors="replace")
    body = body[:-1]
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def _fields(raw: bytes) -> dict[str, Any]:
    """Returns the fields of a line without its line break.

    Raises:
        MmevalError: It is damaged. Lines of mmeval 0.1 have no checksum: they must be a response.
    """
    body, seal = raw[:-_SEAL], raw[-_SEAL:]
    if seal.startswith(b',"crc":"') and seal.endswith(b'"}'):
        if seal[8:16] != b"%08x" % zlib.crc32(body):
            raise MmevalError("its checksum is wrong")
        try:
            fields: dict[str, Any] = json.loads(f"{body.decode()}}}")
        except ValueError:  # once in 2 ** 32 damaged lines
            raise MmevalError("it is not JSON") from None
        return fields
    try:
        fields = parse_json(raw.decode())
    except UnicodeDecodeError:
        raise MmevalError("it is not UTF-8") from None
    if not isinstance(fields, dict):
        raise MmevalError("it is no JSON object")
    Response.from_dict(fields)
    return fields


class _Table:
    """128-bit digests and a number for each; of equal digests the greatest number counts.

    A dict would take five times the memory. New entries go through a small one.
    """

    def __init__(self) -> None:
        self._high, self._low, self._number = _words(0), _words(0), _words(0)
        self._new: dict[bytes, int] = {}

    def add(self, digest: bytes, number: int) -> None:
        self._new[digest] = max(number, self._new.get(digest, -1))
        if len(self._new) >= _MERGED:
            self._merge()

    def find(self, digest: bytes) -> int | None:
        found = self._new.get(digest)
        high, low = _TWO.unpack(digest)
        place = bisect_left(self._high, high)
        while place < len(self._high) and self._high[place] == high:
            if self._low[place] == low:
                number = self._number[place]
                return number if found is None else max(found, number)
            place += 1
        return found

    def _merge(self) -> None:
        import numpy as np

        new = np.frombuffer(b"".join(self._new), np.uint64).reshape(-1, 2)
        numbers = np.fromiter(self._new.values(), np.uint64, len(self._new))
        self._new.clear()
        old = (self._high, self._low, self._number)
        columns = [
            np.concatenate([np.frombuffer(words, np.uint64), added])
            for words, added in zip(old, (*new.T, numbers), strict=True)
        ]
        order = np.lexsort(columns[::-1])
        ordered = [column[order] for column in columns]
        last = np.ones(len(order), bool)
        last[:-1] = False
        for column in ordered[:2]:
            last[:-1] |= column[1:] != column[:-1]
        kept = [_words(int(last.sum())) for _ in ordered]
        for words, column in zip(kept, ordered, strict=True):
            np.frombuffer(words, np.uint64)[:] = column[last]
        self._high, self._low, self._number = kept


def _words(n: int) -> memoryview[int]:
    """64-bit words, which go back to the system when they are dropped; a heap would keep holes."""
    return memoryview(mmap.mmap(-1, 8 * n) if n else b"").cast("Q")


_MERGED = 1 << 16
_TWO = struct.Struct("=QQ")
_OK = 1 << 62  # above every offset


def _digest(row: Row) -> bytes:
    text = "\x1f".join((*row[:4], str(row.trial), row.purpose))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Answers:
    """Finds the answers in a ``responses.jsonl``, which may be growing meanwhile.

    Args:
        path: The file; it need not exist.

    Attributes:
        damaged: Numbers of the lines that cannot be read, from 1.
        whole: Bytes up to the end of the last whole line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[int] = []
        self.whole = 0
        self._rows, self._keys = _Table(), _Table()
        self._any = False
        self._file: IO[bytes] | None = None
        if path.exists():
            self._scan()

    def _scan(self) -> None:
        with self.path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                if not raw.endswith(b"\n"):
                    return  # torn by a crash, or still being written
                if raw.strip():
                    try:
                        row, ok = _row(raw.rstrip(b"\r\n"))
                    except MmevalError:
                        self.damaged.append(number)
                    else:
                        self.add(row, self.whole, ok=ok)
                self.whole += len(raw)

    def add(self, row: Row, offset: int, *, ok: bool) -> None:
        """Notes that the line at `offset` answers `row`; `ok` unless it is an error."""
        self._any = True
        place = offset << 1 | ok
        self._rows.add(_digest(row), place)
        self._keys.add(_key_digest(row.key), place | _OK if ok else place)

    def state(self, row: Row) -> bool | None:
        """Whether the last answer to a row is one; False for an error, None without any."""
        place = self._rows.find(_digest(row)) if self._any else None
        return None if place is None else bool(place & 1)

    def to_row(self, row: Row) -> Response | None:
        """Returns the last response to a row."""
        return self._read(self._rows.find(_digest(row)))

    def to_key(self, key: str) -> Response | None:
        """Returns a response to this recipe, whatever the row; an error only if all are."""
        return self._read(self._keys.find(_key_digest(key)))

    def has_key(self, key: str) -> bool:
        """Whether there is an answer to this recipe that is no error."""
        place = self._keys.find(_key_digest(key)) if self._any else None
        return place is not None and bool(place & 1)

    def _read(self, place: int | None) -> Response | None:
        if place is None:
            return None
        if self._file is None:
            self._file = self.path.open("rb")
        self._file.seek((place & ~_OK) >> 1)
        return Response.from_dict(_fields(self._file.readline().rstrip(b"\r\n")))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _row(raw: bytes) -> tuple[Row, bool]:
    fields = _fields(raw)
    try:
        row = Row(
            fields["key"],
            fields["benchmark"],
            fields["sample"],
            fields["condition"],
            fields["trial"],
            fields.get("purpose", "answer"),
        )
        return row, fields["status"] != "error"
    except KeyError as error:
        raise MmevalError(f"it has no {error.args[0]}") from None


def _key_digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"


# --- Writing --------------------------------------------------------------------------------------


class Store:
    """Writes one run directory; a context manager that holds the directory's lock.

    Args:
        path: The run directory; made if it does not exist.
        sync_s: An answer is on the disk after at most so many seconds; 0 has `append` wait for it.

    Attributes:
        repaired: Whether a torn last line, left by a crash, was cut off.
        answers: Where the answers are.

    Raises:
        MmevalError: Another process writes to it, or it cannot be written.
    """

    def __init__(self, path: Path, sync_s: float = SYNC_S) -> None:
        self.path = path
        self.sync_s = sync_s
        self.repaired = False
        self.answers: Answers
        self._lock: IO[str] | None = None
        self._file: int | None = None
        self._end = 0
        self._broken: MmevalError | None = None
        self._told = False
        self._written, self._closing = threading.Event(), threading.Event()
        self._syncer: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire()
            _remove_leftovers(self.path)
            self._open()
        except OSError as error:
            self._release()
            raise _unwritable(self.path, error) from None
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._syncer is not None:
                self._closing.set()
                self._written.set()
                self._syncer.join()
            self._sync()
            if self._broken is not None and kind is None and not self._told:
                raise self._broken
        finally:
            self._release()

    def _acquire(self) -> None:
        import fcntl

        # A link in its place would have us overwrite a file elsewhere.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.fdopen(os.open(self.path / ".lock", flags, 0o666), "r+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise MmevalError(
                f"{self.path}: another mmeval ({holder}) is writing this run; wait for it or "
                "choose another --out"
            ) from None
        except OSError as error:
            lock.close()
            raise MmevalError(
                f"{self.path}: its file system grants no locks ({error.strerror}), and two writers "
                "would spoil a run; choose an --out on a local disk, or mount it with locks"
            ) from None
        self._lock = lock
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()

    def _open(self) -> None:
        path = self.path / "responses.jsonl"
        self.answers = Answers(path)
        if self.answers.damaged:
            warnings.warn(
                f"{path}: line {_listed(self.answers.damaged)}: damaged; what was asked there is "
                "asked again",
                stacklevel=3,
            )
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o666)
        self._end = self.answers.whole
        if os.fstat(self._file).st_size > self._end:
            self.repaired = True
            os.ftruncate(self._file, self._end)
            os.fsync(self._file)
        if self.sync_s > 0:
            self._syncer = threading.Thread(
                target=self._keep_synced, name="mmeval-sync", daemon=True
            )
            self._syncer.start()

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self.answers.close()
        if self._lock is not None:
            self._lock.close()
        self._file = self._lock = None

    def forget(self) -> None:
        """Lets go of the files in a process that was forked, else it would hold the lock, too."""
        if self._lock is not None:
            self._lock.close()
        if self._file is not None:
            os.close(self._file)
        self._lock = self._file = None

    def append(self, batch: Iterable[Response]) -> None:
        """Appends responses. They survive the process from now on, the machine after `sync_s`.

        Raises:
            MmevalError: The disk is full or fails. Whole lines are kept, none is left half.
        """
        if self._file is None:
            raise RuntimeError("the store is not open")
        self._check()
        rows, lines = [], []
        for response in batch:
            rows.append((Row.of(response), response.status != "error"))
            lines.append(_line(response))
        if not lines:
            return
        kept = self._write(b"".join(lines))
        for (row, ok), line in zip(rows, lines, strict=True):
            if len(line) > kept:
                break
            self.answers.add(row, self._end, ok=ok)
            self._end += len(line)
            kept -= len(line)
        self._check()
        if not self._written.is_set():  # setting it takes longer
            self._written.set()
        if self._syncer is None:
            self._sync()

    def _check(self) -> None:
        if self._broken is not None:
            self._told = True
            raise self._broken

    def _write(self, data: bytes) -> int:
        """Writes at the end and returns how much is kept: everything, or else whole lines."""
        file, done = self._file, 0
        assert file is not None  # noqa: S101
        try:
            while done < len(data):
                done += os.write(file, data[done:] if done else data)
        except OSError as error:
            self._broken = _unwritable(self.path / "responses.jsonl", error)
            done = data.rfind(b"\n", 0, done) + 1
            # Where even this fails, the next run cuts the torn line.
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._end + done)
        return done

    def _keep_synced(self) -> None:
        while not self._closing.is_set():
            self._written.wait()
            self._sync()
            self._closing.wait(self.sync_s)

    def _sync(self) -> None:
        if not self._written.is_set() or self._file is None:
            return
        self._written.clear()
        try:
            os.fsync(self._file)
        except OSError as error:
            self._broken = _unwritable(self.path / "responses.jsonl", error)

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

    def write_failures(self, failures: Iterable[Mapping[str, Any]]) -> None:
        """Writes ``failures.jsonl``."""
        write_jsonl(self.path / "failures.jsonl", failures)


# --- Whether anything changed ---------------------------------------------------------------------


def is_finished(run: Path) -> bool:
    """Whether a run directory is as `mark_finished` left it, and mmeval's code is the same too.

    Told by content, not by dates; a gigabyte takes about a second.
    """
    try:
        return (run / ".finished").read_text() == _content(run)
    except FileNotFoundError:
        return False


def mark_finished(run: Path) -> None:
    """Notes that a run is asked, scored and reported, so that doing it again can be left out."""
    write_atomic(run / ".finished", _content(run))


def _content(run: Path) -> str:
    digest = hashlib.sha256(_code().encode())
    for path in sorted(run.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                part = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {part}\n".encode())
    return digest.hexdigest()


@functools.cache
def _code() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# --- Reading --------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file of ours that is always whole."""
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                if not raw.strip():
                    continue
                try:
                    value = json.loads(raw.decode())  # bytes would be searched for their encoding
                except ValueError:
                    value = None
                if not isinstance(value, dict):
                    raise MmevalError(
                        f"{path}:{number}: damaged line; run or score again to remake the file"
                    )
                yield value
    except OSError as error:
        raise MmevalError(f"{path}: cannot be read: {error.strerror}") from None


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
    for data in _records(_run_file(run, "requests.jsonl")):
        yield Row(**data)


def samples(run: str | os.PathLike[str]) -> dict[tuple[str, str], Sample]:
    """Returns a run's samples by benchmark and id.

    Raises:
        MmevalError: The folder is not a run directory.
    """
    found: dict[tuple[str, str], Sample] = {}
    for data in _records(_run_file(run, "samples.jsonl")):
        benchmark = data.pop("benchmark")
        sample = Sample.from_dict(data)
        found[benchmark, sample.id] = sample
    return found


def responses(run: str | os.PathLike[str], answers: Answers | None = None) -> Iterator[Response]:
    """Yields the counting response to each row of the current plan, in the plan's order.

    Rows that have not been asked yet (an interrupted run) are left out, as are damaged lines, with
    a warning. The run may be being written meanwhile.

    Args:
        run: The run directory.
        answers: Where its answers are, for who knows it already.

    Raises:
        MmevalError: The folder is not a run directory.
    """
    _run_file(run, "requests.jsonl")
    found = answers or Answers(Path(run) / "responses.jsonl")
    if answers is None and found.damaged:
        warnings.warn(
            f"{found.path}: line {_listed(found.damaged)}: damaged and left out; `mmeval run` "
            "asks it again",
            stacklevel=2,
        )
    try:
        for row in plan(run):
            response = found.to_row(row)
            if response is not None:
                yield response
    finally:
        found.close()


def read_records(run: str | os.PathLike[str], name: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of one of a run's JSON Lines files.

    Raises:
        MmevalError: The folder is not a run directory, or lacks the file.
    """
    yield from _records(_run_file(run, name))


def read_json(run: str | os.PathLike[str], name: str) -> Any:  # noqa: ANN401
    """Reads ``metrics.json`` or ``environment.json`` of a run.

    Raises:
        MmevalError: The folder is not a run directory or has not been scored.
    """
    return json.loads(_run_file(run, name).read_text(encoding="utf-8"))
