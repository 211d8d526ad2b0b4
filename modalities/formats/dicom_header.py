"""DICOM headers: read, checked against what is in the file, and never a patient's.

Only technical attributes are ever parsed into values: names, identifiers and dates are not read,
so that they cannot reach a message. For the same reason pydicom's own warnings and error texts,
which may quote values, are replaced by ours.
"""

from __future__ import annotations

import functools
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modalities.formats.dicom_items import (
    MAX_GROUPED,
    MAX_NESTED,
    MAX_TABLE,
    MAX_TEXT,
    UNDEFINED,
    Counted,
    Groups,
    fragments,
    walk,
)
from modalities.formats.hush import hushed
from modalities.formats.source import MAX_BYTES, Source
from modalities.image import MAX_PLANE, ImageError

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

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
# What is read within sequences: functional groups, tables, ultrasound regions, places of tiles.
_GROUPS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
    "PlanePositionSlideSequence",
)
_INNER = (
    "ColumnPositionInTotalImagePixelMatrix",
    "RowPositionInTotalImagePixelMatrix",
    "LUTDescriptor",
    "LUTData",
    "ModalityLUTType",
    "RegionSpatialFormat",
    "RegionLocationMinX0",
    "RegionLocationMinY0",
    "RegionLocationMaxX1",
    "RegionLocationMaxY1",
    "PhysicalUnitsXDirection",
    "PhysicalUnitsYDirection",
    "PhysicalDeltaX",
    "PhysicalDeltaY",
)
# Data of lookup tables and palettes.
_TABLES = frozenset({0x00283006, *range(0x00281201, 0x00281204), *range(0x00281221, 0x00281224)})
_PER_FRAME, _PIXEL_DATA = 0x52009230, 0x7FE00010
_BLOCK = 1 << 24  # unpacked at a time
_DEFLATED = b"1.2.840.10008.1.2.1.99"
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
# Modalities and SOP classes (PS3.4 B.5: presentation states, structured reports, documents) of
# what belongs to an examination and is no image.
_NO_IMAGE = (
    *("SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "RTRECORD", "PLAN", "DOC", "REG", "FID"),
    *("RWV", "ECG", "EPS", "HD", "RESP", "AU"),
)
_NO_IMAGE_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{branch}." for branch in (11, 88, 104))


class NoImageError(ImageError):
    """A sound DICOM file of another kind than images; beside a series it is left out."""


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
    groups: Groups = field(default_factory=Groups, repr=False)

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
    ds, groups = _dataset(file, notes, overlays)
    held = [keyword for keyword in _PIXELS if keyword in ds]
    if not held:
        code = text(ds, "Modality").upper()
        if code in _NO_IMAGE or text(ds, "SOPClassUID").startswith(_NO_IMAGE_CLASSES):
            what = f" (Modality {code})" if code in (*_NO_IMAGE, *_KINDS) else ""
            raise NoImageError(
                f"{name}: PixelData: the file holds no image{what}; "
                "give the file of the image itself"
            )
        raise ImageError(
            f"{name}: PixelData: is missing or cut short, the file holds no image; "
            "fetch the file again"
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
    if frames >= 2**31:
        raise ImageError(f"{name}: NumberOfFrames: is far too large; repair the header")
    if frames < 1:
        notes.append(f"NumberOfFrames is {frames} and taken as 1")
        frames = 1
        ds.NumberOfFrames = 1
    samples = integer(ds, name, "SamplesPerPixel")
    allocated = integer(ds, name, "BitsAllocated")
    if allocated not in (1, 8, 16, 32, 64):
        raise ImageError(f"{name}: BitsAllocated: {allocated}, expected 1, 8, 16, 32 or 64")
    # Required of whole numbers, and not kept beside floating-point pixels (PS3.3 C.7.6.24).
    whole = held[0] == "PixelData"
    stored = integer(ds, name, "BitsStored", None if whole else allocated)
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
    notes += _check_length(ds, name, held[0], syntax, rows * columns * samples, frames, allocated)
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
        groups=groups,
    )


def _dataset(file: Source, notes: list[str], overlays: bool) -> tuple[Dataset, Groups]:
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import UID

    name = file.name
    deflated = False
    data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = _inflate(data, 31, name)
    if data[128:132] != b"DICM":
        notes.append("there is no DICOM preamble; read as a bare data set")
    else:
        if len(data) < 140:
            raise ImageError(f"{name}: nothing follows the DICOM preamble; fetch the file again")
        data, deflated = _unpacked(data, name)
    stream = Counted(data, name)
    try:
        with hushed():
            ds, groups = _read(stream, data, overlays, name)
            if deflated:
                ds.file_meta.TransferSyntaxUID = UID(_DEFLATED.decode())
    except ImageError:
        raise
    except RecursionError:
        raise ImageError(f"{name}: sequences are nested too deep; the file is not sound") from None
    except InvalidDicomError:
        raise ImageError(f"{name}: not a DICOM file; fetch the file again") from None
    except Exception as error:  # pydicom raises many classes, and their texts may quote values
        stream.check()
        raise ImageError(
            f"{name}: the DICOM header cannot be read ({type(error).__name__}); "
            "fetch the file again"
        ) from None
    if not len(ds):
        raise ImageError(f"{name}: no image attributes found; not a DICOM image, or cut short")
    return sound(ds, name), groups


def _read(stream: Counted, data: bytes, overlays: bool, name: str) -> tuple[Dataset, Groups]:
    """The attributes; per-frame functional groups and fragments are gone through but not read."""
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_dataset, read_partial
    from pydicom.tag import BaseTag

    tags: list[Any] = [*_wanted(), *(_OVERLAYS if overlays else ())]
    groups, apart, begun = Groups(), [_PER_FRAME, _PIXEL_DATA], (0, -1, 0)

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal begun
        begun = (tag, stream.tell(), length)
        return tag in apart and (tag == _PER_FRAME or length == UNDEFINED)

    ds: Dataset = read_partial(stream, stop, force=True, specific_tags=tags)
    implicit, little = ds.original_encoding
    # Where pydicom stops it goes back to before the element.
    while stream.tell() < begun[1] and implicit is not None and little is not None:
        tag, start, length = begun
        if tag == _PER_FRAME:
            what = f"{name}: PerFrameFunctionalGroupsSequence"
            groups, end = _groups(data, start, length, implicit, little, what)
            stream.seek(end)
        else:
            found, ended = fragments(data, start, f"{name}: PixelData")
            if found and ended:
                end = sum(found[-1]) + 8
                pixels = RawDataElement(
                    BaseTag(tag), "OB", UNDEFINED, data[start:end], start, implicit, little
                )
                ds[tag] = pixels
                stream.seek(end + 8)
            apart.remove(tag)  # or else it is left to pydicom, which may find another end
        begun = (0, -1, 0)
        if stream.tell() < len(data):
            ds.update(read_dataset(stream, implicit, little, stop_when=stop, specific_tags=tags))
    return ds, groups


def _groups(
    data: bytes, start: int, length: int, implicit: bool, little: bool, what: str
) -> tuple[Groups, int]:
    end, frames = walk(
        data,
        implicit,
        little,
        what,
        most=MAX_GROUPED,
        start=start,
        length=length,
        wanted=_group_tags(),
    )
    frames = [{tag: (at - start, n) for tag, (at, n) in frame.items()} for frame in frames]
    return Groups(data[start:end], implicit, little, frames), end


@functools.cache
def _wanted() -> frozenset[int]:
    from pydicom.datadict import tag_for_keyword

    found = {tag_for_keyword(keyword) for keyword in _TAGS}
    return frozenset(tag for tag in found if tag is not None)


@functools.cache
def _group_tags() -> frozenset[int]:
    from pydicom.datadict import tag_for_keyword

    return frozenset(tag for tag in map(tag_for_keyword, _GROUPS) if tag is not None)


@functools.cache
def _inner_tags() -> frozenset[int]:
    from pydicom.datadict import tag_for_keyword

    found = {tag_for_keyword(keyword) for keyword in ("TransferSyntaxUID", *_INNER)}
    return _wanted() | _group_tags() | {tag for tag in found if tag is not None}


def _inflate(data: bytes, wbits: int, name: str) -> bytes:
    blocks: list[bytes] = []
    left = MAX_BYTES
    unpacker = zlib.decompressobj(wbits=wbits)
    try:
        while (
            not unpacker.eof
            and left > 0
            and (block := unpacker.decompress(data, min(left, _BLOCK)))
        ):
            data = unpacker.unconsumed_tail
            blocks.append(block)
            left -= len(block)
    except zlib.error:
        raise ImageError(f"{name}: the compressed stream is damaged; fetch it again") from None
    if not unpacker.eof and left == 0:
        raise ImageError(f"{name}: unpacks to more than {MAX_BYTES} bytes; not one image")
    if not unpacker.eof:
        raise ImageError(f"{name}: the compressed stream is cut short; fetch it again")
    return b"".join(blocks)


def _unpacked(data: bytes, name: str) -> tuple[bytes, bool]:
    """The file with its data set inflated, and whether it was deflated.

    pydicom would inflate it without a limit.
    """
    from pydicom.filereader import read_dataset

    if _DEFLATED not in data:  # the usual case: no need to read the meta information twice
        return data, False
    stream = Counted(data, name)
    stream.seek(132)
    try:
        with hushed():
            meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, n: tag.group != 2)
        syntax = str(meta.get("TransferSyntaxUID", ""))
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            f"{name}: the file meta information cannot be read ({type(error).__name__}); "
            "fetch the file again"
        ) from None
    if syntax != _DEFLATED.decode():
        return data, False
    at = stream.tell()
    head = data[:at].replace(_DEFLATED, _DEFLATED[:-3] + b"\0\0\0")
    return head + _inflate(data[at:], -15, name), True


def _check_length(
    ds: Dataset, name: str, keyword: str, syntax: str, values: int, frames: int, allocated: int
) -> list[str]:
    """Compare what the header declares with what is there, before anything is allocated.

    Returns:
        What is odd about the length without making the pixels useless.
    """
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
        _index_frames(ds, value, f"{name}: {keyword}", frames)
        return []
    needed = (values * frames * allocated + 7) // 8
    if text(ds, "PhotometricInterpretation").upper() == "YBR_FULL_422":
        needed = needed * 2 // 3  # two pixels share their chroma (PS3.3 C.7.6.3.1.2)
    if held < needed:
        raise ImageError(
            f"{name}: {keyword}: {needed} bytes declared, {held} present; fetch the file again"
        )
    if held > needed + 1:  # one more makes the length even
        return [f"{keyword} holds {held} bytes where {needed} are declared; the rest is not read"]
    return []


def _index_frames(ds: Dataset, value: bytes, what: str, frames: int) -> None:
    """Note where each frame lies: pydicom looks through all before it, each time anew.

    Only where every frame is one fragment; anything else is left to pydicom.
    """
    from pydicom.dataelem import DataElement

    found, _ = fragments(value, 0, what)
    if len(found) > frames + MAX_NESTED:
        raise ImageError(
            f"{what}: is cut into {len(found)} fragments for {frames} frames; compress it again"
        )
    if found and frames > max(1, len(found) - 1):
        raise ImageError(
            f"{what}: {frames} frames declared, {len(found) - 1} present; fetch the file again"
        )
    if frames == 1 or len(found) != frames + 1:
        return
    base = found[1][0]
    offsets = struct.pack(f"<{frames}Q", *(at - base for at, _ in found[1:]))
    lengths = struct.pack(f"<{frames}Q", *(size for _, size in found[1:]))
    ds[0x7FE00001] = DataElement(0x7FE00001, "OV", offsets)
    ds[0x7FE00002] = DataElement(0x7FE00002, "OV", lengths)


def sound(ds: Dataset, name: str) -> Dataset:
    """The data set, once each of its values that are used here could be read.

    pydicom reads values when they are first asked for, and then raises many classes.
    """
    from pydicom.dataelem import RawDataElement

    inner = _inner_tags()
    # Plain integers: comparing pydicom's tags takes ten times as long.
    unread = [
        element
        for element in ds.values()
        if isinstance(element, RawDataElement)
        and (int(element.tag) in inner or int(element.tag) >> 16 in OVERLAY_GROUPS)
    ]
    if not unread:
        return ds
    with hushed():
        for element in unread:
            try:
                _check_value(element, name)
                _ = ds[element.tag].value
            except ImageError:
                raise
            except Exception as error:
                raise ImageError(
                    f"{name}: {_field(element.tag)}: cannot be read ({type(error).__name__}); "
                    "repair the header"
                ) from None
    return ds


def _field(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _check_value(element: RawDataElement, name: str) -> None:
    """Refuse a value that takes far too long to read."""
    from pydicom.datadict import dictionary_VR

    value = element.value
    if not isinstance(value, bytes):
        return
    tag, vr = int(element.tag), element.VR
    if vr in (None, "UN"):
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "UN"
    if vr == "SQ":
        what = f"{name}: {_field(tag)}"
        walk(value, element.is_implicit_VR, element.is_little_endian, what, length=len(value))
        return
    pixels = tag >> 16 == 0x7FE0 or (tag >> 16 in OVERLAY_GROUPS and tag & 0xFFFF == 0x3000)
    if pixels and vr not in ("OB", "OW", "OB or OW", "OF", "OD", "OV", "UN"):
        raise ImageError(f"{name}: {_field(tag)}: its VR is none for pixels; repair the header")
    if not pixels and len(value) > (MAX_TABLE if tag in _TABLES else MAX_TEXT):
        raise ImageError(
            f"{name}: {_field(tag)}: {len(value)} bytes are far too many; repair the header"
        )


def value_of(ds: Dataset, keyword: str) -> Any:  # noqa: ANN401
    """An attribute, or None: as `ds.get`, in a third of the time."""
    tag = _tag(keyword)
    return ds[tag].value if tag in ds else None


@functools.cache
def _tag(keyword: str) -> BaseTag:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import BaseTag

    return BaseTag(tag_for_keyword(keyword) or 0)


def text(ds: Dataset, keyword: str) -> str:
    """An attribute as text without padding; empty when absent."""
    value = value_of(ds, keyword)
    return "" if value is None else str(value).strip(" \x00")


def integer(ds: Dataset, name: str, keyword: str, default: int | None = None) -> int:
    """A whole number; `default` when absent, an error when there is none."""
    value = value_of(ds, keyword)
    if value is None or value == "":
        if default is None:
            raise ImageError(
                f"{name}: {keyword}: is missing and the image cannot be read without it; "
                "repair the header"
            )
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise ImageError(f"{name}: {keyword}: is not a whole number; repair the header") from None


def numbers(ds: Dataset, name: str, keyword: str) -> list[float]:
    """All values of a numeric attribute; empty when absent."""
    value = value_of(ds, keyword)
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
    own = _own_group(header, frame, sequence)
    if own is not None:
        return own
    for shared in items(header.ds, "SharedFunctionalGroupsSequence")[:1]:
        found = items(sound(shared, header.name), sequence)
        if found:
            return sound(found[0], header.name)
    return header.ds


def _own_group(header: Header, frame: int, sequence: str) -> Dataset | None:
    from pydicom.datadict import tag_for_keyword

    if not header.groups.frames:
        return None
    tag = tag_for_keyword(sequence)
    try:
        with hushed():
            found = header.groups.first(frame, tag or 0, _inner_tags())
    except Exception as error:
        raise ImageError(
            f"{header.name}: {sequence}: cannot be read ({type(error).__name__}); repair the header"
        ) from None
    return None if found is None else sound(found, header.name)


def items(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none when it is absent or no sequence."""
    from pydicom.sequence import Sequence as Items

    found = value_of(ds, keyword)
    return found if isinstance(found, Items) else ()


def syntax_name(syntax: str) -> str:
    """The standard's name of a transfer syntax."""
    from pydicom.uid import UID

    uid = UID(syntax)
    return uid.name if uid.is_transfer_syntax and not uid.is_private else "unknown transfer syntax"
