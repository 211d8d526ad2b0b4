"""Batches: nothing lost, nobody waits for ever, questions on the same pictures together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmeval.models.batching import batches, described
from mmeval.schema import Request


def request(key: str, picture: int | None, text: str = "What?", count: int = 1) -> Request:
    """A question on `count` pictures of one grey; None shows none."""
    images = () if picture is None else (np.full((4, 4, 3), picture, np.uint8),) * count
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
    messages = ({"role": "user", "content": content},)
    return Request(key, "b", key, "clean", 0, messages, images)


def made(
    requests: list[Request] | Iterator[Request], size: int, *, together: bool = True
) -> list[list[Request]]:
    found = batches(requests, lambda: size, lambda: together)
    return [[each.request for each in batch] for batch in found]


questions = st.lists(
    st.tuples(st.none() | st.integers(0, 3), st.integers(1, 40), st.integers(1, 2)), max_size=40
)


@given(questions, st.integers(1, 9), st.booleans())
def test_every_request_is_in_one_batch(
    described: list[tuple[int | None, int, int]], size: int, together: bool
) -> None:
    asked = [
        request(str(i), picture, "x" * letters, count)
        for i, (picture, letters, count) in enumerate(described)
    ]
    found = made(asked, size, together=together)
    assert sorted(int(r.key) for batch in found for r in batch) == list(range(len(asked)))
    for batch in found:
        assert 1 <= len(batch) <= size
        assert len({bool(r.images) for r in batch}) == 1


@given(questions, st.integers(1, 9), st.booleans())
def test_the_request_that_waits_longest_is_in_the_next_batch(
    described: list[tuple[int | None, int, int]], size: int, together: bool
) -> None:
    left = [
        request(str(i), picture, "x" * letters, count)
        for i, (picture, letters, count) in enumerate(described)
    ]
    for batch in made(list(left), size, together=together):
        keys = {r.key for r in batch}
        assert left[0].key in keys
        left = [r for r in left if r.key not in keys]


def test_questions_on_one_picture_are_not_torn_apart() -> None:
    asked = [request(f"{picture}-{i}", picture) for picture in range(8) for i in range(3)]
    found = made(asked, 8)
    homes = {r.key: number for number, batch in enumerate(found) for r in batch}
    for picture in range(8):
        assert len({homes[f"{picture}-{i}"] for i in range(3)}) == 1


def test_requests_of_like_length_go_together() -> None:
    asked = [request(str(i), i, "x" * (5 if i % 2 else 500)) for i in range(8)]
    for batch in made(asked, 4, together=False):
        assert len({len(r.messages[0]["content"][-1]["text"]) for r in batch}) == 1


def test_requests_are_read_two_batches_ahead_at_most() -> None:
    read: list[str] = []

    def stream() -> Iterator[Request]:
        for i in range(40):
            read.append(str(i))
            yield request(str(i), i)

    first = next(batches(stream(), lambda: 4, lambda: True))
    assert len(first) == 4
    assert len(read) == 8


def test_equal_pictures_are_the_same_wherever_they_lie() -> None:
    first, copy, other = request("a", 7), request("b", 7), request("c", 8)
    assert described(first).shared == described(copy).shared
    assert described(first).shared != described(other).shared
    assert described(copy, described(first)).shared == described(copy).shared


def test_text_before_a_picture_is_part_of_what_is_shared() -> None:
    def spoken(text: str) -> Request:
        made = request("a", 7)
        parts = [{"type": "text", "text": text}, *made.messages[0]["content"]]
        messages = ({"role": "user", "content": parts},)
        return Request("a", "b", "a", "clean", 0, messages, made.images)

    assert described(spoken("Before:")).shared != described(spoken("After:")).shared


def test_the_size_is_asked_for_each_batch() -> None:
    sizes = [8]
    found = []
    for batch in batches([request(str(i), i) for i in range(20)], lambda: sizes[0], lambda: True):
        found.append(len(batch))
        sizes[0] = 2
    assert found == [8, 2, 2, 2, 2, 2, 2]
