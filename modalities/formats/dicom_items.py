"""DICOM sequences (PS3.5 7.5) gone through without reading values, so that limits come first.

pydicom spends some 20 microseconds and a kilobyte on every item and element it reads, so that a
small file of empty items could keep it busy for minutes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modalities.image import ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Items and elements of the per-frame functional groups: 20,000 frames with 50 each.
MAX_GROUPED = 2**20
# Items and elements of any other sequence; each is read.
MAX_NESTED = 2**16
# Elements and items of a file outside the per-frame functional groups, at two reads for one.
MAX_READS = 2**18
# Sequences within sequences; the deepest of the standard have about ten.
MAX_DEPTH = 64
# Bytes of a value that is no pixels and no table, and of a table of 65536 entries, twice over.
MAX_TEXT = 2**17
MAX_TABLE = 2**18
# Fragments of compressed pixels; a frame has one as a rule.
MAX_FRAGMENTS = 2**20

# The length of what ends with a delimiter.
UNDEFINED = 0xFFFFFFFF
_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN"})
_LONG |= {b"UR", b"UT", b"UV"}


@dataclass(frozen=True)
class Groups:
    """The per-frame functional groups: where in them each sequence of each frame begins.

    Attributes:
        data: The items of the sequence, as in the file.
        implicit: Whether the elements carry no VR.
        little: Whether they are little-endian.
        frames: For every frame, its wanted sequences: tag to start and length of their first item.
    """

    data: bytes = field(default=b"", repr=False)
    implicit: bool = True
    little: bool = True
    frames: Sequence[dict[int, tuple[int, int]]] = ()

    def first(self, frame: int, tag: int, wanted: Iterable[int]) -> Dataset | None:
        """The first item of a frame's sequence, its `wanted` elements only; None without one."""
        from pydicom.filereader import read_dataset

        place = self.frames[frame].get(tag) if frame < len(self.frames) else None
        if place is None:
            return None
        start, length = place
        part = io.BytesIO(self.data[start : start + length])
        return read_dataset(part, self.implicit, self.little, specific_tags=list(wanted))

    def longs(self, frame: int, tag: int, wanted: Sequence[int]) -> list[int] | None:
        """Values of VR SL in the first item of a frame's sequence; None unless all are there."""
        place = self.frames[frame].get(tag)
        if place is None:
            return None
        at, end = place[0], sum(place)
        order = "<" if self.little else ">"
        found = {}
        while at + 8 <= end:
            group, element, vr, short = struct.unpack_from(f"{order}HH2sH", self.data, at)
            (size,) = struct.unpack_from(f"{order}I", self.data, at + 4)
            at += 8
            if not self.implicit and vr in _LONG:
                (size,) = struct.unpack_from(f"{order}I", self.data, at)
                at += 4
            elif not self.implicit and b"AA" <= vr <= b"ZZ":
                size = short
            if size == 4 and at + 4 <= end:
                (found[group << 16 | element],) = struct.unpack_from(f"{order}i", self.data, at)
            at += size
        return [found[key] for key in wanted] if all(key in found for key in wanted) else None


class Counted(io.BytesIO):
    """Bytes that may be read from only so often."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._left, self._name = MAX_READS, name

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any stream.

        Raises:
            ImageError: There were too many reads.
        """
        self._left -= 1
        self.check()
        return super().read(size)

    def check(self) -> None:
        """Raise the error once more: pydicom turns any into its own within sequences."""
        if self._left < 0:
            raise ImageError(
                f"{self._name}: the header has more than {MAX_READS // 2} elements and items; "
                "take the private ones out"
            )


def walk(
    data: bytes,
    implicit: bool,
    little: bool,
    what: str,
    *,
    most: int = MAX_NESTED,
    start: int = 0,
    length: int = UNDEFINED,
    wanted: frozenset[int] = frozenset(),
) -> tuple[int, list[dict[int, tuple[int, int]]]]:
    """Go through a sequence and all that is nested in it.

    Args:
        data: Holds the sequence's items from `start` on.
        implicit: Whether the elements carry no VR.
        little: Whether they are little-endian.
        what: File and sequence, for messages.
        most: Items and elements there may be.
        start: Where the first item begins.
        length: Bytes of the sequence; 0xFFFFFFFF if a delimiter ends it.
        wanted: Tags of sequences, directly in the items, whose first items are to be found.

    Returns:
        Where the sequence ends, and for every item its `wanted` sequences: tag to start and
        length of their first item's content.

    Raises:
        ImageError: There are too many items or elements, they are nested too deep, or the
            sequence is damaged.
    """
    order = "<" if little else ">"
    plain = struct.Struct(order + "HHI").unpack_from
    coded = struct.Struct(order + "HH2sH").unpack_from
    wide = struct.Struct(order + "I").unpack_from
    last = len(data) if length == UNDEFINED else min(len(data), start + length)
    found: list[dict[int, tuple[int, int]]] = []
    # What is open, innermost last: where it ends (None: at a delimiter) and whether it is an item.
    ends: list[int | None] = [None if length == UNDEFINED else last]
    within: list[bool] = [False]
    # The wanted sequence that is open, and where the content of its first item begins.
    open_tag, open_at = 0, 0
    at = start
    try:
        while ends:
            end, item = ends[-1], within[-1]
            if end is not None and at >= end:
                ends.pop()
                within.pop()
                if open_tag and len(ends) == 3 and item:
                    found[-1].setdefault(open_tag, (open_at, end - open_at))
                    open_tag = 0
                continue
            if at >= last and len(ends) == 1 and end is None:
                break  # a delimiter is missing at the very end
            most -= 1
            if most < 0:
                raise ImageError(
                    f"{what}: holds more items and elements than are read; split the file"
                )
            group, element, size = plain(data, at)
            tag = group << 16 | element
            begun = at
            at += 8
            if tag in (_ITEM_END, _SEQUENCE_END):
                if end is not None:
                    continue  # not needed, so not minded
                ends.pop()
                within.pop()
                if open_tag and len(ends) == 3 and item:
                    found[-1].setdefault(open_tag, (open_at, begun - open_at))
                    open_tag = 0
                continue
            if not item:
                if len(ends) == 1:
                    found.append({})
                elif len(ends) == 3 and open_tag:
                    open_at = at
                ends.append(None if size == UNDEFINED else at + size)
                within.append(True)
                continue
            vr = b""
            if not implicit:
                vr = coded(data, begun)[2]
                if vr in _LONG:
                    (size,) = wide(data, at)
                    at += 4
                elif b"AA" <= vr <= b"ZZ":
                    size = coded(data, begun)[3]
                else:
                    vr = b""  # some writers turn to implicit VR within sequences
            if size == UNDEFINED and vr in (b"OB", b"OW"):  # compressed pixels of an icon
                at, most = _fragments_end(data, at, plain, most)
            elif vr == b"SQ" or size == UNDEFINED or tag in wanted:
                if len(ends) > MAX_DEPTH:
                    raise ImageError(f"{what}: sequences are nested too deep; repair the header")
                if len(ends) == 2:
                    open_tag = tag if tag in wanted else 0
                ends.append(None if size == UNDEFINED else at + size)
                within.append(False)
            else:
                at += size
    except struct.error:
        raise ImageError(f"{what}: is damaged or cut short; fetch the file again") from None
    return at, found


def _fragments_end(
    data: bytes, at: int, plain: Callable[[bytes, int], tuple[int, ...]], most: int
) -> tuple[int, int]:
    while most >= 0:
        group, element, size = plain(data, at)
        at, most = at + 8, most - 1
        if (group << 16 | element) == _SEQUENCE_END:
            break
        at += size
    return at, most


def fragments(data: bytes, start: int, what: str) -> tuple[list[tuple[int, int]], bool]:
    """Where the fragments of encapsulated pixels lie (PS3.5 A.4).

    Args:
        data: Holds the items from `start` on, always little-endian.
        start: Where the first item begins, which is the offset table.
        what: File and attribute, for messages.

    Returns:
        Where each item begins and how long its content is, the offset table's first; and whether
        they end with a delimiter as they should.

    Raises:
        ImageError: There are too many.
    """
    found: list[tuple[int, int]] = []
    at, end = start, len(data)
    read = struct.Struct("<4sI").unpack_from
    while at + 8 <= end:
        tag, size = read(data, at)
        if tag != _ITEM or size > end - at - 8:
            return found, tag == _DELIMITER
        if len(found) > MAX_FRAGMENTS:
            raise ImageError(
                f"{what}: is cut into more than {MAX_FRAGMENTS} fragments; compress it again"
            )
        found.append((at, size))
        at += 8 + size
    return found, False
