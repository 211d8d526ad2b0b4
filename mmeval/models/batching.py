"""Which requests go through a model together.

Questions on the same pictures stay together, so that the pictures are encoded once; beside them
come requests with as many pictures and about as much text, so that little of a batch is padding.
Only requests within a small window change their order, and the one that waits longest is always in
the next batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmeval.schema import Request, canonical

__all__ = ["Waiting", "batches", "described"]

#: How many batches are looked at to make one.
_WINDOW = 2


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request and what decides where it goes.

    Attributes:
        request: What is asked.
        shared: Equal where the pictures and all that is said before and between them are.
        shape: Number of pictures, their pixels and the letters of the text.
    """

    request: Request
    shared: str
    shape: tuple[int, int, int]


def described(request: Request, before: Waiting | None = None) -> Waiting:
    """Finds what decides where a request goes.

    Args:
        request: What is asked.
        before: The request before it; its pictures are often the very same arrays, which then need
            not be looked at again.
    """
    head, letters = _head(request)
    pictures = before.shared.partition(" ")[0] if before and _same(request, before.request) else ""
    if not pictures:
        digest = hashlib.sha256()
        for image in request.images:
            digest.update(f"{image.shape}{image.dtype}".encode() + image.tobytes())
        pictures = digest.hexdigest()
    pixels = sum(image.shape[0] * image.shape[1] for image in request.images)
    return Waiting(request, f"{pictures} {head}", (len(request.images), pixels, letters))


def _same(first: Request, second: Request) -> bool:
    return len(first.images) == len(second.images) and all(
        a is b for a, b in zip(first.images, second.images, strict=True)
    )


def _head(request: Request) -> tuple[str, int]:
    """The messages up to the last picture, and the letters of them all."""
    parts: list[object] = []
    last, letters = 0, 0
    for message in request.messages:
        content = message["content"]
        parts.append(message["role"])
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            parts.append(part)
            letters += len(str(part.get("text", "")))
            if part["type"] == "image":
                last = len(parts)
    return canonical(parts[:last]), letters


def batches(
    requests: Iterable[Request], size: Callable[[], int], together: Callable[[], bool]
) -> Iterator[list[Waiting]]:
    """Yields every request in some batch; a batch has pictures throughout or none.

    Args:
        requests: Read as far ahead as the window reaches.
        size: Most requests of the next batch; asked each time, as memory may run out.
        together: Whether the next batch keeps questions on the same pictures together, and beside
            each other.
    """
    stream = iter(requests)
    waiting: list[Waiting] = []
    more = True
    while True:
        while more and len(waiting) < _WINDOW * size():
            request = next(stream, None)
            if request is None:
                more = False
            else:
                waiting.append(described(request, waiting[-1] if waiting else None))
        if not waiting:
            return
        chosen = _choose(waiting, size(), together(), more)
        taken = {id(each) for each in chosen}
        waiting = [each for each in waiting if id(each) not in taken]
        yield chosen


def _choose(waiting: Sequence[Waiting], size: int, together: bool, more: bool) -> list[Waiting]:
    """The unit that waits longest, and as many of its like as fit."""
    first = waiting[0]
    alike = [each for each in waiting if bool(each.request.images) is bool(first.request.images)]
    units = _units(alike, size) if together else [[each] for each in alike]
    oldest = units[0]
    if together and more:
        # More questions on the last pictures may be on their way.
        units = [unit for unit in units if unit is oldest or unit[-1] is not waiting[-1]]
    ordered = sorted(units, key=lambda unit: max(each.shape for each in unit))
    start = next(i for i, unit in enumerate(ordered) if unit is oldest)
    chosen = list(oldest)
    for unit in (*ordered[start + 1 :], *reversed(ordered[:start])):
        if len(chosen) + len(unit) <= size:
            chosen += unit
    return chosen


def _units(waiting: Sequence[Waiting], size: int) -> list[list[Waiting]]:
    """Questions on the same pictures, at most a batch of them."""
    groups: dict[str, list[Waiting]] = {}
    for each in waiting:
        groups.setdefault(each.shared, []).append(each)
    return [
        group[start : start + size]
        for group in groups.values()
        for start in range(0, len(group), size)
    ]
