"""DICOM pixels: decoded, in their bits, and through the modality transformation."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

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
from modalities.image import ImageError, RawImage, Window, WindowFunction

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
        warnings=notes,
    )
    if header.colour:
        rgb, top = _colour(header, stored)
        raw.values = np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32)
        raw.display_range = (0.0, float(top))
        return raw
    values, unit, changed = _rescaled(header, index, stored, notes)
    raw.values = values[None]
    raw.inverted = header.photometric == "MONOCHROME1"
    raw.windows = _windows(header, index, notes)
    raw.padding = _padding(header, stored)
    raw.physical = True
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
    wide = (array.astype(np.int64) >> shift) & ((1 << header.bits_stored) - 1)
    if header.signed:
        sign = 1 << (header.bits_stored - 1)
        wide = (wide ^ sign) - sign
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
    found = _stream(stream)
    if found is None:
        return header
    if (found.width, found.height) != (header.columns, header.rows):
        raise ImageError(
            f"{header.name}: Columns x Rows: the header says {header.columns}x{header.rows}, "
            f"the compressed image is {found.width}x{found.height}; repair the header"
        )
    # A signed JPEG 2000 image under PixelRepresentation 0: the image itself is to be believed.
    return replace(header, signed=True) if found.signed else header


class _Stream(NamedTuple):
    width: int
    height: int
    signed: bool


def _stream(data: bytes) -> _Stream | None:
    """What a JPEG, JPEG-LS or JPEG 2000 image says about itself; None for another stream."""
    if data[:2] == b"\xff\xd8":  # ISO 10918-1 B.2.2, ISO 14495-1 C.2.2
        at = 2
        while at + 9 < len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:
                at += 1
                continue
            if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
                height, width = struct.unpack_from(">HH", data, at + 5)
                return _Stream(width, height, False) if height else None
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return None
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # ISO 15444-1 A.5.1
    if at < 0 or len(data) <= at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return _Stream(right - left, bottom - top, bool(data[at + 42] & 0x80))


def _colour(header: Header, stored: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """RGB `(H, W, 3)` and the value of white."""
    import numpy as np
    from pydicom.pixels.processing import apply_color_lut

    if header.photometric != "PALETTE COLOR":
        return stored, (1 << header.bits_stored) - 1
    try:
        with hushed():
            rgb = np.asarray(apply_color_lut(stored.astype(np.int64), header.ds))
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
        return (stored.astype(np.float64) * m + b).astype(np.float32), unit, True
    luts = items(ds, "ModalityLUTSequence")
    if luts:
        table, first, _ = _lookup_table(luts[0], name, "ModalityLUTSequence", header.signed)
        at = np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)
        return table[at].astype(np.float32), text(luts[0], "ModalityLUTType").upper(), True
    values = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: {header.pixels}: some pixels are not finite numbers")
    return values, unit, False


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


def _windows(header: Header, index: int, notes: list[str]) -> tuple[Window, ...]:
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


def _burned(ds: Dataset) -> str | None:
    value = text(ds, "BurnedInAnnotation").upper()
    return value if value in ("YES", "NO") else None
