"""Thin curved strokes: hairs, lashes, pen lines.

A stroke is painted as the exact share of every pixel that it covers along one axis, so that one
much thinner than a pixel covers the same area at any resolution. Everything is drawn on the CPU
in double precision: there are few strokes, and every device then reads the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from degradations import random_fields
from degradations.keys import Key

Array = np.ndarray[Any, np.dtype[Any]]
Line = Callable[[Array], Array]


@dataclass(frozen=True)
class Hair:
    """What hairs of one kind have in common; lengths as fractions of the longer side.

    Attributes:
        length: Shortest and longest.
        width: Thinnest and thickest, at the root.
        bend: Largest departure from a straight line, over the length.
        taper: Share of the width that is lost from root to tip.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    bend: float
    taper: float


def paint(cover: Array, start: float, end: float, middle: Line, width: Line, steep: bool) -> None:
    """Paint one stroke.

    Args:
        cover: (H, W) share of each pixel that is covered, modified in place; overlaps count once.
        start: Where the stroke begins, in pixels from the left edge (the top edge, if steep).
        end: Where it ends.
        middle: Distance of its middle from the top edge (the left, if steep) at such places.
        width: Its extent in that direction.
        steep: Whether it runs along the rows' index instead of along the columns'.
    """
    plane = cover.T if steep else cover
    columns = np.arange(max(math.floor(start), 0), min(math.ceil(end), plane.shape[1]))
    if columns.size == 0:
        return
    share = np.minimum(columns + 1, end) - np.maximum(columns, start)
    along = np.clip(columns + 0.5, start, end)
    centre, half = middle(along), width(along) / 2.0
    reach = math.ceil(float(half.max())) + 1
    rows = np.floor(centre).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    low = np.maximum(rows, (centre - half)[:, None])
    high = np.minimum(rows + 1, (centre + half)[:, None])
    part = np.clip(high - low, 0.0, 1.0) * share[:, None]
    inside = (rows >= 0) & (rows < plane.shape[0]) & (part > 0.0)
    place = (rows[inside], np.broadcast_to(columns[:, None], rows.shape)[inside])
    plane[place] = np.maximum(plane[place], part[inside])


def hairs(size: tuple[int, int], count: float, kind: Hair, key: Key) -> Array:
    """Cover of hairs that lie anywhere in a picture, in any direction.

    Args:
        size: (H, W) of the picture.
        count: How many; the last has only grown by the fraction. A larger count keeps all hairs
            of a smaller one, pixel for pixel.
        kind: What they look like.
        key: Whose hairs.

    Returns:
        (H, W) float64 in [0, 1].
    """
    cover = np.zeros(size)
    longer = max(size)
    drawn = random_fields.uniform(key, "hairs", (math.ceil(count), 7), "cpu").double().tolist()
    for place, (x, y, turn, long, wide, bow, wave) in enumerate(drawn):
        angle = math.pi * turn
        length = (kind.length[0] + (kind.length[1] - kind.length[0]) * long) * longer
        thick = (kind.width[0] + (kind.width[1] - kind.width[0]) * wide) * longer
        steep = abs(math.sin(angle)) > abs(math.cos(angle))
        major, minor = (
            (math.sin(angle), math.cos(angle)) if steep else (math.cos(angle), math.sin(angle))
        )
        slope, run = minor / major, abs(major) * length
        at, across = (y * size[0], x * size[1]) if steep else (x * size[1], y * size[0])
        bows = (kind.bend * (2.0 * bow - 1.0) * length, kind.bend * (wave - 0.5) * length)
        _curl(cover, at - run / 2.0, run, across, slope, bows, thick, kind.taper,
              min(count - place, 1.0), steep)  # fmt: skip
    return cover


def _curl(
    cover: Array,
    start: float,
    run: float,
    across: float,
    slope: float,
    bows: tuple[float, float],
    thick: float,
    taper: float,
    share: float,
    steep: bool,
) -> None:
    """Paint a tapering hair: a straight line with a parabolic and an S-shaped departure."""

    def middle(along: Array) -> Array:
        s = 2.0 * (along - start) / run - 1.0
        return np.asarray(
            across
            + slope * (along - start - run / 2.0)
            + bows[0] * (1.0 - s * s)
            + 2.6 * bows[1] * s * (1.0 - s * s)
        )

    def width(along: Array) -> Array:
        s = 2.0 * (along - start) / run - 1.0
        steepness = slope + (2.0 / run) * (-2.0 * bows[0] * s + 2.6 * bows[1] * (1.0 - 3.0 * s * s))
        root = 1.0 - taper * (s + 1.0) / 2.0
        return np.asarray(thick * root * np.sqrt(1.0 + steepness**2))

    if run > 0.0:
        paint(cover, start, start + share * run, middle, width, steep)


def lashes(
    size: tuple[int, int], top: float, reach: float, count: int, thick: float, key: Key
) -> Array:
    """Cover of lashes that hang into a picture from its upper edge.

    Args:
        size: (H, W) of the picture.
        top: Where they begin, in pixels from its upper edge.
        reach: Of the longest, in pixels. A longer reach covers all that a shorter one does.
        count: How many.
        thick: Width at the root in pixels.
        key: Whose lashes.

    Returns:
        (H, W) float64 in [0, 1].
    """
    cover = np.zeros(size)
    drawn = random_fields.uniform(key, "lashes", (count, 4), "cpu").double().tolist()
    for place, (jitter, long, tilt, bow) in enumerate(drawn):
        base = size[1] * (place + jitter) / count
        lean, bend = 1.2 * (tilt - 0.5), 1.2 * (bow - 0.5) / size[0]
        length = reach * (0.55 + 0.45 * long)

        def middle(
            along: Array, base: float = base, lean: float = lean, bend: float = bend
        ) -> Array:
            return np.asarray(base + lean * (along - top) + bend * (along - top) ** 2)

        def width(
            along: Array, length: float = length, lean: float = lean, bend: float = bend
        ) -> Array:
            steepness = lean + 2.0 * bend * (along - top)
            tip = 1.0 - (along - top) / max(length, 1e-9)
            return np.asarray(thick * np.sqrt(np.maximum(tip, 0.0) * (1.0 + steepness**2)))

        paint(cover, top, top + length, middle, width, steep=True)
    return cover


def marks(size: tuple[int, int], extent: float, count: int, thick: float, key: Key) -> Array:
    """Cover of pen lines across a picture, drawn one after another.

    Args:
        size: (H, W) of the picture.
        extent: Share of them that is drawn, in [0, 1], the last one in part.
        count: How many there are.
        thick: Width in pixels.
        key: Whose lines.

    Returns:
        (H, W) float64 in [0, 1].
    """
    fraction = thick / max(size)
    kind = Hair(length=(0.25, 0.6), width=(fraction, fraction), bend=0.18, taper=0.0)
    return hairs(size, extent * count, kind, key)


def ruler(size: tuple[int, int], extent: float, ticks: int, upper: bool) -> Array:
    """Cover of a ruler's ticks along the upper or lower edge; every fifth is longer.

    Args:
        size: (H, W) of the picture.
        extent: Share of the ticks that shows, from the left; the last one in part.
        ticks: How many fill the width.
        upper: Whether it lies at the upper edge.

    Returns:
        (H, W) float64 in [0, 1].
    """
    cover = np.zeros(size)
    pitch = size[1] / ticks
    for place in range(math.ceil(extent * ticks)):
        at, share = (place + 0.5) * pitch, min(extent * ticks - place, 1.0)
        length = share * (0.06 if place % 5 == 0 else 0.035) * max(size)
        paint(
            cover,
            0.0,
            length,
            lambda along, at=at: np.full_like(along, at),  # type: ignore[misc]
            lambda along: np.full_like(along, 0.18 * pitch),
            steep=True,
        )
    return cover if upper else cover[::-1].copy()
