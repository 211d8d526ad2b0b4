"""From a volume to one picture: a slice, a montage of slices, or a projection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from modalities.image import ImageError, MedicalImage, Plane, SliceChoice, slice_index

if TYPE_CHECKING:
    import torch

CHOICES = ("slice", "plane", "slices", "montage", "mip", "mask")
PLANES = ("axial", "coronal", "sagittal")


def choose(image: MedicalImage, choices: Mapping[str, object], file: str) -> MedicalImage:
    """The picture that was asked for, or the volume itself.

    Args:
        image: A volume.
        choices: `slice` (index, fraction, `middle`, or `max-area` with `mask`, a NIfTI file on
            the same grid), `slices` (so many, equally spaced, side by side), `montage` (`(rows,
            columns)` of them), `mip` (`True`, or the slab's thickness in mm around `slice`), each
            in `plane`.
        file: For messages.

    Raises:
        ImageError: A choice cannot be met, or two of them contradict each other.
    """
    try:
        return _choose(image, choices)
    except ImageError as error:
        raise ImageError(f"{file}: {error}") from None


def _choose(image: MedicalImage, choices: Mapping[str, object]) -> MedicalImage:
    asked_plane = choices.get("plane", "axial")
    if asked_plane not in PLANES:
        raise ImageError(f"plane: expected one of {', '.join(PLANES)}, got {asked_plane!r}")
    plane = cast("Plane", asked_plane)
    spread = "slices" in choices or "montage" in choices
    projected = choices.get("mip") not in (None, False)
    if spread and ("slice" in choices or projected):
        raise ImageError("slices, montage: they choose the slices; leave slice= and mip= out")
    if "mask" in choices and choices.get("slice") != "max-area":
        raise ImageError("mask: is for slice='max-area'; add that, or leave the mask out")
    if spread:
        return montage(image, choices.get("slices"), choices.get("montage"), plane)
    if projected:
        return projection(image, choices["mip"], _slice(image, choices, plane, "middle")[0], plane)
    if "slice" not in choices:
        if image.pixels.shape[1] == 1 and plane == "axial":
            return said(image.to_slice(0), slice="0 of 1 (only)")
        if "plane" in choices:
            raise ImageError("plane: choose a slice of it too, e.g. slice='middle'")
        return image
    index, origin = _slice(image, choices, plane, None)
    depth = image.pixels.shape[PLANES.index(plane) + 1]
    return said(image.to_slice(index, plane), slice=f"{index} of {depth} ({origin})")


def _slice(
    image: MedicalImage, choices: Mapping[str, object], plane: Plane, default: SliceChoice | None
) -> tuple[int, str]:
    asked = choices.get("slice", default)
    if asked == "max-area":
        return _max_area(image, choices.get("mask"), plane), "asked, largest area of the mask"
    return slice_index(asked, image.pixels.shape[PLANES.index(plane) + 1]), "asked"


def montage(image: MedicalImage, count: object, grid: object, plane: Plane) -> MedicalImage:
    """Equally spaced slices side by side, in reading order from the first to the last.

    The volume is cut into `count` parts of equal thickness and the middle of each is shown, so
    that neither end is overrepresented.

    Args:
        image: A volume.
        count: Number of slices; None fills the grid.
        grid: `(rows, columns)`; None takes the most nearly square one.
        plane: `axial`, `coronal` or `sagittal`.

    Raises:
        ImageError: The slices are more than there are, or do not fit the grid.
    """
    import torch

    depth = image.pixels.shape[PLANES.index(plane) + 1]
    rows, columns = _grid(grid) if grid is not None else (0, 0)
    if count is None:
        count = rows * columns
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= depth:
        raise ImageError(f"slices: expected 1..{depth} of them, got {count!r}")
    if grid is None:
        columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
    if count > rows * columns:
        raise ImageError(f"montage: {count} slices do not fit into {rows}x{columns}")
    indices = [(2 * part + 1) * depth // (2 * count) for part in range(count)]
    tiles = [image.to_slice(index, plane) for index in indices]
    blank = torch.full_like(tiles[0].pixels, _black(image))
    cells = [tile.pixels for tile in tiles] + [blank] * (rows * columns - count)
    lines = [torch.cat(cells[at : at + columns], dim=2) for at in range(0, len(cells), columns)]
    listing = ",".join(map(str, indices))
    return said(
        replace(tiles[0], pixels=torch.cat(lines, dim=1)),
        slice=f"{listing} of {depth} (asked, equally spaced)",
        montage=f"{rows}x{columns} ({'default' if grid is None else 'asked'})",
    )


def projection(image: MedicalImage, slab: object, centre: int, plane: Plane) -> MedicalImage:
    """Maximum intensity projection along the normal of a plane.

    Args:
        image: A volume.
        slab: `True` for all of it, or a thickness in mm: the nearest whole number of slices.
        centre: The slab's middle slice.
        plane: `axial`, `coronal` or `sagittal`.

    Raises:
        ImageError: The thickness is no length, or the spacing it needs is unknown.
    """
    axis = PLANES.index(plane) + 1
    depth = image.pixels.shape[axis]
    first, last, thickness = 0, depth - 1, "all"
    if slab is not True:
        if not isinstance(slab, int | float) or not math.isfinite(slab) or slab <= 0:
            raise ImageError(f"mip: expected true or a thickness in mm above 0, got {slab!r}")
        if image.spacing_mm is None:
            raise ImageError("mip: the slice spacing is unknown; use mip=true for the whole volume")
        count = max(1, round(slab / image.spacing_mm[axis - 1]))
        first = max(0, centre - (count - 1) // 2)
        last = min(depth - 1, centre + count // 2)
        thickness = f"{slab:g} mm"
    part = image.pixels.narrow(axis, first, last - first + 1)
    flat = replace(image, pixels=part.amax(dim=axis, keepdim=True))
    return said(
        flat.to_slice(0, plane),
        slice=f"{first}..{last} of {depth} ({'asked' if slab is not True else 'all'})",
        mip=f"maximum, {thickness} (asked)",
    )


def _grid(grid: object) -> tuple[int, int]:
    numbers = list(grid) if isinstance(grid, list | tuple) else []
    if len(numbers) != 2 or not all(type(n) is int and n > 0 for n in numbers):
        raise ImageError(f"montage: expected (rows, columns) above 0, got {grid!r}")
    return numbers[0], numbers[1]


def _black(image: MedicalImage) -> float:
    """The volume's value that is shown darkest."""
    inverted = image.domain != "display" and image.window is not None and image.window.inverted
    return float(image.pixels.max() if inverted else image.pixels.min())


def _max_area(image: MedicalImage, mask: object, plane: Plane) -> int:
    if mask is None:
        raise ImageError("slice: 'max-area' needs mask=, a NIfTI file on the same grid")
    found = _mask(mask)
    if found.shape != image.pixels.shape[1:]:
        raise ImageError(
            f"mask: {tuple(found.shape)} voxels, the image has {tuple(image.pixels.shape[1:])}; "
            "resample the mask to the image"
        )
    across: Sequence[int] = [axis for axis in range(3) if axis != PLANES.index(plane)]
    area = found.sum(dim=tuple(across))
    if int(area.max()) == 0:
        raise ImageError("mask: is empty; choose the slice by index or fraction")
    return int(area.argmax())


def _mask(source: object) -> torch.Tensor:
    """True inside, `(D, H, W)` as `MedicalImage` orders it."""
    import torch

    from modalities.formats import nifti
    from modalities.formats.source import detect, resolve

    files, series = resolve(source)
    if series or detect(files[0]) != "nifti":
        raise ImageError(f"mask: {files[0].name}: expected a NIfTI file")
    return torch.from_numpy(nifti.read(files, {}).values[0] > 0)


def said(image: MedicalImage, **choices: str) -> MedicalImage:
    """The image with more choices in its provenance."""
    more = {**image.provenance.get("choices", {}), **choices}
    return replace(image, provenance={**image.provenance, "choices": more})
