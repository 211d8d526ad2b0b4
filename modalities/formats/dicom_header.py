"""DICOM headers: read, checked against what is in the file, and never a patient's.

Only technical attributes are ever parsed into values: names, identifiers and dates are not read,
so that they cannot reach a message. For the same reason pydicom's own warnings and error texts,
which may quote values, are replaced by ours.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modalities.formats.hush import hushed
from modalities.formats.source import MAX_BYTES, Source
from modalities.image import MAX_PLANE, ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TAGS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "BurnedInAnnotation",
    "PresentationIntentType",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "SequenceOfUltrasoundRegions",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "DimensionOrganizationType",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
)
# Overlay planes (PS3.3 C.9.2) repeat in the even groups 6000 to 601E.
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_OVERLAYS = tuple(
    group << 16 | element
    for group in OVERLAY_GROUPS
    for element in (0x0010, 0x0011, 0x0015, 0x0050, 0x0051, 0x0100, 0x0102, 0x3000)
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# DICOM Modality (0008,0060) to ours.
_KINDS = {
    "CR": "xray",
    "DX": "xray",
    "MG": "xray",
    "RF": "xray",
    "XA": "xray",
    "IO": "xray",
    "PX": "xray",
    "RG": "xray",
    "CT": "ct",
    "MR": "mri",
    "OP": "fundus",
    "OPT": "oct",
    "SM": "pathology",
    "GM": "pathology",
    "US": "ultrasound",
    "IVUS": "ultrasound",
    "ES": "endoscopy",
    "DMS": "dermoscopy",
    "XC": "photo",
}
_NO_IMAGE = ("SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "DOC", "ECG", "REG")


@dataclass(frozen=True)
class Header:
    """The technical attributes of one file, checked."""

    ds: Dataset
    name: str
    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    pixels: str
    kind: str | None
    notes: tuple[str, ...]

    @property
    def colour(self) -> bool:
        """Whether the pixels are RGB, YBR or a palette rather than grey."""
        return self.photometric not in GREY


def parse(file: Source, overlays: bool = False) -> Header:
    """Read and check the technical attributes, those of overlays only where they are wanted.

    Raises:
        ImageError: Named after the attribute that is missing or impossible.
    """
    from pydicom.uid import UID

    name = file.name
    notes: list[str] = []
    ds = _dataset(file, notes, overlays)
    held = [keyword for keyword in _PIXELS if keyword in ds]
    if not held:
        code = text(ds, "Modality").upper()
        what = f" (Modality {code})" if code in (*_NO_IMAGE, *_KINDS) else ""
        raise ImageError(
            f"{name}: PixelData: the file holds no image{what}; give the file of the image itself"
        )
    meta = getattr(ds, "file_meta", None)
    syntax = text(sound(meta, name), "TransferSyntaxUID") if meta is not None else ""
    if not syntax:
        implicit, little = ds.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
        syntax = syntax if little else "1.2.840.10008.1.2.2"
        notes.append("TransferSyntaxUID is missing and taken from how the file is written")
    uid = UID(syntax)
    if not uid.is_transfer_syntax:
        raise ImageError(
            f"{name}: TransferSyntaxUID: is no transfer syntax of the standard; convert the file "
            "to Explicit VR Little Endian"
        )
    if any(video in uid.name for video in ("MPEG", "HEVC", "H.264")):
        raise ImageError(
            f"{name}: TransferSyntaxUID: {uid.name} (video) is not supported; "
            "extract the frames as images"
        )
    rows, columns = integer(ds, name, "Rows"), integer(ds, name, "Columns")
    if rows < 1 or columns < 1:
        raise ImageError(f"{name}: Rows x Columns: {rows}x{columns} holds no pixels")
    frames = 1
    if ds.get("NumberOfFrames") not in (None, ""):
        frames = integer(ds, name, "NumberOfFrames")
    if frames < 1:
        notes.append(f"NumberOfFrames is {frames} and taken as 1")
        frames = 1
        ds.NumberOfFrames = 1
    samples = integer(ds, name, "SamplesPerPixel", 1)
    allocated = integer(ds, name, "BitsAllocated")
    if allocated not in (1, 8, 16, 32, 64):
        raise ImageError(f"{name}: BitsAllocated: {allocated}, expected 1, 8, 16, 32 or 64")
    stored = integer(ds, name, "BitsStored", allocated)
    high = integer(ds, name, "HighBit", stored - 1)
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ImageError(
            f"{name}: BitsStored, HighBit: {stored} and {high} do not fit "
            f"BitsAllocated {allocated}; repair the header"
        )
    photometric = text(ds, "PhotometricInterpretation").upper()
    if photometric not in (*GREY, *_COLOUR, "PALETTE COLOR"):
        raise ImageError(
            f"{name}: PhotometricInterpretation: "
            + ("unknown or unsupported value" if photometric else "is missing")
            + f"; known are {', '.join((*GREY, 'PALETTE COLOR', *_COLOUR))}"
        )
    expected = 3 if photometric in _COLOUR else 1
    if samples != expected:
        raise ImageError(
            f"{name}: SamplesPerPixel: {samples}, but {photometric} has {expected}; "
            "repair the header"
        )
    ds.PhotometricInterpretation = photometric
    # A palette gives three values a pixel; whole numbers of 32 bits are held as 64.
    wide = (3 if photometric == "PALETTE COLOR" else samples) * (2 if allocated > 16 else 1)
    if rows * columns * wide > MAX_PLANE:
        raise ImageError(
            f"{name}: Rows x Columns: {rows}x{columns} are more pixels than one image may hold"
        )
    _check_length(ds, name, held[0], syntax, rows * columns * samples, frames, allocated)
    burned = text(ds, "BurnedInAnnotation").upper() == "YES"
    if burned:
        notes.append("BurnedInAnnotation is YES: the pixels may show patient data")
    return Header(
        ds=ds,
        name=name,
        syntax=syntax,
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=bool(integer(ds, name, "PixelRepresentation", 0)),
        photometric=photometric,
        pixels=held[0],
        kind=_KINDS.get(text(ds, "Modality").upper()),
        notes=tuple(notes),
    )


def _dataset(file: Source, notes: list[str], overlays: bool) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    name = file.name
    tags: list[int | str] = [*_TAGS, *(_OVERLAYS if overlays else ())]
    data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = _inflate(data, 31, name)
    if data[128:132] != b"DICM":
        notes.append("there is no DICOM preamble; read as a bare data set")
    else:
        if len(data) < 140:
            raise ImageError(f"{name}: nothing follows the DICOM preamble; fetch the file again")
        _check_deflated(data, name)
    try:
        with hushed():
            ds = dcmread(io.BytesIO(data), force=True, specific_tags=tags)  # type: ignore[arg-type]
    except RecursionError:
        raise ImageError(f"{name}: sequences are nested too deep; the file is not sound") from None
    except InvalidDicomError:
        raise ImageError(f"{name}: not a DICOM file; fetch the file again") from None
    except Exception as error:  # pydicom raises many classes, and their texts may quote values
        raise ImageError(
            f"{name}: the DICOM header cannot be read ({type(error).__name__}); "
            "fetch the file again"
        ) from None
    if not len(ds):
        raise ImageError(f"{name}: no image attributes found; not a DICOM image, or cut short")
    return sound(ds, name)


def _inflate(data: bytes, wbits: int, name: str) -> bytes:
    unpacker = zlib.decompressobj(wbits=wbits)
    try:
        out = unpacker.decompress(data, MAX_BYTES)
    except zlib.error:
        raise ImageError(f"{name}: the compressed stream is damaged; fetch it again") from None
    if unpacker.unconsumed_tail:
        raise ImageError(f"{name}: unpacks to more than {MAX_BYTES} bytes; not one image")
    if not unpacker.eof:
        raise ImageError(f"{name}: the compressed stream is cut short; fetch it again")
    return out


def _check_deflated(data: bytes, name: str) -> None:
    """A deflated data set is unpacked by pydicom without a limit: look first."""
    from pydicom.filereader import read_dataset

    stream = io.BytesIO(data)
    stream.seek(132)
    try:
        with hushed():
            meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, n: tag.group != 2)
        syntax = str(meta.get("TransferSyntaxUID", ""))
    except Exception as error:
        raise ImageError(
            f"{name}: the file meta information cannot be read ({type(error).__name__}); "
            "fetch the file again"
        ) from None
    if syntax == "1.2.840.10008.1.2.1.99":
        _inflate(data[stream.tell() :], -15, name)


def _check_length(
    ds: Dataset, name: str, keyword: str, syntax: str, values: int, frames: int, allocated: int
) -> None:
    """Compare what the header declares with what is there, before anything is allocated."""
    from pydicom.uid import UID

    value = ds[keyword].value
    held = len(value) if isinstance(value, bytes) else 0
    if UID(syntax).is_encapsulated:
        if held == 0:
            raise ImageError(f"{name}: {keyword}: is empty; fetch the file again")
        if frames > held // 8:  # a frame is one item or more, and an item has a head of 8 bytes
            raise ImageError(
                f"{name}: NumberOfFrames: {frames} declared, {keyword} has room for {held // 8}; "
                "fetch the file again"
            )
        return
    needed = (values * frames * allocated + 7) // 8
    if text(ds, "PhotometricInterpretation").upper() == "YBR_FULL_422":
        needed = needed * 2 // 3  # two pixels share their chroma (PS3.3 C.7.6.3.1.2)
    if held < needed:
        raise ImageError(
            f"{name}: {keyword}: {needed} bytes declared, {held} present; fetch the file again"
        )


def sound(ds: Dataset, name: str) -> Dataset:
    """The data set, once each of its own values could be read.

    pydicom reads values when they are first asked for, and then raises many classes.
    """
    from pydicom.datadict import keyword_for_tag

    with hushed():
        for tag in list(ds.keys()):
            try:
                _ = ds[tag].value
            except Exception as error:
                keyword = keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"
                raise ImageError(
                    f"{name}: {keyword}: cannot be read ({type(error).__name__}); repair the header"
                ) from None
    return ds


def text(ds: Dataset, keyword: str) -> str:
    """An attribute as text without padding; empty when absent."""
    value = ds.get(keyword)
    return "" if value is None else str(value).strip(" \x00")


def integer(ds: Dataset, name: str, keyword: str, default: int | None = None) -> int:
    """A whole number; `default` when absent, an error when there is none."""
    value = ds.get(keyword)
    if value is None or value == "":
        if default is None:
            raise ImageError(
                f"{name}: {keyword}: is missing and the image cannot be read without it; "
                "repair the header"
            )
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ImageError(f"{name}: {keyword}: is not a whole number; repair the header") from None


def numbers(ds: Dataset, name: str, keyword: str) -> list[float]:
    """All values of a numeric attribute; empty when absent."""
    value = ds.get(keyword)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, str | int | float) or not many(value) else list(value)
    try:
        numbers = [float(item) for item in values]
    except (TypeError, ValueError):
        raise ImageError(f"{name}: {keyword}: is not a number; repair the header") from None
    if not all(math.isfinite(number) for number in numbers):
        raise ImageError(f"{name}: {keyword}: is not a finite number; repair the header")
    return numbers


def many(value: object) -> bool:
    """Whether an attribute holds several values."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def holder(header: Header, frame: int, sequence: str) -> Dataset:
    """Where a frame's attributes are: its own functional group, the shared one, or the top.

    Multi-frame objects keep them in functional groups (PS3.3 C.7.6.16), others at the top.
    """
    ds = header.ds
    per_frame = items(ds, "PerFrameFunctionalGroupsSequence")
    shared = items(ds, "SharedFunctionalGroupsSequence")
    for groups in (*per_frame[frame : frame + 1], *shared[:1]):
        found = items(sound(groups, header.name), sequence)
        if found:
            return sound(found[0], header.name)
    return ds


def items(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none when it is absent or no sequence."""
    from pydicom.sequence import Sequence as Items

    found = ds.get(keyword)
    return found if isinstance(found, Items) else ()


def syntax_name(syntax: str) -> str:
    """The standard's name of a transfer syntax."""
    from pydicom.uid import UID

    uid = UID(syntax)
    return uid.name if uid.is_transfer_syntax and not uid.is_private else "unknown transfer syntax"
