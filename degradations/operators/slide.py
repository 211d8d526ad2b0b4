"""What happens to a section on glass, and to its picture in the scanner.

Images are (C, H, W) float32 in [0, 1]; lengths are in pixels, x along columns and y along rows.
Random places are fractions of the picture and nested: a larger number of things keeps those of a
smaller one, and the last is blended in by what is left of the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators import jpeg as codec
from degradations.operators import stain

Array = np.ndarray[Any, np.dtype[Any]]

#: Inks of marker pens, as optical density in R, G, B of a full stroke; own estimates of blue,
#: green and black.
INKS = ((1.30, 0.75, 0.20), (1.20, 0.40, 0.85), (1.15, 1.15, 1.10))
_BLACK = 2
#: Correlation of the unevenness of ink, as a fraction of the longer side, and its spread.
_INK_GRAIN, _INK_SPREAD = 0.04, 0.2
#: Curvature of folds and strokes, at most, per longer side.
_CURVATURE = 1.0
#: How far rays are bent at the rim of a bubble, as a fraction of its radius.
_BENDING = 0.35
#: Half width of its dark rim, as a fraction of its radius.
_RIM = 0.08


@dataclass(frozen=True)
class _Spot:
    """A disk or ellipse.

    Attributes:
        x: Of its centre, in pixel coordinates.
        y: Likewise.
        radius: Along its longer axis.
        aspect: Shorter over longer axis.
        angle: Of the longer axis, in radians.
        share: How much of it is there, 0 to 1.
    """

    x: float
    y: float
    radius: float
    aspect: float
    angle: float
    share: float


def _spots(
    size: tuple[int, int],
    count: float,
    radius: tuple[float, float],
    key: Key,
    aspect: tuple[float, float] = (1.0, 1.0),
) -> Iterator[_Spot]:
    rows, columns = size
    draws = random_fields.uniform(key, "spots", (math.ceil(count) * 5,), "cpu").tolist()
    for place in range(math.ceil(count)):
        x, y, large, long, angle = draws[5 * place : 5 * place + 5]
        yield _Spot(
            x=x * columns - 0.5,
            y=y * rows - 0.5,
            radius=radius[0] + (radius[1] - radius[0]) * large,
            aspect=aspect[0] + (aspect[1] - aspect[0]) * long,
            angle=angle * math.pi,
            share=min(count - place, 1.0),
        )


def _window(spot: _Spot, size: tuple[int, int], margin: float) -> tuple[slice, slice]:
    reach = spot.radius + margin
    top, left = (max(0, math.ceil(at - reach)) for at in (spot.y, spot.x))
    bottom, right = (
        max(0, min(end, math.floor(at + reach) + 1))
        for at, end in zip((spot.y, spot.x), size, strict=True)
    )
    return slice(top, bottom), slice(left, right)


def _offsets(spot: _Spot, window: tuple[slice, slice]) -> tuple[Array, Array]:
    """(h, 1) and (1, w) float32 distances of the window's pixels from the centre."""
    rows, columns = window
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(spot.y)
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None] - np.float32(spot.x)
    return x, y


def _distance(spot: _Spot, window: tuple[slice, slice]) -> Array:
    """Distance from the centre in which the spot's edge is at ``spot.radius`` everywhere."""
    x, y = _offsets(spot, window)
    if spot.aspect == 1.0:
        return np.asarray(np.sqrt(x * x + y * y))
    cosine, sine = np.float32(math.cos(spot.angle)), np.float32(math.sin(spot.angle))
    along, across = x * cosine + y * sine, (y * cosine - x * sine) / np.float32(spot.aspect)
    return np.asarray(np.sqrt(along * along + across * across))


def _film(
    image: Tensor, spots: Iterator[_Spot], profile: Callable[[Array, float], Array]
) -> Tensor:
    """(H, W) sum over spots of a profile of the distance from their centre."""
    size = (image.shape[1], image.shape[2])
    film = np.zeros(size, dtype=np.float32)
    for spot in spots:
        window = _window(spot, size, 1.0)
        film[window] += np.float32(spot.share) * profile(_distance(spot, window), spot.radius)
    return torch.from_numpy(film).to(image.device)


def _disk(distance: Array, radius: float, edge: float) -> Array:
    """Coverage of a disk whose edge fades over so many pixels; a disk below a pixel is faint."""
    area = np.float32(min(1.0, 4.0 * radius * radius))
    return area * np.clip((radius - distance) / np.float32(edge) + 0.5, 0.0, 1.0)


def dark_spots(
    image: Tensor, count: float, radius: tuple[float, float], density: float, key: Key
) -> Tensor:
    """Add opaque specks, gray, with soft edges: dust, pigment, precipitate.

    Args:
        image: (C, H, W).
        count: Of specks.
        radius: Smallest and largest.
        density: Optical density of a speck.
        key: Whose specks.

    Returns:
        (C, H, W): ``OD' = OD + density cover``.
    """
    size = (image.shape[1], image.shape[2])
    spots = _spots(size, count, radius, key, aspect=(0.5, 1.0))
    film = _film(image, spots, lambda distance, r: _disk(distance, r, max(1.0, 0.5 * r)))
    return stain.absorb(image, film.mul_(density), None)


def blood_cells(image: Tensor, count: float, radius: float, density: float, key: Key) -> Tensor:
    """Add red cells: eosin-coloured disks, paler in the middle, over the picture.

    Args:
        image: (3, H, W).
        count: Of cells.
        radius: Of a cell; they vary by a tenth.
        density: Amount of eosin at the rim.
        key: Whose cells.

    Returns:
        (3, H, W): ``OD' = OD + density thickness v_eosin``.
    """
    size = (image.shape[1], image.shape[2])

    def thickness(distance: Array, r: float) -> Array:
        dip = 1.0 - 0.5 * np.exp(-((distance / np.float32(0.45 * r)) ** 2))
        return _disk(distance, r, max(1.0, 0.2 * r)) * dip.astype(np.float32)

    spots = _spots(size, count, (0.9 * radius, 1.1 * radius), key, aspect=(0.8, 1.0))
    film = _film(image, spots, thickness)
    red, green, blue = (float(part) for part in stain.basis()[1])
    return stain.absorb(image, film.mul_(density), (red, green, blue))


def bubbles(
    image: Tensor,
    count: float,
    radius: tuple[float, float],
    veil: float,
    rim: float,
    key: Key,
) -> Tensor:
    """Lay air bubbles over the picture.

    Inside, light is spread, ``(1 - veil) x + veil`` white; towards the rim rays are bent, and at
    the rim total reflection leaves little of them. ``rim`` 0 leaves only the veil.

    Args:
        image: (C, H, W).
        count: Of bubbles.
        radius: Smallest and largest.
        veil: Share of white light inside.
        rim: Share of light lost at the rim.
        key: Whose bubbles.

    Returns:
        (C, H, W).
    """
    size = (image.shape[1], image.shape[2])
    clear = np.ones(size, dtype=np.float32)
    passed = np.ones(size, dtype=np.float32)
    bent = np.zeros((2, *size), dtype=np.float32)
    for spot in _spots(size, count, radius, key):
        window = _window(spot, size, max(1.0, 3.0 * _RIM * spot.radius))
        distance = _distance(spot, window)
        cover = np.float32(spot.share) * _disk(distance, spot.radius, 1.0)
        clear[window] *= 1.0 - np.float32(veil) * cover
        if rim == 0.0:
            continue
        x, y = _offsets(spot, window)
        pull = np.float32(_BENDING) * cover * (distance / np.float32(spot.radius)) ** 2
        bent[0][window] -= pull * x
        bent[1][window] -= pull * y
        # No thinner than a pixel can show, and the fainter for it.
        width = max(0.5, _RIM * spot.radius)
        loss = rim * spot.share * min(1.0, _RIM * spot.radius / width)
        ring = np.exp(-(((distance - np.float32(spot.radius)) / np.float32(width)) ** 2))
        passed[window] *= 1.0 - np.float32(loss) * ring
    # Most pixels lie beside all bubbles.
    place = np.flatnonzero((clear < 1.0) | (passed < 1.0) | bent.any(axis=0))
    columns = size[1]
    kept, lit, right, down = (
        torch.from_numpy(field.reshape(-1)[place]).to(image.device)
        for field in (clear, passed, bent[0], bent[1])
    )
    index = torch.from_numpy(place).to(image.device)
    out = image.clone(memory_format=torch.contiguous_format)
    seen = _sample(out, index % columns + right, index // columns + down)
    out.view(len(out), -1)[:, index] = (seen * kept).add_(1.0 - kept).mul_(lit)
    return out


@dataclass(frozen=True)
class _Line:
    """Distances of all pixels from a curved line across the picture.

    Attributes:
        away: (H, W) signed distance.
        x: (H, W) component along columns of the unit vector away from the line.
        y: Likewise along rows.
    """

    away: Tensor
    x: Tensor
    y: Tensor


def _line(image: Tensor, key: Key, stream: str, curvature: float = _CURVATURE) -> _Line:
    """A circular arc through a random point of the middle, in a random direction."""
    rows, columns = image.shape[1:]
    draws = random_fields.uniform(key, stream, (4,), "cpu").tolist()
    middle_x, middle_y = (
        (0.25 + 0.5 * draw) * side - 0.5 for draw, side in zip(draws, (columns, rows), strict=False)
    )
    angle = 2.0 * math.pi * draws[2]
    bend = curvature * (2.0 * draws[3] - 1.0) / max(rows, columns)
    cosine, sine = math.cos(angle), math.sin(angle)
    x = torch.arange(columns, device=image.device, dtype=torch.float32) - middle_x
    y = torch.arange(rows, device=image.device, dtype=torch.float32)[:, None] - middle_y
    along, across = x * cosine + y * sine, y * cosine - x * sine
    # The power of a point with respect to the circle, over its diameter; its root is regular
    # where the arc is straight.
    power = across - (along.square() + across.square()).mul_(0.5 * bend)
    root = (1.0 - power * (2.0 * bend)).clamp_(min=1e-6).sqrt_()
    away = power.mul_(2.0).div_(1.0 + root)
    right = along.mul_(-bend).div_(root)
    up = (1.0 - across.mul_(bend)).div_(root)
    return _Line(away, right * cosine - up * sine, right * sine + up * cosine)


def _band(away: Tensor, low: float, high: float) -> Tensor:
    """Coverage of pixels by what lies between two distances from a line."""
    return (away - (low - 0.5)).clamp_(0.0, 1.0) - (away - (high - 0.5)).clamp_(0.0, 1.0)


def fold(image: Tensor, width: float, key: Key) -> Tensor:
    """Fold the section over along a curved line: two layers absorb in a band beside it.

    Args:
        image: (C, H, W).
        width: Of the band.
        key: Whose fold.

    Returns:
        (C, H, W): ``OD'(p) = OD(p) + OD(mirror of p)`` in the band.
    """
    image = image.contiguous()
    line = _line(image, key, "fold")
    cover = _band(line.away, 0.0, width)
    index = torch.nonzero(cover.reshape(-1), as_tuple=True)[0]
    cover, away, right, down = (
        field.reshape(-1)[index] for field in (cover, line.away, line.x, line.y)
    )
    columns = image.shape[2]
    x, y = index % columns - 2.0 * away * right, index // columns - 2.0 * away * down
    layer = _sample(image, x, y).clamp_(min=stain.DARKEST)
    out = image.clone()
    out.view(len(out), -1)[:, index] *= layer.log_().mul_(cover).exp_()
    return out


def knife_marks(image: Tensor, count: float, width: float, key: Key) -> Tensor:
    """Score the section along parallel straight lines, where light passes as through glass.

    Args:
        image: (C, H, W).
        count: Of lines.
        width: Of a line.
        key: Whose blade.

    Returns:
        (C, H, W): ``OD' = (1 - cover) OD``.
    """
    image = image.contiguous()
    line = _line(image, key, "blade", curvature=0.0)
    longer = max(image.shape[1:])
    draws = random_fields.uniform(key, "marks", (math.ceil(count),), "cpu").tolist()
    kept = torch.ones_like(line.away)
    for place, draw in enumerate(draws):
        at = (draw - 0.5) * longer
        share = min(count - place, 1.0)
        kept.mul_(1.0 - _band(line.away, at - width / 2.0, at + width / 2.0).mul_(share))
    lighter = image.clamp(min=stain.DARKEST).log_().mul_(kept).exp_()
    return torch.where(kept < 1.0, lighter, image)


def marker_ink(
    image: Tensor, strokes: float, width: float, density: float, key: Key, *, black: bool
) -> Tensor:
    """Draw strokes of a marker pen across the picture, on the glass.

    Args:
        image: (3, H, W).
        strokes: How many.
        width: Of a stroke.
        density: Of the ink, as a multiple of `INKS`.
        key: Whose strokes, and which of `INKS`.
        black: Whether the ink is black whatever the key says.

    Returns:
        (3, H, W): ``OD' = OD + density cover ink``.
    """
    size = (image.shape[1], image.shape[2])
    film = torch.zeros(size, device=image.device)
    for stroke in range(math.ceil(strokes)):
        line = _line(image, key, f"stroke {stroke}")
        share = min(strokes - stroke, 1.0)
        film += _band(line.away, -width / 2.0, width / 2.0).mul_(share)
    uneven = random_fields.smooth(key, "ink", size, _INK_GRAIN, image.device)
    film.mul_(uneven.mul_(_INK_SPREAD).add_(1.0).clamp_(0.0, 2.0)).mul_(density)
    ink = INKS[_BLACK if black else min(int(key.uniform("colour") * len(INKS)), len(INKS) - 1)]
    return stain.absorb(image, film, ink)


def stitching(image: Tensor, offset: float, gain: float, tiles: float, key: Key) -> Tensor:
    """Put the picture together of tiles that lie and shine a little differently.

    Args:
        image: (C, H, W).
        offset: Largest displacement of a tile along either axis.
        gain: Largest relative difference of its brightness, downwards, for white is clipped.
        tiles: Along the longer side; the grid starts at a random phase.
        key: Whose tiles.

    Returns:
        (C, H, W): ``x'(p) = (1 - gain g_tile) x(p + offset d_tile)``.
    """
    image = image.contiguous()
    rows, columns = image.shape[1:]
    side = max(rows, columns) / tiles
    count = math.ceil(tiles) + 1
    draws = random_fields.uniform(key, "tiles", (3, count, count), image.device)
    phases = [key.uniform("phase x"), key.uniform("phase y")]
    x, y = (
        ((torch.arange(length, device=image.device) + 0.5) / side + phase).long()
        for length, phase in zip((columns, rows), phases, strict=True)
    )
    spread = draws.index_select(1, y).index_select(2, x)
    moved = (spread[:2] * 2.0 - 1.0).mul_(offset)
    return _sample(image, *_moved((rows, columns), moved)).mul_(1.0 - spread[2] * gain)


def tiled_jpeg(image: Tensor, quality: int, side: int, share: float, key: Key) -> Tensor:
    """Store the picture as a scanner does: tiles, each a JPEG of its own, 4:2:0.

    The picture is a region of a slide, so the grid starts at a random phase; tiles that it cuts
    are continued by mirroring.

    Args:
        image: (C, H, W).
        quality: libjpeg quality, 1 to 100.
        side: Of a tile, in whole pixels.
        share: Of the loss that shows, 1 for all of it.
        key: Whose grid.

    Returns:
        (C, H, W).
    """
    image = image.contiguous()
    rows, columns = image.shape[1:]
    top, left = (int(key.uniform(axis) * side) for axis in ("rows", "columns"))
    levels = image.mul(255.0).round_().to(torch.uint8).cpu()
    for axis, before, length in ((1, top, rows), (2, left, columns)):
        total = -(-(before + length) // side) * side
        levels = levels.index_select(axis, _mirrored(torch.arange(total) - before, length))
    stored = torch.empty_like(levels)
    for y in range(0, levels.shape[1], side):
        for x in range(0, levels.shape[2], side):
            tile = levels[:, y : y + side, x : x + side]
            stored[:, y : y + side, x : x + side] = codec.jpeg(tile, quality)
    decoded = stored[:, top : top + rows, left : left + columns].to(image.device)
    shown = decoded.float().div_(255.0)
    return shown if share == 1.0 else image + (shown - image).mul_(share)


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Half-sample symmetric continuation: -1 becomes 0, ``length`` becomes ``length - 1``, ..."""
    index = index % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def _moved(size: tuple[int, int], by: Tensor) -> tuple[Tensor, Tensor]:
    """Positions x and y (H, W) that pixels read, displaced by (2, H, W)."""
    x = torch.arange(size[1], device=by.device, dtype=torch.float32)
    y = torch.arange(size[0], device=by.device, dtype=torch.float32)[:, None]
    return x + by[0], y + by[1]


def _sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Read a contiguous image between its pixels, bilinearly; its border continues outside.

    Args:
        image: (C, H, W).
        x: Positions, of any shape.
        y: Of the same shape.

    Returns:
        C values for each of them: (C, ...).
    """
    channels, rows, columns = image.shape
    shape = (channels, *x.shape)
    x, y = x.reshape(-1).clamp(0.0, columns - 1.0), y.reshape(-1).clamp(0.0, rows - 1.0)
    left, top = x.floor(), y.floor()
    right_share, lower_share = x - left, y - top
    left, top = left.long(), top.long()
    right, bottom = (left + 1).clamp_(max=columns - 1), (top + 1).clamp_(max=rows - 1)
    top, bottom = top.mul_(columns), bottom.mul_(columns)
    flat = image.view(channels, -1)
    upper = flat.index_select(1, top + left)
    upper.lerp_(flat.index_select(1, top.add_(right)), right_share)
    lower = flat.index_select(1, bottom + left)
    lower.lerp_(flat.index_select(1, bottom.add_(right)), right_share)
    return upper.lerp_(lower, lower_share).reshape(shape)
