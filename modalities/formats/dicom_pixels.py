"""DICOM pixels: decoded, in their bits, and through the modality transformation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from modalities.formats.dicom_items import fragments
from modalities.formats.hush import hushed
from modalities.formats.jpeg import check_complete, check_scans, looks_filled, measure
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
BIG_ENDIAN = "1.2.840.10008.1.2.2"
# VOI LUTs of one image that are offered; few have more than one.
MAX_LUTS = 16
# Values changed at a time.
_BLOCK = 1 << 16
# In this order, so that the bits do not depend on what else is installed.
_DECODERS = ("pydicom", "pillow", codecs.NAME)


def single(header: Header, index: int, *, windowed: bool = True) -> RawImage:
    """One frame as it is stored, rescaled; its windows only where they are wanted."""
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
        planes = rgb.transpose(2, 0, 1)
        # Bytes stay bytes: as float32 they would only be looked up in a table of 256 later.
        raw.values = (
            planes
            if top == 255 and rgb.dtype == np.uint8
            else np.ascontiguousarray(planes, dtype=np.float32)
        )
        raw.display_range = (0.0, float(top))
        return raw
    values, unit, changed = _rescaled(header, index, stored, notes)
    unit = unit if unit in _UNITS else "US"  # other text may be anything, a name too
    raw.values = values[None]
    raw.inverted = header.photometric == "MONOCHROME1"
    raw.windows = windows_of(header, index, notes) if windowed else ()
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
    plugins, stream = [""], b""  # uncompressed: pydicom itself
    if uid.is_encapsulated:
        codecs.add_to(decoder)
        plugins = [plugin for plugin in _DECODERS if plugin in decoder.available_plugins]
        if not plugins:
            raise ImageError(
                f"{name}: TransferSyntaxUID: {uid.name} needs a decoder that is not installed; "
                "reinstall mmeval-medical with its dependencies"
            )
        header, stream = _check_stream(header, index)
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
                array, found = decoder.as_array(
                    header.ds, index=index, raw=True, decoding_plugin=plugin, **options
                )
                array = _in_rgb(array, str(found["photometric_interpretation"]))
        except Exception as error:  # decoders raise many classes; their texts are not ours
            failed = type(error).__name__
            continue
        shape = (header.rows, header.columns, 3)[: 3 if header.samples == 3 else 2]
        if array.shape != shape:
            failed = f"decoded to {array.shape}, declared {shape}"
            continue
        if b"\xff\xc2" in stream[:4096] or looks_filled(stream, array):  # or progressive
            check_complete(stream, f"{name}: {header.pixels}")
        return _in_bits(header, np.asarray(array)), plugin or "pydicom"
    raise ImageError(
        f"{name}: {header.pixels}: the {syntax_name(uid)} stream cannot be decoded ({failed}); "
        "fetch the file again"
    )


def _in_rgb(array: NDArray[Any], space: str) -> NDArray[Any]:
    """What pydicom would make of the colours, a strip of rows at a time: in half of its time."""
    from pydicom.pixels.processing import convert_color_space

    if space not in ("YBR_FULL", "YBR_FULL_422") or array.ndim != 3:
        return array
    for (part,) in _strips(array):
        part[:] = convert_color_space(part, space, "RGB")
    return array


def _in_bits(header: Header, array: NDArray[Any]) -> NDArray[Any]:
    """Keep the bits that are pixels: overlays and rubbish may sit above or below them."""
    import numpy as np

    if array.dtype.kind not in "ui" or header.bits_allocated == 1 or header.samples == 3:
        return array
    if header.bits_stored == header.bits_allocated:
        return array
    shift = header.high_bit + 1 - header.bits_stored
    if not shift and array.dtype.itemsize <= 2:
        # The usual case costs no pass: nothing is above (but the sign).
        top = 1 << (header.bits_stored - header.signed)
        if array.max() < top and (not header.signed or array.min() >= -top):
            return array
    wide = array.astype(np.int32 if header.bits_allocated <= 16 else np.int64)
    # In place: the largest images fill half a gigabyte.
    np.right_shift(wide, shift, out=wide)
    np.bitwise_and(wide, (1 << header.bits_stored) - 1, out=wide)
    if header.signed:
        sign = 1 << (header.bits_stored - 1)
        np.bitwise_xor(wide, sign, out=wide)
        np.subtract(wide, sign, out=wide)
    return wide


def _check_stream(header: Header, index: int) -> tuple[Header, bytes]:
    """Compare a compressed frame's own size and sign with the header before decoding it.

    Returns:
        The header as it is to be read, and the frame's stream.
    """
    from pydicom.encaps import get_frame

    held = header.ds.PixelData
    try:
        with hushed():
            found, _ = fragments(held, 0, header.name) if header.frames == 1 else ([], False)
            if len(found) == 2:  # the offset table and the frame
                at, size = found[1]
                stream = held[at + 8 : at + 8 + size]
            else:
                stream = get_frame(held, index, number_of_frames=header.frames)
    except Exception as error:
        raise ImageError(
            f"{header.name}: PixelData: frame {index} of {header.frames} cannot be found "
            f"({type(error).__name__}); fetch the file again"
        ) from None
    own = measure(stream)
    if own is None:
        return header, stream
    if (own.width, own.height) != (header.columns, header.rows):
        raise ImageError(
            f"{header.name}: Columns x Rows: the header says {header.columns}x{header.rows}, "
            f"the compressed image is {own.width}x{own.height}; repair the header"
        )
    if own.samples != header.samples:
        raise ImageError(
            f"{header.name}: SamplesPerPixel: the header says {header.samples}, the compressed "
            f"image has {own.samples}; repair the header"
        )
    check_scans(stream, own.width * own.height * own.samples, header.name)
    # A signed JPEG 2000 image under PixelRepresentation 0: the image itself is to be believed.
    return (replace(header, signed=True) if own.signed else header), stream


def _colour(header: Header, stored: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """RGB `(H, W, 3)` and the value of white."""
    import numpy as np

    if header.photometric != "PALETTE COLOR":
        return stored, (1 << header.bits_stored) - 1
    palette = [_palette(header, colour) for colour in ("Red", "Green", "Blue")]
    rgb = np.empty((*stored.shape, 3), np.uint16)
    for channel, (table, first) in enumerate(palette):
        for top in range(0, len(stored), 512):  # a strip at a time: the indices are wide
            index = stored[top : top + 512].astype(np.int64) - first
            rgb[top : top + 512, :, channel] = table[np.clip(index, 0, len(table) - 1)]
    tables = np.concatenate([table for table, _ in palette])
    if not (tables & 0xFF).any():  # 8-bit colours in the high bytes of a 16-bit table
        return rgb >> 8, 255
    # Tables of 8 bits, and those declared as 16 whose largest entry fits into 8.
    return rgb, 255 if tables.max() <= 255 else 65535


def _palette(header: Header, colour: str) -> tuple[NDArray[np.uint16], int]:
    """Entries and first input value of a palette (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6)."""
    import numpy as np

    ds, name = header.ds, header.name
    keyword = f"{colour}PaletteColorLookupTable"
    descriptor = numbers(ds, name, f"{keyword}Descriptor")
    if len(descriptor) != 3:
        raise ImageError(f"{name}: {keyword}Descriptor: is not three numbers; repair the header")
    count, first, bits = (int(n) for n in descriptor)
    count = count % 65536 or 65536  # 0 stands for 2**16
    if header.signed and first > 32767:
        first -= 65536
    data, packed = ds.get(f"{keyword}Data"), ds.get(f"Segmented{keyword}Data")
    segmented = not isinstance(data, bytes)
    if segmented:
        data = packed
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: {keyword}Data: is missing; repair the header")
    # Entries of 8 bits may fill 16 each, but those of a segmented table are as declared.
    words = bits > 8 if segmented else len(data) >= 2 * count
    entries = _entries(header, data, words)
    if segmented:
        entries = _unfolded(entries, words, name, f"Segmented{keyword}Data")
    if len(entries) < count:
        raise ImageError(
            f"{name}: {keyword}Data: {len(entries)} entries, {count} declared; repair the header"
        )
    return entries[:count].astype(np.uint16), first


def _entries(header: Header, data: bytes, words: bool) -> NDArray[np.int64]:
    """The numbers of a table kept as OW: 16-bit words in the file's byte order, or bytes in them.

    pydicom leaves the bytes of a big-endian file as they are.
    """
    import numpy as np

    big = header.syntax == BIG_ENDIAN
    if words:
        data = data[: len(data) // 2 * 2]
        return np.frombuffer(data, ">u2" if big else "<u2").astype(np.int64)
    if big and len(data) % 2 == 0:
        return np.frombuffer(data, ">u2").astype("<u2").view(np.uint8).astype(np.int64)
    return np.frombuffer(data, np.uint8).astype(np.int64)


def _unfolded(entries: NDArray[np.int64], words: bool, name: str, field: str) -> NDArray[np.int64]:
    """A segmented palette (PS3.3 C.7.9.2) as entries, refused beyond what a table may hold."""
    import numpy as np

    parts: list[NDArray[np.int64]] = []
    at = total = last = 0
    copied: list[int] = []  # where an indirect segment is left to go on behind it
    copies = 0
    while at + 1 < len(entries) and total <= 65536:
        kind, length = (int(n) for n in entries[at : at + 2])
        # An offset has 32 bits: two entries of 16 or four of 8.
        used = length if kind == 0 else 1 if kind == 1 else 2 if words else 4
        body = entries[at + 2 : at + 2 + used]
        if kind > 2 or len(body) < used or (kind == 2 and copied):
            raise ImageError(f"{name}: {field}: a segment is not sound; repair the header")
        at += 2 + used
        if kind == 2 and length:  # so many segments again, from a place further in front
            width = 16 if words else 8
            offset = sum(int(part) << (width * i) for i, part in enumerate(body))
            copied, copies = [at], length
            at = offset // 2 if words else offset
            if at >= copied[0] - 2 - used:
                raise ImageError(f"{name}: {field}: a segment is not sound; repair the header")
            continue
        if length and kind < 2:
            if kind == 1:  # a straight line from the entry before, which is not repeated, to this
                steps = np.arange(1, length + 1)
                body = np.rint(last + (int(body[0]) - last) * steps / length).astype(np.int64)
            parts.append(body)
            last = int(body[-1])
        total += length or 1  # empty ones count too: they may be copied without end
        if copied:
            copies -= 1
            if copies == 0:
                at = copied.pop()
    if total > 65536:
        raise ImageError(f"{name}: {field}: unfolds to more than 65536 entries; repair the header")
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


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
        whole = m == int(m) and b == int(b)
        if whole and abs(m) * 2.0**header.bits_allocated + abs(b) <= 2.0**24:
            # Whole numbers of that size are exact in float32, in which this takes a third.
            values = np.empty(stored.shape, np.float32)
            for part, out in _strips(stored, values):
                out[:] = part
                if m != 1:
                    out *= m
                out += b
            return values, unit, True
        return _by_rows(stored, lambda part: part.astype(np.float64) * m + b), unit, True
    luts = items(ds, "ModalityLUTSequence")
    if luts:
        table, first, _ = _lookup_table(header, luts[0], "ModalityLUTSequence")
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
    """`change`, a strip of rows at a time."""
    import numpy as np

    values = np.empty(stored.shape, np.float32)
    for part, out in _strips(stored, values):
        out[:] = change(part)
    return values


def _strips(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Rows of all arrays, so few that what is made of them stays in the processor's cache."""
    step = max(1, _BLOCK // arrays[0].shape[1])
    for top in range(0, len(arrays[0]), step):
        yield tuple(array[top : top + step] for array in arrays)


def _lookup_table(header: Header, item: Dataset, field: str) -> tuple[NDArray[np.int64], int, int]:
    """Entries, first input value and bits per entry of a LUT (PS3.3 C.11.1.1, C.11.2.1.1)."""
    import numpy as np

    name = header.name
    descriptor = numbers(sound(item, name), name, "LUTDescriptor")
    data = item.get("LUTData")
    if len(descriptor) != 3 or data is None:
        raise ImageError(f"{name}: {field}: the table is incomplete; repair the header")
    count = int(descriptor[0]) % 65536 or 65536  # 0 stands for 2**16
    first = int(descriptor[1])
    if header.signed and first > 32767:
        first -= 65536
    bits = int(descriptor[2])
    if isinstance(data, bytes):
        table = _entries(header, data, words=len(data) >= 2 * count)
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
    luts = items(voi, "VOILUTSequence")
    if len(luts) > MAX_LUTS:
        notes.append(f"VOILUTSequence: has {len(luts)} tables, the first {MAX_LUTS} are offered")
    for item in luts[:MAX_LUTS]:
        table, first, bits = _lookup_table(header, item, "VOILUTSequence")
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
    first, last = min(ends), max(ends)
    mask: NDArray[np.bool_]
    mask = stored == first if first == last else (stored >= first) & (stored <= last)
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
