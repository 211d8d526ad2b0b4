"""What mmeval asks of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from mmeval.schema import Request, Response

__all__ = ["Model"]


@runtime_checkable
class Model(Protocol):
    """A backend. It owns its batching.

    Attributes:
        identity: What the answers depend on (weights, revision, precision) and nothing else; part
            of every request's key. JSON-able.
        batch_size: Requests it likes to have at once.

    A backend that takes more than two batches before it answers says how many requests in
    ``in_flight``. One that sends pixels to another machine has ``remote = True``; images that bear
    text or are marked so are then refused, unless it has ``allow_burned_in = True``
    (`mmeval.privacy`). One that computes in this process names the kind of device in
    ``computes_on``, such as ``cuda``; pictures are then made in a process beside it, forked from
    this one, and beside a ``cpu`` in the gaps that the model leaves.
    """

    identity: Mapping[str, Any]
    batch_size: int

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answers every request exactly once, in any order, reading them as it goes.

        A request that cannot be answered gets a response with status ``error``; it does not raise.
        """
        ...
