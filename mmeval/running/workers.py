"""Who makes the requests of a plan: threads of this process, or a process beside it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import json
import mmap
import multiprocessing
import os
import queue
import signal
import socket
import struct
import sys
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import modalities
from mmeval.errors import MmevalError, is_plain
from mmeval.privacy import Guard
from mmeval.running.plan import Planned
from mmeval.running.render import Renderer
from mmeval.schema import Condition, ImageRef, Request, Response

__all__ = ["Apart", "Failure", "Made", "Workers"]

#: Pictures that cannot be read whose reason is remembered, so that they are not tried again.
_UNREADABLE = 16


class Failure(NamedTuple):
    """The response to a request that could not be made, and the picture that was to blame."""

    response: Response
    image: str | None


Made = Future[list[Request | Failure]]


class Workers:
    """Threads that make requests. Questions on the same pictures go to one, the next to the next.

    Each has its own pictures: nothing to be locked, none decoded twice.

    Args:
        stream: What to make, in this order.
        renderer: Makes the pictures.
        threads: How many.
        check: Looks at images before they are shown to a model.
        stop: Set to have no more made.
    """

    def __init__(
        self,
        stream: Iterator[Planned],
        renderer: Renderer,
        threads: int,
        check: Guard | None,
        stop: threading.Event,
    ) -> None:
        self.threads = threads
        self._stream = stream
        self._workers = [
            _Worker(copy.deepcopy(renderer), check, stop, threads > 1) for _ in range(threads)
        ]
        self._turn = 0
        self._images: tuple[ImageRef, ...] = ()

    def start(self) -> None:
        """Begins; there is nothing to be done before the first are asked for."""

    def make(self, n: int) -> Made:
        """Has the next requests made, fewer only at the end."""
        some = list(itertools.islice(self._stream, n))
        if some:
            if some[0].sample.images != self._images:  # else their pictures are there already
                self._turn = (self._turn + 1) % len(self._workers)
            self._images = some[-1].sample.images
        return self._workers[self._turn].hand(some)

    def close(self, *, cancel: bool) -> None:
        """Ends the threads once all is made, or with `cancel` once what they have begun is."""
        for worker in self._workers:
            worker.close(cancel=cancel)


class _Worker:
    """Renders the pictures given to it, in order; a picture is decoded once.

    A failure travels as the request's error response. Where there is one worker only it has no
    thread of its own, as handing over to it would cost more than it gains.
    """

    def __init__(
        self, renderer: Renderer, check: Guard | None, stop: threading.Event, threaded: bool
    ) -> None:
        self.renderer, self.check, self.stop = renderer, check, stop
        self._thread = ThreadPoolExecutor(1, "mmeval-render") if threaded else None
        self._calm = False
        self._images: tuple[ImageRef, ...] = ()
        self._files: dict[object, Path] = {}
        self._unreadable: OrderedDict[tuple[object, ...], str] = OrderedDict()

    def hand(self, some: Sequence[Planned]) -> Made:
        """Has some requests made."""
        if self._thread is not None:
            return self._thread.submit(self._requests, some)
        made: Made = Future()
        made.set_result(self._requests(some))
        return made

    def close(self, *, cancel: bool) -> None:
        """Ends the thread once all is made, or with `cancel` once what it has begun is."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=cancel)

    def _requests(self, some: Sequence[Planned]) -> list[Request | Failure]:
        made = []
        for planned in some:
            if self.stop.is_set():  # nobody will ask them
                break
            made.append(self.request(planned))
        return made

    def request(self, planned: Planned) -> Request | Failure:
        if planned.problem is not None:
            paths = (image.path for image in planned.sample.images)
            image = next((p for p in paths if planned.problem.startswith((p, repr(p)))), None)
            return Failure(Response.failed(_request(planned), planned.problem), image)
        self._calm = self._calm or _calm()
        images = []
        for ref, look in zip(planned.sample.images, planned.looks, strict=True):
            try:
                images.append(self._picture(planned, ref, look))
            except Exception as error:  # one bad image must not end the run
                plain = is_plain(error)
                reason = str(error) if plain else f"{type(error).__name__} while rendering"
                # The path on this machine says no more than the one in the question.
                reason = reason.removeprefix(f"{getattr(error, 'file', None)}: ")
                if isinstance(error, modalities.ImageError):
                    self._remember(planned, ref, reason)
                failed = Response.failed(_request(planned), f"{ref.path}: {reason}")
                return Failure(failed, ref.path)
        return _request(planned, images)

    def _picture(self, planned: Planned, image: ImageRef, look: Condition) -> npt.NDArray[np.uint8]:
        if self._unreadable:
            known = self._unreadable.get(_reference(planned, image))
            if known is not None:
                raise MmevalError(known)
        if planned.sample.images != self._images:
            self._images = planned.sample.images
            self._files.clear()
        key = _reference(planned, image)  # another benchmark may have images of the same names
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = planned.benchmark.locate(image)
        if self.check is not None:
            self.renderer.check(file, image, self.check)
        return self.renderer.render(file, image, look, planned.pool)

    def _remember(self, planned: Planned, image: ImageRef, reason: str) -> None:
        self._unreadable[_reference(planned, image)] = reason
        if len(self._unreadable) > _UNREADABLE:
            self._unreadable.popitem(last=False)


def _request(planned: Planned, images: Sequence[npt.NDArray[np.uint8]] = ()) -> Request:
    # Its own: the plan shares them among conditions, and a model may change what it is given.
    messages = ({**each, "content": [*map(dict, each["content"])]} for each in planned.messages)
    return Request(
        *planned.row[:5],
        tuple(messages),
        tuple(images),
        planned.candidates,
        planned.max_new_tokens,
        planned.temperature,
        planned.row.purpose,
    )


def _reference(planned: Planned, image: ImageRef) -> tuple[object, ...]:
    return planned.benchmark.root, *image.key


def _calm() -> bool:
    """Keeps torch, once something has imported it, to one core in this thread.

    One picture is too little work to share.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    return torch is not None


# --- A process of its own -------------------------------------------------------------------------


class Apart:
    """`Workers` in a process of their own, for a model that computes in this one.

    In one process they would wait for each other: only one thread at a time runs Python code, and
    handing that over takes longer than most of what is done in between. The process is forked, so
    it knows what this one knows (modalities that somebody registered, say), and uses nothing that
    other threads of this one may hold. Pictures come as shared memory, everything else as JSON.

    Args:
        workers: Not begun yet.
        stop: Set to have no more made; what is under way is then not waited for.
        forked: Called in the new process first, to let go of what is this one's.
    """

    def __init__(self, workers: Workers, stop: threading.Event, forked: Callable[[], None]) -> None:
        self.threads = workers.threads
        self._stop = stop
        self._asked: deque[Made] = deque()
        self._ended: Exception | None = None
        self._lock = threading.Lock()
        self._channel, self._theirs = socket.socketpair()

        def serve() -> None:
            forked()
            self._channel.close()
            _serve(self._theirs, workers)

        self._process = multiprocessing.get_context("fork").Process(target=serve, daemon=True)
        self._reader = threading.Thread(target=self._read, name="mmeval-pictures", daemon=True)

    @staticmethod
    def possible() -> bool:
        """Whether there are forked processes (no daemon may have one) and memory without a name."""
        if multiprocessing.current_process().daemon or not hasattr(os, "memfd_create"):
            return False
        try:
            os.close(os.memfd_create("mmeval-pictures"))
        except OSError:  # forbidden in some containers
            return False
        return True

    def start(self) -> None:
        """Begins.

        Raises:
            MmevalError: There can be no more processes.
        """
        # What is so anyway; unsaid, tokenizers would warn at each fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        try:
            with warnings.catch_warnings():  # Python 3.12 warns of the locks that are not used
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process.start()
        except OSError as error:
            raise MmevalError(
                f"no process can be started to make the pictures ({error.strerror}); raise the "
                "limits of processes (ulimit -u) or memory"
            ) from None
        self._theirs.close()
        self._reader.start()

    def make(self, n: int) -> Made:
        """Has the next requests made, fewer only at the end."""
        made: Made = Future()
        with self._lock:
            if self._ended is not None:
                made.set_exception(self._ended)
                return made
            self._asked.append(made)
        with contextlib.suppress(OSError):  # `_read` finds out, too, and says why
            self._channel.sendall(_COUNT.pack(n))
        return made

    def close(self, *, cancel: bool) -> None:
        """Ends the process once all is made, or at once with `cancel` or when `stop` is set."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        while self._reader.is_alive():
            if cancel or self._stop.is_set():
                self._process.kill()
            self._reader.join(0.05)
        self._channel.close()

    def _read(self) -> None:
        problem: Exception | None = None
        try:
            self._receive_all()
        except Exception as error:  # raised again where it is waited for
            problem = error
            self._process.kill()
        self._process.join()
        code = self._process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        ended: Exception = problem or MmevalError(
            f"the process that makes the pictures ended ({how}; SIGKILL often means that memory "
            "ran out); the answers are kept: run the same command again"
        )
        with self._lock:
            self._ended = CancelledError() if self._stop.is_set() else ended
            for made in self._asked:
                made.set_exception(self._ended)

    def _receive_all(self) -> None:
        pictures: list[npt.NDArray[np.uint8]] = []
        while (message := _receive(self._channel)) is not None:
            text, memory = message
            said = json.loads(text)
            if "error" in said:
                self._asked.popleft().set_exception(_error(said))
                continue
            pictures = _pictures(said["pictures"], memory, pictures)
            made = [_unpacked(item, pictures) for item in said["made"]]
            self._asked.popleft().set_result(made)


_COUNT, _HEAD = struct.Struct("=I"), struct.Struct("=QQ")


def _serve(channel: socket.socket, workers: Workers) -> None:
    """Makes requests, as many as are asked for each time, until nobody can ask any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the other process decides what they mean
        signal.signal(number, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(0)  # its threads did not come along
    _calm()
    made: queue.SimpleQueue[Made | None] = queue.SimpleQueue()
    sender = threading.Thread(target=_send_all, args=(channel, made), daemon=True)
    sender.start()
    while (count := _exactly(channel, _COUNT.size)) is not None:
        try:
            made.put(workers.make(*_COUNT.unpack(count)))
        except Exception as error:  # of the plan; raised again where it is waited for
            failed: Made = Future()
            failed.set_exception(error)
            made.put(failed)
    made.put(None)
    sender.join()


def _send_all(channel: socket.socket, made: queue.SimpleQueue[Made | None]) -> None:
    before: list[npt.NDArray[np.uint8]] = []
    try:
        while (some := made.get()) is not None:
            before = _send_made(channel, some, before)
    except (BrokenPipeError, ConnectionResetError):  # nobody is there any more
        os._exit(0)
    except Exception as error:
        # No more than its name: what it says may quote an image.
        print(f"mmeval: {type(error).__name__} while handing pictures over", file=sys.stderr)
        os._exit(1)


def _send_made(
    channel: socket.socket, some: Made, before: Sequence[npt.NDArray[np.uint8]]
) -> list[npt.NDArray[np.uint8]]:
    """Sends some requests, without the pictures that were sent before; returns theirs."""
    try:
        items = some.result()
    except Exception as error:
        said = {"error": type(error).__name__}
        _send(channel, said | ({"text": str(error)} if is_plain(error) else {}), [])
        return []
    pictures: list[npt.NDArray[np.uint8]] = []
    packed = [_packed(item, pictures) for item in items]
    known = {id(picture): number for number, picture in enumerate(before)}
    shapes = [known.get(id(picture), picture.shape) for picture in pictures]
    new = [picture for picture in pictures if id(picture) not in known]
    _send(channel, {"made": packed, "pictures": shapes}, new)
    return pictures


def _packed(
    item: Request | Failure, pictures: list[npt.NDArray[np.uint8]]
) -> list[Any] | dict[str, Any]:
    """A request as a list, a failure as an object; pictures by their numbers in `pictures`."""
    if isinstance(item, Failure):
        return {"response": item.response.to_dict(), "image": item.image}
    numbers = []
    for image in item.images:
        known = (number for number, picture in enumerate(pictures) if picture is image)
        number = next(known, len(pictures))
        if number == len(pictures):
            pictures.append(image)
        numbers.append(number)
    return [numbers if name == "images" else getattr(item, name) for name in _REQUEST]


_REQUEST = tuple(field.name for field in dataclasses.fields(Request))


def _unpacked(
    item: list[Any] | dict[str, Any], pictures: Sequence[npt.NDArray[np.uint8]]
) -> Request | Failure:
    if isinstance(item, dict):
        return Failure(Response.from_dict(item["response"]), item["image"])
    fields = dict(zip(_REQUEST, item, strict=True))
    fields["images"] = tuple(pictures[number] for number in fields["images"])
    fields |= {name: tuple(fields[name]) for name in ("messages", "candidates")}
    return Request(**fields)


def _pictures(
    shapes: Sequence[Any],
    memory: mmap.mmap | None,
    before: Sequence[npt.NDArray[np.uint8]],
) -> list[npt.NDArray[np.uint8]]:
    """The pictures in shared memory, one behind the other; a number stands for one from before."""
    found, start = [], 0
    for shape in shapes:
        if isinstance(shape, int):
            found.append(before[shape])
            continue
        height, width, bands = shape
        size = height * width * bands
        assert memory is not None  # noqa: S101
        array: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8, size, start)
        found.append(array.reshape(height, width, bands))
        start += size
    return found


def _error(said: Mapping[str, str]) -> Exception:
    if "text" in said:
        return MmevalError(said["text"])
    return RuntimeError(f"{said['error']} while planning")


def _send(
    channel: socket.socket, said: Mapping[str, Any], pictures: Sequence[npt.NDArray[np.uint8]]
) -> None:
    text = json.dumps(said).encode()
    size = sum(picture.nbytes for picture in pictures)
    handles = [os.memfd_create("mmeval-pictures")] if size else []
    try:
        for picture in pictures:
            view = np.ascontiguousarray(picture).reshape(-1).data
            while view:
                view = view[os.write(handles[0], view) :]
        socket.send_fds(channel, [_HEAD.pack(len(text), size)], handles)
        channel.sendall(text)
    finally:
        for handle in handles:
            os.close(handle)


def _receive(channel: socket.socket) -> tuple[bytes, mmap.mmap | None] | None:
    """A message and its pictures; None at the end, however it came."""
    try:
        head, handles, _, _ = socket.recv_fds(channel, _HEAD.size, 1)
    except OSError:
        return None
    rest = _exactly(channel, _HEAD.size - len(head)) if head else None
    if rest is None:
        return None
    length, size = _HEAD.unpack(head + rest)
    memory = None
    for handle in handles:
        try:
            memory = mmap.mmap(handle, size)
        finally:
            os.close(handle)
    text = _exactly(channel, length)
    return None if text is None else (text, memory)


def _exactly(channel: socket.socket, n: int) -> bytes | None:
    """So many bytes; None if there are no more."""
    data = b""
    while len(data) < n:
        try:
            more = channel.recv(n - len(data))
        except OSError:
            return None
        if not more:
            return None
        data += more
    return data
