"""DICOM pixels: decoded, in their bits, and through the modality transformation."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modalities.formats import codecs
from modalities.formats.dicom_header import (
    Header,
    holder,
    items,
    many,
    numbers,
    sound,
    syntax_name,
    text,
)
from modalities.formats.hush import hushed
from modalities.formats.jpeg import check_scans, measure
from modalities.image import ImageError, RawImage, Region, Window, WindowFunction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_FUNCTIONS: dict[str, WindowFunction] = {
    "": "linear",
    "LINEAR": "linear",
    "LINEAR_EXACT": "linear_exact",
    "SIGMOID": "sigmoid",
}
# WindowCenterWidthExplanation is free text: only these words are taken from it.
_LABELS = (
    *("abdomen", "bone", "brain", "chest", "head", "liver", "lung", "mediastinum", "spine"),
    *("soft tissue", "soft_tissue", "stroke", "subdural", "normal", "harder", "softer", "user"),
)
# RescaleType and ModalityLUTType, PS3.3 C.11.1.1.2. US is "unspecified".
_UNITS = ("", "HU", "OD", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
# In this order, so that the bits do not depend on what else is installed.
_DECODERS = ("pydicom", "pillow", codecs.NAME)


def single(header: Header, index: int) -> RawImage:
    """One frame as it is stored, rescaled."""
    import numpy as np

    ds = header.ds
    notes = list(header.notes)
    tiled = "TILED" in text(ds, "ImageType").upper() or text(ds, "Modality").upper() == "SM"
    if header.frames > 1 and tiled:
        notes.append("the frames are tiles of one plane; one tile is shown")
    if "MOSAIC" in text(ds, "ImageType").upper():
        notes.append("the image is a mosaic of slices, shown side by side")
    stored, decoder = _decode(header, index)
    provenance = {
        "format": "dicom",
        "transfer_syntax": syntax_name(header.syntax),
        "decoder": decoder,
        "photometric": header.photometric,
        "rows_columns_frames": [header.rows, header.columns, header.frames],
        "burned_in_annotation": _burned(ds),
    }
    raw = RawImage(
        values=np.zeros((1, 1, 1), np.float32),
        file=header.name,
        provenance=provenance,
        kind=header.kind,
        spacing_mm=spacing_of(header, index, notes),
        picture=_picture(header),
        warnings=notes,
    )
    if header.colour:
        rgb, top = _colour(header, stored)
        raw.values = np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32)
        raw.display_range = (0.0, float(top))
        return raw
    values, unit, changed = _rescaled(header, index, stored, notes)
    unit = unit if unit in _UNITS else "US"  # other text may be anything, a name too
    raw.values = values[None]
    raw.inverted = header.photometric == "MONOCHROME1"
    raw.windows = windows_of(header, index, notes)
    raw.padding = _padding(header, stored)
    raw.physical = True
    # PS3.3 C.8.11.3.1.2: with the sign 1 a lower value is less intensity, so not a negative.
    if (
        not changed
        and text(ds, "PixelIntensityRelationship").upper() == "LIN"
        and text(ds, "PixelIntensityRelationshipSign") == "1"
    ):
        raw.intensity = "linear"
    raw.hounsfield = unit in ("", "HU")
    raw.provenance["rescale_type"] = unit or None
    if header.kind == "ct" and not changed:
        notes.append("RescaleSlope is missing: the stored values are taken as Hounsfield units")
    if header.bits_allocated <= 8 and not changed and not raw.windows:
        raw.display_range = (0.0, float((1 << header.bits_stored) - 1))
    return raw


def _decode(header: Header, index: int) -> tuple[NDArray[Any], str]:
    """Stored values of one frame, `(H, W)` or `(H, W, 3)` in RGB, and what decoded them."""
    import numpy as np
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = header.name
    uid = UID(header.syntax)
    try:
        decoder = get_decoder(uid)
    except (NotImplementedError, ValueError):
        raise ImageError(
            f"{name}: TransferSyntaxUID: {syntax_name(uid)} is not supported; "
            "convert the file to Explicit VR Little Endian"
        ) from None
    plugins = [""]  # uncompressed: pydicom itself
    if uid.is_encapsulated:
        codecs.add_to(decoder)
        plugins = [plugin for plugin in _DECODERS if plugin in decoder.available_plugins]
        if not plugins:
            raise ImageError(
                f"{name}: TransferSyntaxUID: {uid.name} needs a decoder that is not installed; "
                "reinstall mmeval-medical with its dependencies"
            )
        header = _check_stream(header, index)
    options: dict[str, Any] = {
        "number_of_frames": header.frames,
        "pixel_representation": int(header.signed),
        "photometric_interpretation": header.photometric,
        # Ours minds HighBit (see _in_bits); theirs takes it to be BitsStored - 1.
        "correct_unused_bits": False,
    }
    failed = ""
    for plugin in plugins:
        try:
            with hushed():
                array, _ = decoder.as_array(
                    header.ds, index=index, raw=False, decoding_plugin=plugin, **options
                )
        except Exception as error:  # decoders raise many classes; their texts are not ours
            failed = type(error).__name__
            continue
        shape = (header.rows, header.columns, 3)[: 3 if header.samples == 3 else 2]
        if array.shape != shape:
            failed = f"decoded to {array.shape}, declared {shape}"
            continue
        return _in_bits(header, np.asarray(array)), plugin or "pydicom"
    raise ImageError(
        f"{name}: {header.pixels}: the {syntax_name(uid)} stream cannot be decoded ({failed}); "
        "fetch the file again"
    )


def _in_bits(header: Header, array: NDArray[Any]) -> NDArray[Any]:
    """Keep the bits that are pixels: overlays and rubbish may sit above or below them."""
    import numpy as np

    if array.dtype.kind not in "ui" or header.bits_allocated == 1 or header.samples == 3:
        return array
    if header.bits_stored == header.bits_allocated:
        return array
    shift = header.high_bit + 1 - header.bits_stored
    wide = array.astype(np.int32 if header.bits_allocated <= 16 else np.int64)
    # In place: the largest images fill half a gigabyte.
    np.right_shift(wide, shift, out=wide)
    np.bitwise_and(wide, (1 << header.bits_stored) - 1, out=wide)
    if header.signed:
        sign = 1 << (header.bits_stored - 1)
        np.bitwise_xor(wide, sign, out=wide)
        np.subtract(wide, sign, out=wide)
    return wide


def _check_stream(header: Header, index: int) -> Header:
    """Compare a compressed frame's own size and sign with the header before decoding it."""
    from pydicom.encaps import get_frame

    try:
        with hushed():
            stream = get_frame(header.ds.PixelData, index, number_of_frames=header.frames)
    except Exception as error:
        raise ImageError(
            f"{header.name}: PixelData: frame {index} of {header.frames} cannot be found "
            f"({type(error).__name__}); fetch the file again"
        ) from None
    found = measure(stream)
    if found is None:
        return header
    if (found.width, found.height) != (header.columns, header.rows):
        raise ImageError(
            f"{header.name}: Columns x Rows: the header says {header.columns}x{header.rows}, "
            f"the compressed image is {found.width}x{found.height}; repair the header"
        )
    if found.samples != header.samples:
        raise ImageError(
            f"{header.name}: SamplesPerPixel: the header says {header.samples}, the compressed "
            f"image has {found.samples}; repair the header"
        )
    check_scans(stream, found.width * found.height * found.samples, header.name)
    # A signed JPEG 2000 image under PixelRepresentation 0: the image itself is to be believed.
    return replace(header, signed=True) if found.signed else header


def _colour(header: Header, stored: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """RGB `(H, W, 3)` and the value of white."""
    import numpy as np
    from pydicom.pixels.processing import apply_color_lut

    if header.photometric != "PALETTE COLOR":
        return stored, (1 << header.bits_stored) - 1
    try:
        with hushed():
            _check_segments(header)
            rgb = np.asarray(apply_color_lut(stored.astype(np.int64), header.ds))
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            f"{header.name}: PaletteColorLookupTable: cannot be applied "
            f"({type(error).__name__}); repair the header"
        ) from None
    if rgb.dtype.itemsize == 1:
        return rgb[..., :3], 255
    if not (rgb & 0xFF).any():  # 8-bit colours in the high bytes of a 16-bit table
        return rgb[..., :3] >> 8, 255
    return rgb[..., :3], 65535


def _check_segments(header: Header) -> None:
    """Refuse segmented palettes (PS3.3 C.7.9.2) that unfold to more than a table may hold."""
    ds = header.ds
    for colour in ("Red", "Green", "Blue"):
        packed = ds.get(f"Segmented{colour}PaletteColorLookupTableData")
        descriptor = numbers(ds, header.name, f"{colour}PaletteColorLookupTableDescriptor")
        if not isinstance(packed, bytes) or len(descriptor) != 3:
            continue
        if descriptor[2] == 8:
            words = list(packed)
        else:
            words = list(struct.unpack(f"<{len(packed) // 2}H", packed[: len(packed) // 2 * 2]))
        at = total = 0
        while at + 1 < len(words) and total <= 65536:
            kind, length = words[at : at + 2]
            if kind == 2:
                raise ImageError(
                    f"{header.name}: Segmented{colour}PaletteColorLookupTableData: indirect "
                    "segments are not supported; store the table unsegmented"
                )
            total += length
            at += 2 + (length if kind == 0 else 1)
        if total > 65536:
            raise ImageError(
                f"{header.name}: Segmented{colour}PaletteColorLookupTableData: unfolds to more "
                "than 65536 entries; repair the header"
            )


def _rescaled(
    header: Header, index: int, stored: NDArray[Any], notes: list[str]
) -> tuple[NDArray[np.float32], str, bool]:
    """Values after the Modality LUT or rescale, the unit, and whether there was one."""
    import numpy as np

    ds, name = header.ds, header.name
    rescale = holder(header, index, "PixelValueTransformationSequence")
    slope = numbers(rescale, name, "RescaleSlope")
    intercept = numbers(rescale, name, "RescaleIntercept")
    unit = text(rescale, "RescaleType").upper()
    if slope or intercept:
        m, b = (slope or [1.0])[0], (intercept or [0.0])[0]
        if m == 0:
            raise ImageError(f"{name}: RescaleSlope: is 0, so every pixel is the same; repair it")
        if not abs(m) * 2.0**header.bits_allocated + abs(b) < np.finfo(np.float32).max:
            raise ImageError(f"{name}: RescaleSlope: gives values beyond all bounds; repair it")
        return _by_rows(stored, lambda part: part.astype(np.float64) * m + b), unit, True
    luts = items(ds, "ModalityLUTSequence")
    if luts:
        table, first, _ = _lookup_table(luts[0], name, "ModalityLUTSequence", header.signed)
        last = len(table) - 1
        values = _by_rows(stored, lambda p: table[np.clip(p.astype(np.int64) - first, 0, last)])
        return values, text(luts[0], "ModalityLUTType").upper(), True
    values = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: {header.pixels}: some pixels are not finite numbers")
    return values, unit, False


def _by_rows(
    stored: NDArray[Any], change: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[np.float32]:
    """`change`, a strip of rows at a time: its intermediate arrays are wide."""
    import numpy as np

    values = np.empty(stored.shape, np.float32)
    for top in range(0, len(stored), 512):
        values[top : top + 512] = change(stored[top : top + 512])
    return values


def _lookup_table(
    item: Dataset, name: str, field: str, signed: bool
) -> tuple[NDArray[np.int64], int, int]:
    """Entries, first input value and bits per entry of a LUT (PS3.3 C.11.1.1, C.11.2.1.1)."""
    import numpy as np

    descriptor = numbers(sound(item, name), name, "LUTDescriptor")
    data = item.get("LUTData")
    if len(descriptor) != 3 or data is None:
        raise ImageError(f"{name}: {field}: the table is incomplete; repair the header")
    count = int(descriptor[0]) % 65536 or 65536  # 0 stands for 2**16
    first = int(descriptor[1])
    if signed and first > 32767:
        first -= 65536
    bits = int(descriptor[2])
    if isinstance(data, bytes):
        width = 1 if len(data) < 2 * count else 2
        table = np.frombuffer(data, "<u1" if width == 1 else "<u2").astype(np.int64)
    else:
        table = np.array([int(entry) & 0xFFFF for entry in numbers(item, name, "LUTData")])
    if len(table) < count or not 1 <= bits <= 16:
        raise ImageError(
            f"{name}: {field}: {len(table)} entries, {count} declared; repair the header"
        )
    return table[:count], first, bits


def windows_of(header: Header, index: int, notes: list[str]) -> tuple[Window, ...]:
    """The file's windows, then its VOI LUTs."""
    name = header.name
    voi = holder(header, index, "FrameVOILUTSequence")
    centres = numbers(voi, name, "WindowCenter")
    widths = numbers(voi, name, "WindowWidth")
    names = voi.get("WindowCenterWidthExplanation")
    labels = [str(n).lower() for n in (names if many(names) else [names or ""])]
    function = _FUNCTIONS.get(text(voi, "VOILUTFunction").upper())
    if function is None:
        notes.append("VOILUTFunction is unknown and taken as LINEAR")
        function = "linear"
    found = []
    for i, (centre, width) in enumerate(zip(centres, widths, strict=False)):
        label = labels[i].strip() if i < len(labels) else ""
        label = label if label in _LABELS else ""
        try:
            found.append(Window(centre, width, function, name=label))
        except ValueError:
            notes.append(f"WindowWidth {width:g} is no width and the window is not used")
    for item in items(voi, "VOILUTSequence"):
        table, first, bits = _lookup_table(item, name, "VOILUTSequence", header.signed)
        top = float((1 << bits) - 1)
        lut = tuple(min(1.0, float(entry) / top) for entry in table)
        found.append(Window(0.0, 1.0, name="lut", lut=lut, lut_first=first))
    return tuple(found)


def _padding(header: Header, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """True where PixelPaddingValue (to PixelPaddingRangeLimit) says there is no image."""
    values = numbers(header.ds, header.name, "PixelPaddingValue")
    if not values or stored.dtype.kind == "f":
        return None
    ends = [int(values[0])]
    ends += [int(v) for v in numbers(header.ds, header.name, "PixelPaddingRangeLimit")[:1]]
    bits = header.bits_allocated
    if header.signed:  # written as US by some, although the pixels are signed
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    else:
        ends = [end % (1 << bits) for end in ends]
    mask: NDArray[np.bool_] = (stored >= min(ends)) & (stored <= max(ends))
    return mask[None] if mask.any() else None


def spacing_of(header: Header, index: int, notes: list[str]) -> tuple[float, float] | None:
    """Pixel spacing `(row, column)` in mm, the patient's before the detector's."""
    measures = holder(header, index, "PixelMeasuresSequence")
    for where, keyword in (
        (measures, "PixelSpacing"),
        (header.ds, "ImagerPixelSpacing"),
        (header.ds, "NominalScannedPixelSpacing"),
    ):
        values = numbers(where, header.name, keyword)
        if not values:
            continue
        if len(values) != 2 or min(values) <= 0:
            notes.append(f"{keyword} is not two sizes above 0 and is not used")
            continue
        if keyword == "ImagerPixelSpacing":
            notes.append("the spacing is the detector's (ImagerPixelSpacing), not the patient's")
        return values[0], values[1]
    return None


def _picture(header: Header) -> Region | None:
    """The largest 2-D region of an ultrasound screen (PS3.3 C.8.5.5), within the screen."""
    name = header.name
    found = []
    for item in items(header.ds, "SequenceOfUltrasoundRegions"):
        sound(item, name)
        ends = [
            numbers(item, name, f"RegionLocation{end}")
            for end in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        ]
        if text(item, "RegionSpatialFormat") != "1" or any(len(end) != 1 for end in ends):
            continue
        left, top, right, bottom = (int(end[0]) for end in ends)
        left, top = max(0, left), max(0, top)
        # The corners are pixels of the region; some write the first pixel beyond it.
        right, bottom = min(right, header.columns - 1), min(bottom, header.rows - 1)
        if right < left or bottom < top:
            continue
        found.append(
            Region(left, top, right - left + 1, bottom - top + 1, _region_spacing(item, name))
        )
    return max(found, key=lambda region: region.width * region.height, default=None)


def _region_spacing(item: Dataset, name: str) -> tuple[float, float] | None:
    """`(row, column)` in mm where the region is measured in cm both ways."""
    sizes = []
    for axis in "YX":
        size = numbers(item, name, f"PhysicalDelta{axis}")
        if text(item, f"PhysicalUnits{axis}Direction") != "3" or len(size) != 1 or size[0] == 0:
            return None
        sizes.append(abs(size[0]) * 10)
    return sizes[0], sizes[1]


def _burned(ds: Dataset) -> str | None:
    value = text(ds, "BurnedInAnnotation").upper()
    return value if value in ("YES", "NO") else None
