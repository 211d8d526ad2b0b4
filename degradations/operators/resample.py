"""Blur by resampling: zoom during exposure, rough glass, and detectors with fewer pixels."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators import blur, light
from degradations.operators.planes import as_image, as_planes, scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Enlargements that a zoom averages over, for every so many pixels of the longer side.
_ZOOMS, _ZOOM_SIDE = 32, 512


def zoom(image: Tensor, factor: float, linear: bool = False) -> Tensor:
    """Average over enlargements about the image's centre, from 1 to a factor.

    The enlargements are the powers 0 to n - 1 of one small zoom Z. Their mean is the product of
    (1 + Z) / 2, (1 + Z^2) / 2, (1 + Z^4) / 2, ..., so that log2(n) resamplings make it.

    Args:
        image: (C, H, W), float32 in [0, 1] or uint8.
        factor: The largest enlargement, at least 1.
        linear: Whether to average in linear light.

    Returns:
        (C, H, W) of the same type; uint8 is rounded.
    """
    rounds = zoom_rounds(max(image.shape[-2:]))
    first = factor ** (1.0 / (2**rounds - 1))
    eight_bit = image.dtype == torch.uint8
    values = light.to_linear(image) if linear else light.to_float(image)
    if blur.is_fast(image):
        values = _zoom_by_loops(values, first, rounds)
    else:
        for turn in range(rounds):
            values = values.add(_zoomed(values, first ** (2**turn))).mul_(0.5)
    if linear:
        return light.to_display(values, image.dtype)
    return light.to_levels(values) if eight_bit else values


def zoom_rounds(side: int) -> int:
    """Binary logarithm of the number of enlargements averaged on an image of this side."""
    return max(3, round(math.log2(_ZOOMS * side / _ZOOM_SIDE)))


@functools.lru_cache(maxsize=256)
def _zoom_places(size: int, factor: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each pixel the one before its source, and the weight of the next one."""
    centre = (size - 1) / 2.0
    source = np.clip(centre + (np.arange(size) - centre) / factor, 0.0, size - 1.0)
    before = np.minimum(source.astype(np.int64), max(size - 2, 0))
    return before, (source - before).astype(np.float32)


def _zoomed(values: Tensor, factor: float) -> Tensor:
    for axis in (-2, -1):
        size = values.shape[axis]
        before, share = (
            torch.from_numpy(part).to(values.device) for part in _zoom_places(size, factor)
        )
        near = values.index_select(axis, before)
        far = values.index_select(axis, (before + 1).clamp(max=size - 1))
        values = torch.lerp(near, far, share[:, None] if axis == -2 else share)
    return values


def _zoom_by_loops(values: Tensor, first: float, rounds: int) -> Tensor:
    from degradations.kernels import blur as loops

    planes, step = as_planes(values)
    height, elements = plane_shape = planes.shape[1:]
    line = np.zeros(elements + step, dtype=np.float32)
    result = np.empty_like(planes)
    spare = scratch("zoomed even", plane_shape), scratch("zoomed odd", plane_shape)
    for plane, last in zip(planes, result, strict=True):
        here = plane
        for turn in range(rounds):
            there = last if turn == rounds - 1 else spare[turn % 2]
            factor = first ** (2**turn)
            rows, row_share = _zoom_places(height, factor)
            runs = _zoom_runs(elements // step, factor, step)
            loops.average_with_zoomed(here, step, rows, row_share, *runs, line, there)
            here = there
    return as_image(result, step)


@functools.lru_cache(maxsize=256)
def _zoom_runs(
    size: int, factor: float, step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Runs of pixels with one distance to their sources: starts and the end, sources; weights."""
    before, share = _zoom_places(size, factor)
    distance = np.arange(size) - before
    starts = np.flatnonzero(np.diff(distance, prepend=distance[0] - 1))
    ends = np.append(starts, size) * step
    return ends, before[starts] * step, np.repeat(share, step)


def glass(image: Tensor, reach: float, sigma: float, grain: float, key: Key) -> Tensor:
    """Look through a rough pane: every pixel comes from a random place nearby, then blur.

    The displacements are drawn on a grid and interpolated between its points, so that one pane
    stays the same at any resolution of the image. They scale with ``reach``, so that damage
    rises with it.

    Args:
        image: (C, H, W), float32 in [0, 1] or uint8.
        reach: Largest displacement along rows and along columns, in pixels.
        sigma: Standard deviation of the Gaussian blur afterwards, in pixels.
        grain: Distance of the grid points, in pixels.
        key: Whose pane.

    Returns:
        (C, H, W) of the same type; uint8 is rounded.
    """
    height, width = image.shape[-2:]
    rows, row_share = _grid_places(height, grain)
    columns, column_share = _grid_places(width, grain)
    places = (rows, row_share, columns, column_share)
    shape = (2, int(rows[-1]) + 2, int(columns[-1]) + 2)
    grid = random_fields.uniform(key, "displacement", shape, image.device).mul(2.0).sub_(1.0)
    values = light.to_float(image)
    if blur.is_fast(image):
        from degradations.kernels import blur as loops

        planes, step = as_planes(values)
        out = np.empty_like(planes)
        for plane, result in zip(planes, out, strict=True):
            loops.displace(plane, step, grid.numpy(), np.float32(reach), *places, result)
        moved = as_image(out, step)
    else:
        moved = _displaced(
            values, grid, reach, *(torch.from_numpy(part).to(image.device) for part in places)
        )
    blurred = blur.gaussian(moved, sigma)
    return light.to_levels(blurred) if image.dtype == torch.uint8 else blurred


def _grid_places(size: int, grain: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    place = (np.arange(size) + 0.5) / grain
    before = np.floor(place)
    return before.astype(np.int64), (place - before).astype(np.float32)


def _displaced(
    values: Tensor,
    grid: Tensor,
    reach: float,
    rows: Tensor,
    row_share: Tensor,
    columns: Tensor,
    column_share: Tensor,
) -> Tensor:
    lines = torch.lerp(grid[:, rows], grid[:, rows + 1], row_share[:, None])
    offset = torch.lerp(lines[..., columns], lines[..., columns + 1], column_share)
    height, width = values.shape[-2:]
    row = torch.arange(height, device=values.device)[:, None] + reach * offset[0]
    column = torch.arange(width, device=values.device) + reach * offset[1]
    (above, under, v), (before, after, u) = _fold(row, height), _fold(column, width)
    top = torch.lerp(values[:, above, before], values[:, above, after], u)
    low = torch.lerp(values[:, under, before], values[:, under, after], u)
    return torch.lerp(top, low, v)


def _fold(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels about a place, mirrored once at the borders, and the weight of the second."""
    place = torch.where(place < -0.5, -1.0 - place, place)
    place = torch.where(place > size - 0.5, 2.0 * size - 1.0 - place, place)
    place = place.clamp(0.0, size - 1.0)
    before = place.to(torch.int64)
    return before, (before + 1).clamp(max=size - 1), place - before


def low_resolution(image: Tensor, scale: float, smooth: bool, share: float = 1.0) -> Tensor:
    """Average over the cells of a coarser grid, and show that at the old size.

    Args:
        image: (C, H, W), float32 in [0, 1] or uint8.
        scale: Cells per pixel along each axis, above 0 and at most 1; the number of cells is
            rounded.
        smooth: Whether cells are shown interpolated between their centres, rather than as blocks.
        share: Weight of the result against the image itself, above 0 and at most 1.

    Returns:
        (C, H, W) of the same type; uint8 is rounded.
    """
    if share < 1.0:
        values = light.to_float(image)
        mixed = torch.lerp(values, low_resolution(values, scale, smooth), share)
        return light.to_levels(mixed) if image.dtype == torch.uint8 else mixed
    height, width = image.shape[-2:]
    cells = (max(1, round(height * scale)), max(1, round(width * scale)))
    if not blur.is_fast(image):
        values = light.to_float(image)
        rows, columns = (
            torch.from_numpy(_there_and_back(size, count, smooth)).to(values.device)
            for size, count in zip((height, width), cells, strict=True)
        )
        seen: Tensor = rows @ values @ columns.T
        return light.to_levels(seen) if image.dtype == torch.uint8 else seen
    planes, step = as_planes(image)
    shown = np.empty(planes.shape, dtype=np.float32 if smooth else planes.dtype)
    for plane, result in zip(planes, shown, strict=True):
        small = _cells(plane, step, cells)
        if smooth:
            _interpolate_cells(small, step, result)
        else:
            _show_blocks(small, step, result)
    out = as_image(shown, step)
    return light.to_levels(out) if smooth and image.dtype == torch.uint8 else out


def _cells(plane: NDArray[Any], step: int, cells: tuple[int, int]) -> NDArray[np.float32]:
    """Cell averages in [0, 1]."""
    from degradations.kernels import blur as loops

    height, elements = plane.shape
    rows, row_weights = _shares(height, cells[0])
    columns, column_weights = _shares(elements // step, cells[1])
    small = np.empty((cells[0] + 1, (cells[1] + 1) * step), dtype=np.float32)
    loops.bin_down(plane, step, rows, row_weights, columns, column_weights, small)
    small = small[: cells[0], : cells[1] * step]
    return small / np.float32(255.0) if plane.dtype == np.uint8 else small


def _show_blocks(small: NDArray[np.float32], step: int, out: NDArray[Any]) -> None:
    if out.dtype == np.uint8:
        small = np.rint(small * np.float32(255.0)).astype(np.uint8)
    rows = _block_of(out.shape[0], small.shape[0])
    columns = _block_of(out.shape[1] // step, small.shape[1] // step)
    elements = (columns[:, None] * step + np.arange(step)).reshape(-1)
    np.take(small.take(elements, axis=1), rows, axis=0, out=out, mode="clip")


def _interpolate_cells(small: NDArray[np.float32], step: int, out: NDArray[np.float32]) -> None:
    from degradations.kernels import blur as loops

    rows, row_share = _between_cells(out.shape[0], small.shape[0])
    count = small.shape[1] // step
    before, share = _between_cells(out.shape[1] // step, count)
    left = (before[:, None] * step + np.arange(step)).reshape(-1)
    right = (np.minimum(before + 1, count - 1)[:, None] * step + np.arange(step)).reshape(-1)
    scratch = np.empty((2, out.shape[1]), dtype=np.float32)
    loops.enlarge(
        np.ascontiguousarray(small),
        rows,
        row_share,
        left,
        right,
        np.repeat(share, step),
        scratch,
        out,
    )


def _shares(size: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each pixel the first cell that it belongs to, and its weight there and in the next.

    Integers decide, so that no rounding moves a border.
    """
    pixel = np.arange(size)
    first = pixel * cells // size
    inside = np.minimum((first + 1) * size - pixel * cells, cells)
    weights = np.stack([inside, cells - inside], axis=1) / size
    return first, weights.astype(np.float32)


def _block_of(size: int, cells: int) -> NDArray[np.int64]:
    """The cell in which each pixel's centre lies."""
    return (2 * np.arange(size) + 1) * cells // (2 * size)


def _between_cells(size: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each pixel the cell centre before it, and the weight of the next one."""
    place = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0.0, cells - 1.0)
    before = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return before, (place - before).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _there_and_back(size: int, cells: int, smooth: bool) -> NDArray[np.float32]:
    """The same along one axis as a (size, size) matrix."""
    down = np.zeros((cells + 1, size))
    first, weights = _shares(size, cells)
    pixel = np.arange(size)
    down[first, pixel] = weights[:, 0]
    down[first + 1, pixel] += weights[:, 1]
    up = np.zeros((size, cells + 1))
    if smooth:
        before, share = _between_cells(size, cells)
        up[pixel, before] = 1.0 - share
        up[pixel, before + 1] += share
    else:
        up[pixel, _block_of(size, cells)] = 1.0
    return (up @ down).astype(np.float32)


def thickened(volume: Tensor, thickness: float) -> Tensor:
    """Average neighbouring slices, as a thicker collimation does (partial volume).

    Args:
        volume: (C, D, H, W).
        thickness: Of the new slices, in old ones, at least 1; they stay as many, and overlap.
            Slices beyond the ends are taken to be like the last.

    Returns:
        (C, D, H, W).
    """
    depth = volume.shape[1]
    reach = max(0, math.ceil((thickness - 1.0) / 2.0))
    total, weights = torch.zeros_like(volume), 0.0
    slices = torch.arange(depth, device=volume.device)
    for offset in range(-reach, reach + 1):
        # How much of this slice lies within half a thickness of the middle.
        weight = min(thickness / 2.0 - abs(offset) + 0.5, 1.0)
        taken = (slices + offset).clamp(0, depth - 1)
        total += volume.index_select(1, taken) * weight
        weights += weight
    return total / weights
