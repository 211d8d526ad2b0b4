"""The answers to `box` questions, in the forms that models are trained to write them."""

from __future__ import annotations

import re
from decimal import Decimal

from mmeval.scoring.extract_number import decimal_text
from mmeval.scoring.extraction import Extraction
from mmeval.scoring.lazy import lazy

__all__ = ["read_box"]

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?![\w.]*\w)"
_N = rf"\s*({_NUMBER})\s*%?\s*"
_AND = r"\s*(?:,|;|-|–|to|and)?\s*"
# "[12, 30, 25, 41]", "(12 30 25 41)", "[[12, 30, 25, 41]]"
_BRACKETS = lazy(rf"[\[(]{_N}[,;\s]{_N}[,;\s]{_N}[,;\s]{_N}[\])]")
# "(12, 30), (25, 41)", "[[12, 30], [25, 41]]"
_CORNERS = lazy(rf"[\[(]{_N}[,;\s]{_N}[\])]{_AND}[\[(]{_N}[,;\s]{_N}[\])]", re.IGNORECASE)
_POINT = lazy(rf"[\[(]{_N}[,;\s]{_N}[\])]")
# Nothing but four numbers, after "answer:" or a tag at most.
_FOUR = lazy(
    rf"\W*(?:[A-Za-z_ ]{{0,30}}[:=]\s*)?(?<![\w.-]){_N}[,;\s]{_N}[,;\s]{_N}[,;\s]{_N}[^\w]*"
)
_NAMES = (
    r"x_?1|x_?min|xmin|left|x_?2|x_?max|xmax|right|y_?1|y_?min|ymin|top|y_?2|y_?max|ymax|bottom"
)
_NAMED = lazy(
    rf"(?<![A-Za-z])(?P<name>{_NAMES}|x 1|x 2|y 1|y 2|x min|y min|x max|y max)\"?\s*[:=]{_N}",
    re.IGNORECASE,
)
_CORNER = {
    **dict.fromkeys(("x1", "xmin", "left"), 0),
    **dict.fromkeys(("y1", "ymin", "top"), 1),
    **dict.fromkeys(("x2", "xmax", "right"), 2),
    **dict.fromkeys(("y2", "ymax", "bottom"), 3),
}
_SIZE = lazy(
    r"\b(?:width|height|[wh]\s*[:=]|cent(?:er|re)|radius|cx|cy|xywh)\b|\b[wh]\s*[:=]", re.IGNORECASE
)
_NOT = lazy(r"(?:\bnot|n't|\brather\s+than|\binstead\s+of)\s+(?:at\s+|in\s+)?$", re.IGNORECASE)

_Box = tuple[tuple[Decimal, ...], tuple[int, int]]


def _found(pattern: re.Pattern[str], text: str) -> list[_Box]:
    return [
        (tuple(Decimal(number) for number in one.groups()), one.span())
        for one in pattern.finditer(text)
        if not _NOT.search(text[max(0, one.start() - 20) : one.start()])
    ]


def _named(text: str) -> tuple[list[_Box], bool]:
    """The box whose four corners are named, and whether any is."""
    corners: dict[int, Decimal] = {}
    spans = []
    for one in _NAMED.finditer(text):
        index = _CORNER[re.sub(r"[ _]", "", one["name"].lower())]
        value = Decimal(one[2])
        if corners.get(index, value) != value:
            return [], True
        corners[index] = value
        spans.append(one.span())
    if len(corners) < 4:
        return [], bool(corners)
    span = (spans[0][0], spans[-1][1])
    return [(tuple(corners[index] for index in range(4)), span)], True


def read_box(text: str) -> Extraction:
    """The one box (x1, y1, x2, y2) that a plain text gives, in its own unit, not clipped."""
    if _SIZE.search(text):
        return Extraction(None, "not corners")
    named, is_named = _named(text)
    if is_named and not named:
        return Extraction(
            None, "several answers" if len(_NAMED.findall(text)) > 3 else "no answer found"
        )
    boxes, rule = named, "named corners"
    if not boxes:
        boxes, rule = _found(_BRACKETS, text) + _found(_CORNERS, text), "brackets"
    if len(_POINT.findall(text)) % 2:
        return Extraction(None, "not corners")  # a polygon, or a corner alone
    if not boxes:
        whole = _FOUR.fullmatch(text)
        if whole:
            boxes = [
                (
                    tuple(Decimal(number) for number in whole.groups()),
                    (whole.start(1), whole.end(4)),
                )
            ]
            rule = "four numbers"
    if not boxes:
        return Extraction(None, "no answer found")
    if len({corners for corners, _ in boxes}) > 1:
        return Extraction(None, "several answers")
    corners, span = boxes[0]
    x1, y1, x2, y2 = corners
    written = [decimal_text(corner) for corner in corners]
    if not (x1 < x2 and y1 < y2) or None in written:
        return Extraction(None, "not a box")
    return Extraction(f"[{', '.join(map(str, written))}]", rule, span)
