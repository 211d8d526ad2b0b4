"""DICOM: single files, multi-frame files and series of single-frame files."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from modalities.formats import dicom_slide, slide
from modalities.formats.dicom_header import (
    Header,
    NoImageError,
    holder,
    items,
    numbers,
    parse,
    text,
)
from modalities.formats.dicom_overlay import overlay
from modalities.formats.dicom_pixels import single, spacing_of, windows_of
from modalities.formats.geometry import to_radiological
from modalities.formats.source import MAX_BYTES, Source
from modalities.image import MAX_VALUES, ImageError, RawImage, slice_index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHOICES = ("frame", "overlay", "volume", *slide.CHOICES)

# Slices of one volume; beyond it the headers alone take longer to read than anyone waits.
MAX_SLICES = 2**13

VOLUME_KINDS = ("ct", "mri")

# Slices nearer than this, in mm, are of one place.
_SAME_PLACE = 1e-3

# Choices that leave open how the volume is read.
_FOR_ONE_PLANE = ("crop", "overlay", "volume")


def read(files: Sequence[Source], choices: Mapping[str, object], kind: str | None) -> RawImage:
    """Read an image, a frame, or a volume.

    Args:
        files: One file, or the single-frame files of one series in any order.
        choices: `frame` of a multi-frame file, or `volume` where it holds several of the same
            place; of a slide those of `slide.read`; `overlay`, True to draw a single image's.
        kind: The modality asked for; None takes the file's own.

    Raises:
        ImageError: The file is damaged, lies about its size, or is no image; or the files are no
            single series.
    """
    overlays = choices.get("overlay", False)
    if not isinstance(overlays, bool):
        raise ImageError(f"{files[0].name}: overlay: expected true or false, got {overlays!r}")
    if overlays and len(files) > 1:
        raise ImageError(f"{files[0].name}: overlay: is for a single image; give one file")
    if len(files) > 1:
        return _series(files, choices, kind)
    return _one(parse(files[0], overlays), choices, kind, overlays=overlays)


def _one(
    header: Header, choices: Mapping[str, object], kind: str | None, *, overlays: bool = False
) -> RawImage:
    """What a single file holds."""
    name = header.name
    if dicom_slide.is_slide(header) and "frame" not in choices and not overlays:
        return dicom_slide.read([header], name, choices)
    _check_no_slide(choices, name)
    kind = kind or header.kind
    volume = kind in VOLUME_KINDS and not header.colour and "frame" not in choices
    why = ""
    if header.frames > 1 and volume:
        slices = _slices(header)
        if slices:
            if overlays:
                raise ImageError(f"{name}: overlay: is for a single image; choose frame= too")
            phases, why = _phases(slices)
            if phases:
                return _one_of(phases, name, choices, kind)
    if "volume" in choices:
        raise ImageError(f"{name}: volume: the file holds no volumes; leave the choice out")
    index, said = _frame(header, choices, kind)
    raw = single(header, index)
    if why:
        raw.warnings.append(f"the frames are no volume: {why}")
    raw.choices.update(said)
    if overlays:
        raw.overlay = overlay(header, index)
        raw.choices["overlay"] = "drawn white (asked)"
    if header.frames > 1 and "frame" not in choices:
        raw.warnings.append(
            f"holds {header.frames} frames, number {index} is used; choose with frame="
        )
    if kind in VOLUME_KINDS and not header.colour:
        plane = _plane(header, index)
        if plane is not None:
            _turn_axial(raw, plane)
    return raw


def _slices(header: Header) -> list[_Slice]:
    """The frames as slices of a volume; none where one does not say where it lies."""
    slices: list[_Slice] = []
    for index in range(header.frames):
        plane = _plane(header, index)
        if plane is None:
            return []
        if index == 0 and (
            header.frames > MAX_SLICES or header.frames * header.rows * header.columns > MAX_VALUES
        ):
            raise ImageError(
                f"{header.name}: NumberOfFrames: {header.frames} slices of "
                f"{header.columns}x{header.rows} are more than one volume may hold; "
                "choose one with frame="
            )
        slices.append(_Slice(header, index, plane))
    return slices


def _check_no_slide(choices: Mapping[str, object], where: str) -> None:
    for key in slide.CHOICES:
        if key in choices:
            raise ImageError(
                f"{where}: {key}: is for slides with a TotalPixelMatrix; leave the choice out"
            )


class _Plane(NamedTuple):
    """Where a frame lies, in DICOM's patient coordinates (LPS, mm)."""

    position: tuple[float, float, float]
    along_row: tuple[float, float, float]
    along_column: tuple[float, float, float]
    spacing: tuple[float, float] | None


class _Slice(NamedTuple):
    header: Header
    frame: int
    plane: _Plane


def _frame(
    header: Header, choices: Mapping[str, object], kind: str | None
) -> tuple[int, dict[str, str]]:
    count = header.frames
    if "frame" in choices:
        try:
            index = slice_index(choices["frame"], count, "frame")
        except ImageError as error:
            raise ImageError(f"{header.name}: {error}") from None
        return index, {"frame": f"{index} of {count} (asked)"}
    if count > 1 and kind == "oct":
        # A scan is centred on what was looked at, the fovea or the disc: so is its middle B-scan.
        return count // 2, {"frame": f"{count // 2} of {count} (default, the middle B-scan)"}
    if count > 1:
        return 0, {"frame": f"0 of {count} (default)"}
    return 0, {}


def _phases(slices: Sequence[_Slice]) -> tuple[list[list[_Slice]], str]:
    """The volumes the frames of a file make up, or none and the reason.

    Phases, echoes or diffusion directions repeat every position equally often; the first frame
    of each position, as the file has them, is then of the first volume, and so on.
    """
    first = slices[0].plane
    if not all(_parallel(item.plane, first) for item in slices):
        return [], "they do not lie parallel on one grid"
    normal = _normal(first)
    places: list[list[_Slice]] = []
    last = -math.inf
    for item in sorted(slices, key=lambda item: _height(item.plane, normal)):
        height = _height(item.plane, normal)
        if height - last < _SAME_PLACE:
            places[-1].append(item)
        else:
            places.append([item])
        last = height
    if len({len(place) for place in places}) > 1:
        return [], "some lie at the same position and some do not"
    if len(places) == 1 and len(slices) > 1:
        return [], "all lie at one position"
    return [
        list(volume)
        for volume in zip(
            *(sorted(place, key=lambda item: item.frame) for place in places), strict=True
        )
    ], ""


def _one_of(
    phases: Sequence[list[_Slice]], name: str, choices: Mapping[str, object], kind: str | None
) -> RawImage:
    """The volume that was asked for, or the first."""
    try:
        which = slice_index(choices.get("volume", 0), len(phases), "volume")
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    raw = _stack(phases[which], name, choices, kind)
    if len(phases) > 1 or "volume" in choices:
        origin = "asked" if "volume" in choices else "default"
        raw.choices["volume"] = f"{which} of {len(phases)} ({origin})"
    if len(phases) > 1 and "volume" not in choices:
        raw.warnings.append(
            f"holds {len(phases)} volumes of {len(phases[0])} slices, the first is used; "
            "choose with volume="
        )
    return raw


def _parallel(plane: _Plane, other: _Plane) -> bool:
    tilt = [a - b for a, b in zip(_normal(plane), _normal(other), strict=True)]
    row = [a - b for a, b in zip(plane.along_row, other.along_row, strict=True)]
    return max(map(abs, (*tilt, *row))) <= 0.01 and plane.spacing == other.spacing


def _plane(header: Header, index: int) -> _Plane | None:
    """Where a frame lies; None when the file does not (soundly) say."""
    name = header.name
    position = numbers(holder(header, index, "PlanePositionSequence"), name, "ImagePositionPatient")
    cosines = numbers(
        holder(header, index, "PlaneOrientationSequence"), name, "ImageOrientationPatient"
    )
    if len(position) != 3 or len(cosines) != 6:
        return None
    row, column = cosines[:3], cosines[3:]
    unit = all(abs(math.hypot(*axis) - 1) < 0.01 for axis in (row, column))
    square = abs(sum(a * b for a, b in zip(row, column, strict=True))) < 0.01
    if not unit or not square:
        raise ImageError(
            f"{name}: ImageOrientationPatient: the axes are not of length 1 and perpendicular; "
            "repair the header"
        )
    return _Plane(
        (position[0], position[1], position[2]),
        (row[0], row[1], row[2]),
        (column[0], column[1], column[2]),
        spacing_of(header, index, []),
    )


def _normal(plane: _Plane) -> tuple[float, float, float]:
    (a, b, c), (d, e, f) = plane.along_row, plane.along_column
    return b * f - c * e, c * d - a * f, a * e - b * d


def _height(plane: _Plane, normal: tuple[float, float, float]) -> float:
    return sum(p * n for p, n in zip(plane.position, normal, strict=True))


def _unit(vector: tuple[float, float, float]) -> NDArray[np.float64]:
    import numpy as np

    return np.array(vector) / math.hypot(*vector)


def _affine(plane: _Plane, between_slices: float = 1.0) -> NDArray[np.float64]:
    """Indices (column, row, slice) to RAS directions; DICOM's axes point left and posterior.

    Slices are taken to lie straight above one another: a tilted gantry shears the volume, which
    is left as it is.
    """
    import numpy as np

    between_rows, between_columns = plane.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = _unit(plane.along_row) * between_columns
    affine[:3, 1] = _unit(plane.along_column) * between_rows
    affine[:3, 2] = _unit(_normal(plane)) * between_slices
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _turn_axial(raw: RawImage, plane: _Plane) -> None:
    """Show a single axial slice as radiologists do: patient right at left, anterior on top."""
    import numpy as np

    normal = _normal(plane)
    if abs(normal[2]) < max(abs(normal[0]), abs(normal[1])):
        return  # not axial: as stored
    affine = _affine(plane)
    before = raw.values
    turned, spacing = to_radiological(before.transpose(0, 2, 1)[..., None], affine)
    if turned.shape[2:] != before.shape[1:] or not np.array_equal(turned[:, 0], before):
        raw.choices["orientation"] = "turned to radiological convention (file)"
    raw.values = turned[:, 0]
    if raw.padding is not None:
        mask = raw.padding.transpose(0, 2, 1)[..., None].astype(np.float32)
        raw.padding = to_radiological(mask, affine)[0][:, 0] > 0
    if raw.overlay is not None:
        drawn = raw.overlay.transpose(0, 2, 1)[..., None].astype(np.float32)
        raw.overlay = to_radiological(drawn, affine)[0][:, 0] > 0
    if raw.spacing_mm is not None:
        raw.spacing_mm = spacing[1:]


def _series(files: Sequence[Source], choices: Mapping[str, object], kind: str | None) -> RawImage:
    where = files[0].name if files[0].path is None else str(files[0].path.parent)
    headers: list[Header] = []
    held, others = 0, 0
    for file in files:
        try:
            headers.append(parse(file))
        except NoImageError:  # reports and presentation states lie beside the images they are about
            others += 1
            continue
        held += len(headers[-1].ds[headers[-1].pixels].value)
        if held > MAX_BYTES:
            raise ImageError(
                f"{where}: the files hold more than the {MAX_BYTES} bytes of pixels that are read "
                "together; give a list with fewer"
            )
    if not headers:
        raise ImageError(f"{where}: PixelData: none of the {others} files holds an image")
    raw = _of(headers, where, choices, kind)
    if others:
        raw.warnings.append(
            f"{others} {'file that is' if others == 1 else 'files that are'} no image, such as "
            "reports and presentation states, left out"
        )
    return raw


def _of(
    headers: Sequence[Header], where: str, choices: Mapping[str, object], kind: str | None
) -> RawImage:
    """The slide or the volume these files make up."""
    if len(headers) == 1:
        return _one(headers[0], choices, kind)
    for key in ("frame", "volume"):
        if key in choices:
            raise ImageError(f"{where}: {key}: this is a series; choose with slice=")
    if any(dicom_slide.is_slide(header) for header in headers):
        if not all(dicom_slide.is_slide(header) for header in headers):
            raise ImageError(f"{where}: some files are of a slide and some are not; give one kind")
        return dicom_slide.read(headers, where, choices)
    _check_no_slide(choices, where)
    _check_uniform(headers, where)
    slices = []
    for header in headers:
        plane = _plane(header, 0)
        if plane is None:
            raise ImageError(
                f"{header.name}: ImagePositionPatient, ImageOrientationPatient: needed to sort a "
                "series and missing; give one file"
            )
        slices.append(_Slice(header, 0, plane))
    return _stack(slices, where, choices, kind)


def _check_uniform(headers: Sequence[Header], where: str) -> None:
    """Refuse files that are not one series, listing what was found."""
    numbers: dict[str, int] = {}
    found: Counter[str] = Counter()
    for header in headers:
        uid = text(header.ds, "SeriesInstanceUID")
        number = numbers.setdefault(uid, len(numbers) + 1)
        frames = f" of {header.frames} frames" if header.frames > 1 else ""
        colour = " colour" if header.colour else ""
        found[f"series {number}: {header.columns}x{header.rows}{colour}{frames}"] += 1
    if len(found) > 1 or any(h.frames > 1 or h.colour for h in headers):
        listing = "; ".join(f"{count} x {what}" for what, count in found.items())
        raise ImageError(
            f"{where}: the files are not one series of single grey slices: {listing}; "
            "give a list with the files of one"
        )


def _stack(
    slices: list[_Slice], where: str, choices: Mapping[str, object], kind: str | None
) -> RawImage:
    """Sort slices along their normal and put them into one volume."""
    import numpy as np

    first = slices[0].plane
    normal = _normal(first)
    for item in slices:
        if not _parallel(item.plane, first):
            raise ImageError(
                f"{where}: ImageOrientationPatient, PixelSpacing: the slices do not lie parallel "
                "on one grid; give a list with those that do"
            )
    slices = sorted(slices, key=lambda item: _height(item.plane, normal))
    total = len(slices) * slices[0].header.rows * slices[0].header.columns
    if total > MAX_VALUES:
        raise ImageError(
            f"{where}: {len(slices)} slices are more than one volume may hold; give fewer files"
        )
    heights = [_height(item.plane, normal) for item in slices]
    gaps = [b - a for a, b in itertools.pairwise(heights)]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else None
    notes = _check_gaps(gaps, usual, where)
    affine = _affine(slices[0].plane, usual or 1.0)
    wanted = _wanted(slices, where, affine, choices, kind)
    picked = None
    count = len(slices)
    if wanted is not None:
        # The file's windows are the middle slice's, as of the whole volume.
        centre = slices[count // 2]
        windows = windows_of(centre.header, centre.frame, notes)
        picked = (wanted[1], count)
        slices = [slices[wanted[0]]]
        for item in centre, *slices:
            notes += [note for note in item.header.notes if note not in notes]

    half = len(slices) // 2
    middle = single(slices[half].header, slices[half].frame)
    values = np.empty((1, len(slices), *middle.values.shape[1:]), np.float32)
    padding = np.zeros(values.shape, bool)
    for at, item in enumerate(slices):
        part = middle if at == half else single(item.header, item.frame, windowed=False)
        values[:, at] = part.values
        if part.padding is not None:
            padding[:, at] = part.padding
        notes += [note for note in part.warnings if note not in notes]
    turned, spacing = to_radiological(values.transpose(0, 3, 2, 1), affine)
    if padding.any():
        mask = padding.transpose(0, 3, 2, 1).astype(np.float32)
        middle.padding = to_radiological(mask, affine)[0] > 0
    else:
        middle.padding = None
    middle.values = turned
    known = slices[0].plane.spacing is not None and usual is not None
    middle.spacing_mm = spacing if known else None
    middle.file = where
    middle.warnings = notes
    middle.provenance["slices"] = count
    if picked is not None:
        middle.picked = picked
        middle.windows = windows
    return middle


def _wanted(
    slices: Sequence[_Slice],
    where: str,
    affine: NDArray[np.float64],
    choices: Mapping[str, object],
    kind: str | None,
) -> tuple[int, int] | None:
    """The one slice that has to be decoded, as sorted and as counted from inferior, if one will do.

    All are needed for another plane than the stored one, for a montage or a projection, and where
    the window is measured on the volume: the picture is the same either way.
    """
    from nibabel import orientations

    others = [key for key in choices if key not in ("slice", "plane", "window", *_FOR_ONE_PLANE)]
    asked = choices.get("slice")
    if others or asked is None or asked == "max-area" or choices.get("plane", "axial") != "axial":
        return None
    stored = orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    if int(stored[2, 0]) != 2 or _measures(slices[len(slices) // 2], choices, kind):
        return None
    try:
        index = slice_index(asked, len(slices))
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from None
    return (index if stored[2, 1] > 0 else len(slices) - 1 - index), index


def _measures(middle: _Slice, choices: Mapping[str, object], kind: str | None) -> bool:
    """Whether the window may come from the pixels of the whole volume."""
    header = middle.header
    if "window" in choices:
        return str(choices["window"]).strip().lower() in ("minmax", "percentile")
    if windows_of(header, middle.frame, []):
        return False
    rescale = holder(header, middle.frame, "PixelValueTransformationSequence")
    luts = items(header.ds, "ModalityLUTSequence")
    hounsfield = not luts and text(rescale, "RescaleType").upper() in ("", "HU")
    return not (hounsfield and (kind or header.kind) == "ct" and header.kind in (None, "ct"))


def _check_gaps(gaps: Sequence[float], usual: float | None, where: str) -> list[str]:
    if usual is None:
        return []
    if min(gaps) < _SAME_PLACE:
        raise ImageError(
            f"{where}: ImagePositionPatient: several slices lie at one position (phases, echoes "
            "or copies); give a list with one of each"
        )
    odd = [f"{gap:.1f}" for gap in gaps if abs(gap - usual) > max(0.1 * usual, 0.01)]
    if not odd:
        return []
    return [f"slices are {usual:.2f} mm apart, but {len(odd)} gaps differ: {', '.join(odd[:8])} mm"]
