"""JPEG, PNG, WebP, GIF, BMP, JPEG 2000, PNM and plain TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from modalities.formats.hush import hushed, unlogged
from modalities.formats.jpeg import check_scans, decode
from modalities.formats.source import Source
from modalities.formats.tiff import check_pictures, check_segments
from modalities.image import MAX_PLANE, ImageError, RawImage, slice_index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from tifffile import TiffPage

CHOICES = ("frame", "bits")

# Chunks of a PNG; the largest pictures are written in some ten thousand.
_CHUNKS = 2**17
# Those beside IDAT that change nothing of a PNG's pixels, and how long they are.
_PLAIN = {
    b"IHDR": (13,),
    b"sRGB": (1,),
    b"gAMA": (4,),
    b"cHRM": (32,),
    b"pHYs": (9,),
    b"sBIT": (1, 3),
    b"tIME": (7,),
    b"IEND": (0,),
}
_CHUNK, _CRC = struct.Struct(">I4s"), struct.Struct(">I")
_PIL_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "JPEG2000", "PPM")  # JPEG opens MPO
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpc"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm"),
}
# Pixels handed over by Pillow at a time.
_STRIP = 1 << 17
_KNOWN_SUFFIXES = frozenset(suffix for names in _SUFFIXES.values() for suffix in names)
# CCITT run lengths, group 3 and group 4.
_FAX = (2, 3, 4)
# The exponent PNG files state for what is displayed as it is (gAMA 45455).
_SRGB = 0.45455
# EXIF Orientation (tag 274): what to do to the stored rows and columns to stand upright.
_UPRIGHT = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read(files: Sequence[Source], choices: Mapping[str, object]) -> RawImage:
    """Read one picture, upright, in grey or RGB.

    Args:
        files: One file.
        choices: `frame` (of an animation or a multi-page file), `bits` (how many bits of a
            16-bit file carry the picture).

    Raises:
        ImageError: The file is damaged, too large, or of an unsupported kind.
    """
    (file,) = files
    data = file.read()
    raw = _png(file, data, choices) if data.startswith(b"\x89PNG") else None
    if raw is None:
        with hushed():  # once for all that is hushed below: each time costs a little
            tiff = data[:2] in (b"II", b"MM")
            raw = _tiff(file, data, choices) if tiff else _pillow(file, data, choices)
    _check_suffix(file, raw)
    return raw


def _png(file: Source, data: bytes, choices: Mapping[str, object]) -> RawImage | None:
    """A PNG of 8-bit grey or RGB and nothing else, through libpng: RGB in half of Pillow's time.

    Returns:
        None where there is more to it, or libpng takes offence; what is to be said is then left
        to Pillow.
    """
    import imagecodecs

    name = file.name
    header = _check_png(name, data)
    if header is None:
        return None
    _check_size(name, header.width, header.height, header.bands)
    notes: list[str] = []
    said: dict[str, str] = {}
    _frame(name, choices, 1, said, notes)
    try:
        with unlogged():
            pixels: NDArray[np.uint8] = imagecodecs.png_decode(data)
    except imagecodecs.PngError:
        return None
    if pixels.dtype.itemsize != 1 or pixels.size != header.height * header.width * header.bands:
        return None
    _note_gamma(header.gamma, notes)
    return RawImage(
        values=pixels.reshape(header.height, header.width, header.bands).transpose(2, 0, 1),
        file=name,
        provenance={"format": "png"},
        display_range=(0.0, 255.0),
        choices=said,
        warnings=notes,
    )


def _note_gamma(gamma: float, notes: list[str]) -> None:
    if abs(gamma - _SRGB) > 0.01:
        notes.append(f"the file states a gamma of {gamma:g}, which is not applied")


def _pillow(file: Source, data: bytes, choices: Mapping[str, object]) -> RawImage:
    from PIL import Image

    name = file.name
    notes: list[str] = []
    said: dict[str, str] = {}
    try:
        with hushed():
            image = Image.open(io.BytesIO(data), formats=_PIL_FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: far too many pixels for one image; crop or reduce it") from None
    except Exception as error:  # Pillow's plugins raise many classes on damaged headers
        raise ImageError(
            f"{name}: the header cannot be read ({type(error).__name__}); fetch the file again"
        ) from None
    with image:
        kind = str(image.format)
        _check_size(name, image.width, image.height, len(image.getbands()))
        check_scans(data, image.width * image.height * len(image.getbands()), name)
        frames = _count(name, image) if kind != "MPO" else 1
        frame = _frame(name, choices, frames, said, notes)
        try:
            with hushed():
                image.seek(frame)
                orientation = image.getexif().get(274, 1)  # has Pillow decode a PNG
                values, top = _bands(name, data, image, said)
                gamma = image.info.get("gamma", _SRGB)
                if not isinstance(gamma, float):  # a text of that name has taken its place
                    gamma = _SRGB
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(
                f"{name}: the picture is damaged or cut ({type(error).__name__}); "
                "fetch the file again"
            ) from None
    _note_gamma(gamma, notes)
    values = _upright(values, orientation, said, notes)
    if top > 255:
        top = _white_level(name, values, top, choices, said, notes)
    return RawImage(
        values=_stored(values, top),
        file=name,
        provenance={"format": kind.lower()},
        display_range=(0.0, float(top)),
        choices=said,
        warnings=notes,
    )


def _stripwise(image: Image.Image) -> NDArray[np.uint8]:
    """`(C, H, W)`; np.asarray of all rows at once would hold, and wait for, two more copies."""
    import numpy as np

    width, height = image.size
    array = np.empty((height, width, len(image.getbands())), np.uint8)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        strip = np.asarray(image.crop((0, top, width, min(top + step, height))))
        array[top : top + step] = strip.reshape(-1, width, array.shape[2])
    return array.transpose(2, 0, 1)


def _stored(values: NDArray[Any], top: int) -> NDArray[Any]:
    """Bytes as they are, for `Modality.image` to look up in a table; the rest as float32."""
    import numpy as np

    if top <= 255 and values.dtype == np.uint8:
        return values
    return np.ascontiguousarray(values, dtype=np.float32)


def _count(name: str, image: Image.Image) -> int:
    """Number of frames; Pillow walks through the file to count them."""
    try:
        with hushed():
            return int(getattr(image, "n_frames", 1))
    except Exception as error:
        raise ImageError(
            f"{name}: its frames cannot be counted ({type(error).__name__}); fetch the file again"
        ) from None


def _bands(
    name: str, data: bytes, image: Image.Image, said: dict[str, str]
) -> tuple[NDArray[Any], int]:
    """`(C, H, W)` with C 1 or 3, and the value of white."""
    import numpy as np

    if image.format in ("JPEG", "MPO"):
        pixels = decode(data, len(image.getbands()), name)
        if pixels is not None and image.mode != "CMYK":  # which is often stored turned over
            return pixels.transpose(2, 0, 1), 255
    image.load()
    clear = image.info.get("transparency")
    if isinstance(clear, int) and (image.mode in ("1", "L") or image.mode.startswith("I;16")):
        return _without(clear, data, image, said)
    if image.mode.startswith("I;16") or image.mode == "I":
        return np.asarray(image).astype(np.float32)[None], 65535  # exact up to 2**24
    animated = getattr(image, "n_frames", 1) > 1  # of which OpenCV has its own idea
    if _png_bits(data) == 16 and image.mode not in ("1", "L") and not animated:
        deep = _opencv(name, data)
        return _over_black(deep, 65535, said), 65535
    if image.mode == "CMYK":
        said["colour"] = "CMYK to RGB without a profile (default)"
        image = image.convert("RGB")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "La" or image.mode == "LA":
        image = image.convert("LA")
    elif image.mode in ("YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA")
    bands = _stripwise(image)
    return _over_black(bands, 255, said), 255


def _without(
    clear: int, data: bytes, image: Image.Image, said: dict[str, str]
) -> tuple[NDArray[Any], int]:
    """A grey picture one of whose values, as it is stored, is transparent."""
    import numpy as np

    bits = _png_bits(data)
    grey = np.asarray(image if bits == 16 else image.convert("L"))
    top = 65535 if bits == 16 else 255
    if bits in (1, 2, 4):
        clear *= 255 // ((1 << bits) - 1)
    alpha = np.where(grey == clear, 0, top).astype(grey.dtype)
    return _over_black(np.stack([grey, alpha]), top, said), top


def _over_black(bands: NDArray[Any], top: int, said: dict[str, str]) -> NDArray[Any]:
    """Lay what is transparent over black; drop the alpha band."""
    import numpy as np

    if bands.shape[0] not in (2, 4):
        return bands
    alpha = bands[-1]
    if 0 < top <= int(alpha.min()):
        return bands[:-1]
    said["alpha"] = "composed over black (default)"
    shown = np.empty((bands.shape[0] - 1, *alpha.shape), np.float32)
    for band, colour in zip(shown, bands, strict=False):  # one at a time, to spare memory
        laid = colour * (alpha / top)
        band[:] = np.rint(laid) if top >= 255 else laid
    return shown


def _tiff_alpha(
    page: TiffPage, bands: NDArray[Any], colours: int, top: int, said: dict[str, str]
) -> NDArray[Any]:
    """The colours, laid over black where the next band is said to be their alpha (TIFF 6.0)."""
    import numpy as np

    if bands.shape[0] <= colours:
        return bands
    kind = int(page.extrasamples[0]) if page.extrasamples else 0
    if kind == 2:
        picture = bands[: colours + 1]
        return _over_black(np.ascontiguousarray(picture), top or 1, said)
    # Over black, colours with associated alpha are what they already are.
    meaning = "associated, as over black (file)" if kind == 1 else "of no stated meaning, left out"
    said["alpha"] = meaning if kind == 1 else f"{meaning} (default)"
    return bands[:colours]


def _opencv(name: str, data: bytes) -> NDArray[Any]:
    """16-bit colour PNG; Pillow reduces it to 8 bit."""
    import cv2
    import numpy as np

    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ImageError(f"{name}: the 16-bit picture cannot be decoded; save it again as PNG")
    bands = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return bands[[2, 1, 0, *range(3, bands.shape[0])]] if bands.shape[0] >= 3 else bands


def _tiff(file: Source, data: bytes, choices: Mapping[str, object]) -> RawImage:
    import numpy as np
    import tifffile

    name = file.name
    notes: list[str] = []
    said: dict[str, str] = {}
    try:
        with hushed(), tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages = len(tiff.pages)
            if pages == 0:
                raise ImageError(f"{name}: the TIFF holds no page; fetch the file again")
            frame = _frame(name, choices, pages, said, notes)
            page = tiff.pages[frame].aspage()
            wide = max(1, int(page.bitspersample) // 32)  # doubles count twice
            samples = page.samplesperpixel * page.imagedepth * wide
            _check_size(name, page.imagewidth, page.imagelength, samples)
            check_segments(page, len(data), name)
            check_pictures(page, name)
            orientation = int(page.tags[274].value) if 274 in page.tags else 1
            fax = int(page.compression) in _FAX
            stored = _faxed(data, frame, orientation) if fax else page.asarray()
            values, top = _tiff_bands(name, page, stored, said)
            spacing = _tiff_spacing(page)
    except ImageError:
        raise
    except Exception as error:
        mend = "update imagecodecs" if "imagecodecs" in str(error) else "fetch it again"
        raise ImageError(
            f"{name}: the TIFF cannot be decoded ({type(error).__name__}); {mend}"
        ) from None
    values = _upright(values, orientation, said, notes)
    if spacing is not None and orientation in (5, 6, 7, 8):
        spacing = spacing[::-1]
    floating = stored.dtype.kind in "fi"  # measurements, whose white nothing defines
    if floating and not np.isfinite(values).all():
        raise ImageError(f"{name}: pixels: some are not finite numbers; make the image again")
    if not floating and top > 255:
        top = _white_level(name, values, top, choices, said, notes)
    fraction = floating and float(values.min()) >= 0 and float(values.max()) <= 1
    if floating and not fraction and values.shape[0] == 3:
        raise ImageError(f"{name}: SampleFormat: colours beyond 0..1; save it with 8 or 16 bits")
    return RawImage(
        values=_stored(values, top),
        file=name,
        provenance={"format": "tiff"},
        display_range=(0.0, 1.0) if fraction else None if floating else (0.0, float(top)),
        spacing_mm=spacing,
        choices=said,
        warnings=notes,
    )


def _faxed(data: bytes, frame: int, orientation: int) -> NDArray[Any]:
    """A CCITT-coded page, through libtiff: imagecodecs leaves white what it cannot follow."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        image.seek(frame)
        white_is_zero = image.tag_v2.get(262, 0) == 0  # type: ignore[attr-defined]
        image.load()  # turns it upright too, which is undone: `_upright` does it for all
        shown = np.asarray(image)
    transpose, flip_rows, flip_columns = _UPRIGHT.get(orientation, _UPRIGHT[1])
    if flip_columns:
        shown = shown[:, ::-1]
    if flip_rows:
        shown = shown[::-1]
    if transpose:
        shown = shown.T
    return ~shown if white_is_zero else shown


def _tiff_bands(
    name: str, page: TiffPage, stored: NDArray[Any], said: dict[str, str]
) -> tuple[NDArray[Any], int]:
    import numpy as np
    from tifffile import PHOTOMETRIC

    if stored.dtype.kind not in "uif" and stored.dtype != np.bool_:
        raise ImageError(f"{name}: SampleFormat: {stored.dtype} pixels; save it as integers")
    if stored.dtype == np.bool_:
        stored = stored.astype(np.uint8)
    axes = page.axes
    if stored.ndim == 2:
        bands = stored[None]
    elif stored.ndim == 3 and axes == "YXS":
        bands = stored.transpose(2, 0, 1)
    elif stored.ndim == 3 and axes == "SYX":
        bands = stored
    else:
        raise ImageError(f"{name}: pages of axes {axes}; save it as a plain two-dimensional TIFF")
    top = (1 << int(page.bitspersample)) - 1 if bands.dtype.kind == "u" else 0
    photometric = page.photometric
    grey_kinds = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
    if bands.dtype.kind == "i" and photometric not in grey_kinds:
        raise ImageError(f"{name}: SampleFormat: signed colours; save it unsigned or as float")
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        rgb = page.colormap[:, bands[0]]
        # The table holds 16 bits; some writers fill it with 8, as libtiff notices too.
        full = 65535 if int(page.colormap.max()) > 255 else 255
        if bands.shape[0] > 1:
            alpha = (bands[1:2] * (full / top)).astype(rgb.dtype)
            rgb = _tiff_alpha(page, np.concatenate([rgb, alpha]), 3, full, said)
        return rgb, full
    if photometric == PHOTOMETRIC.MINISWHITE:
        grey = bands[:1]
        if bands.dtype.kind != "u":
            return grey.max() - grey.astype(np.float64), top
        return top - grey, top
    if photometric == PHOTOMETRIC.MINISBLACK:
        return _tiff_alpha(page, bands, 1, top, said), top
    if photometric == PHOTOMETRIC.RGB or (
        photometric == PHOTOMETRIC.YCBCR and int(page.compression) in (6, 7)
    ):
        if bands.shape[0] < 3:
            raise ImageError(f"{name}: SamplesPerPixel: too few for colour; save it as RGB")
        return _tiff_alpha(page, bands, 3, top, said), top
    if photometric == PHOTOMETRIC.SEPARATED and bands.shape[0] >= 4:
        said["colour"] = "CMYK to RGB without a profile (default)"
        shown = np.empty((3, *bands.shape[1:]), np.float32)
        for band, ink in zip(shown, bands[:3], strict=True):  # one at a time, to spare memory
            band[:] = np.rint((1 - ink / top) * (1 - bands[3] / top) * top)
        return shown, top
    raise ImageError(
        f"{name}: PhotometricInterpretation: {photometric!s} is not supported; save it as RGB"
    )


def _tiff_spacing(page: TiffPage) -> tuple[float, float] | None:
    """Resolution tags, only where they are in centimetres (inches mean paper, not tissue)."""
    if 296 not in page.tags or int(page.tags[296].value) != 3:
        return None
    try:
        x, y = (page.tags[code].value for code in (282, 283))
        return 10.0 * y[1] / y[0], 10.0 * x[1] / x[0]
    except (KeyError, ZeroDivisionError, TypeError):
        return None


def _upright(
    values: NDArray[Any], orientation: object, said: dict[str, str], notes: list[str]
) -> NDArray[Any]:
    if orientation not in _UPRIGHT:
        notes.append("EXIF Orientation is not one of 1..8 and is ignored")
        return values
    transpose, flip_rows, flip_columns = _UPRIGHT[int(str(orientation))]
    if transpose:
        values = values.transpose(0, 2, 1)
    if flip_rows:
        values = values[:, ::-1]
    if flip_columns:
        values = values[:, :, ::-1]
    if orientation != 1:
        said["orientation"] = f"EXIF {orientation} applied (file)"
    return values


def _white_level(
    name: str,
    values: NDArray[Any],
    top: int,
    choices: Mapping[str, object],
    said: dict[str, str],
    notes: list[str],
) -> int:
    """The value of white in a file of more than 8 bits.

    The formats define white as the largest value of the type. Much medical 12-bit data is put
    into 16-bit files unscaled, though, and would be almost black.
    """
    full = top.bit_length()
    if "bits" in choices:
        bits = choices["bits"]
        if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= full:
            raise ImageError(f"{name}: bits: expected 1 to {full}, got {bits!r}")
        said["bits"] = f"{bits} (asked)"
        return int((1 << bits) - 1)
    largest = int(values.max())
    if values.shape[0] == 1 and full == 16 and 255 < largest <= 1 << 14:
        bits = next(b for b in (10, 12, 14) if largest <= 1 << b)
        said["bits"] = f"{bits} (default, from the largest value {largest})"
        notes.append(
            f"the largest value of this {full}-bit image is {largest}: read as {bits}-bit data; "
            f"choose with bits="
        )
        return int((1 << bits) - 1)
    said["bits"] = f"{full} (file)"
    return top


def _frame(
    name: str, choices: Mapping[str, object], frames: int, said: dict[str, str], notes: list[str]
) -> int:
    if "frame" in choices:
        try:
            index = slice_index(choices["frame"], frames, "frame")
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
        said["frame"] = f"{index} of {frames} (asked)"
        return index
    if frames > 1:
        said["frame"] = f"0 of {frames} (default)"
        notes.append(f"holds {frames} frames or pages, the first is used; choose with frame=")
    return 0


def _check_size(name: str, width: int, height: int, bands: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name}: width x height: {width}x{height} holds no pixels")
    if width * height * bands > MAX_PLANE:
        raise ImageError(
            f"{name}: {width}x{height} pixels are more than one image may hold "
            f"({MAX_PLANE} values); crop or reduce it, or store it as a tiled TIFF"
        )


def _png_bits(data: bytes) -> int:
    return data[24] if data.startswith(b"\x89PNG") and len(data) > 24 else 0


class _Header(NamedTuple):
    """What matters of a PNG of 8-bit grey or RGB."""

    width: int
    height: int
    bands: int
    gamma: float


def _check_png(name: str, data: bytes) -> _Header | None:
    """Verify every chunk's CRC; Pillow leaves image data unchecked.

    Returns:
        The header of a file that holds 8-bit grey or RGB and nothing else that matters: no
        transparency, no orientation, no further frames; otherwise None.
    """
    import imagecodecs

    at, left, coloured = 8, _CHUNKS, True
    header, gamma = (0, 0, 0), _SRGB
    plain, seen, before = True, set[bytes](), b""
    while at + 12 <= len(data):
        left -= 1
        if left < 0:
            raise ImageError(f"{name}: more than {_CHUNKS} chunks; save the picture again")
        length, chunk = _CHUNK.unpack_from(data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if chunk == b"IHDR" and length >= 8:
            width, height = struct.unpack_from(">II", data, at + 8)
            _check_size(name, width, height, 1)
            kind = data[at + 16 : at + 18]  # bits, colour type
            coloured = kind[1:] != b"\x03"  # a palette image: not yet
            plain = plain and kind in (b"\x08\x00", b"\x08\x02")
            header = (width, height, 3 if kind[1:] == b"\x02" else 1)
        coloured = coloured or chunk == b"PLTE"
        if chunk == b"IDAT" and not coloured:
            raise ImageError(f"{name}: PLTE chunk: the palette is missing; save the picture again")
        (crc,) = _CRC.unpack_from(data, end - 4)
        # Many bytes in a sixth of zlib's time; few without handing Python's lock to other threads.
        crc32 = imagecodecs.deflate_crc32 if length > 1024 else zlib.crc32
        if crc32(data[at + 4 : end - 4]) != crc:
            label = chunk.decode("ascii", "replace")
            raise ImageError(f"{name}: {label} chunk: wrong checksum; fetch the file again")
        # Each once and the pixels last: else decoders differ in what they heed.
        if chunk == b"IDAT":
            plain = plain and bool(before)
        elif plain:
            once = length in _PLAIN.get(chunk, ()) and chunk not in seen
            plain = once and (before != b"IDAT" or chunk == b"IEND")
            if chunk == b"gAMA" and plain:
                gamma = int.from_bytes(data[at + 8 : at + 12], "big") / 100_000
        seen.add(chunk)
        before = chunk
        if chunk == b"IEND":
            return _Header(*header, gamma) if plain else None
        at = end
    raise ImageError(f"{name}: the PNG is cut short; fetch the file again")


def _check_suffix(file: Source, raw: RawImage) -> None:
    if file.path is None:
        return
    suffix = file.path.suffix.lower()
    kind = str(raw.provenance["format"]).upper()
    if suffix in _KNOWN_SUFFIXES and suffix not in _SUFFIXES[kind]:
        raw.warnings.append(f"the content is {kind} although the name ends in {suffix}")
