"""NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz` and header/data pairs."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from modalities.formats.geometry import to_radiological
from modalities.formats.hush import hushed
from modalities.formats.source import MAX_BYTES, Source
from modalities.image import MAX_VALUES, ImageError, RawImage, slice_index

if TYPE_CHECKING:
    import numpy as np
    from nibabel.nifti1 import Nifti1Header
    from numpy.typing import NDArray

CHOICES = ("volume",)

_BLOCK = 1 << 20
# deflate makes at most 1032 bytes of one.
_MOST_PACKED = 1032


def read(files: Sequence[Source], choices: Mapping[str, object]) -> RawImage:
    """Read one volume.

    Args:
        files: The file, or header and data of a pair.
        choices: `volume`, the index along the fourth dimension.

    Raises:
        ImageError: The file is damaged, lies about its size, or is no image.
    """
    import numpy as np

    name = files[0].name
    notes: list[str] = []
    header = _header(files[0])
    shape = _shape(header, name)
    dtype = _dtype(header, name)
    depth4 = shape[3]
    volume, said = 0, ""
    if "volume" in choices:
        volume = _named(name, choices["volume"], depth4)
        said = f"{volume} of {depth4} (asked)"
    elif depth4 > 1:
        said = f"0 of {depth4} (default)"
        notes.append(f"holds {depth4} volumes, the first is used; choose with volume=")

    offset = _offset(header, name, paired=len(files) == 2)
    values = _voxels(files[-1], name, offset, shape, dtype, volume)
    try:
        with np.errstate(over="raise"):
            values = _scaled(values, header, name)
    except FloatingPointError:
        raise ImageError(
            f"{name}: scl_slope, voxels: some values are beyond all bounds; make the image again"
        ) from None
    values = _finite(values, name, notes)
    affine, oriented = _affine(header, name, notes)
    turned, spacing = to_radiological(values, affine)
    if not turned.flags.writeable:  # still the file's own bytes
        turned = turned.copy()
    known = all(float(size) > 0 for size in header["pixdim"][1:4])
    raw = RawImage(
        values=turned,
        file=name,
        provenance={
            "format": "nifti",
            "orientation": oriented,
            "shape": [int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1]],
        },
        spacing_mm=spacing if known else None,
        physical=values.shape[0] == 1,
        display_range=(0.0, 255.0) if values.shape[0] == 3 else None,
        warnings=notes,
    )
    if said:
        raw.choices["volume"] = said
    return raw


def _named(name: str, choice: object, depth: int) -> int:
    try:
        return slice_index(choice, depth, "volume")
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def _header(file: Source) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    with _unpacked(file) as stream:
        block = _take(stream, 540, file.name, exact=False)
    first = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    kind, size = (Nifti1Header, 348) if 348 in first else (Nifti2Header, 540)
    if len(block) < size:
        raise ImageError(f"{file.name}: the header is cut short; fetch the file again")
    magic = block[344:348] if size == 348 else block[4:8]
    if magic[:2] not in (b"n+", b"ni"):
        raise ImageError(
            f"{file.name}: magic: this is ANALYZE 7.5, which does not say where left and right "
            "are; convert it to NIfTI with its orientation"
        )
    try:
        with hushed():
            return kind(block[:size], check=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # nibabel has no common error class
        raise ImageError(
            f"{file.name}: the NIfTI header cannot be read ({type(error).__name__})"
        ) from None


def _shape(header: Nifti1Header, name: str) -> tuple[int, int, int, int]:
    rank = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1:8]]
    if not 2 <= rank <= 7:
        raise ImageError(f"{name}: dim[0]: {rank} dimensions, expected 2 to 4")
    dims = dims[:rank]
    if any(n < 1 for n in dims):
        raise ImageError(f"{name}: dim: {dims} holds a size below 1, so there are no voxels")
    if any(n > 1 for n in dims[4:]):
        raise ImageError(
            f"{name}: dim: {rank} dimensions {dims}; only images of up to 4 are read, "
            "split the file"
        )
    dims = [*dims, 1, 1, 1, 1][:4]
    if dims[0] * dims[1] * dims[2] > MAX_VALUES:
        raise ImageError(
            f"{name}: dim: {dims[0]}x{dims[1]}x{dims[2]} voxels are more than the "
            f"{MAX_VALUES} one image may hold; crop or resample it"
        )
    return dims[0], dims[1], dims[2], dims[3]


def _dtype(header: Nifti1Header, name: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()  # type: ignore[no-untyped-call]
    except Exception:  # nibabel raises HeaderDataError, or KeyError for unknown codes
        raise ImageError(f"{name}: datatype: {code} is not a NIfTI data type") from None
    if dtype.kind == "c":
        raise ImageError(f"{name}: datatype: complex voxels; store the magnitude instead")
    if dtype.kind not in "iufV" or dtype.itemsize == 0:
        raise ImageError(f"{name}: datatype: {code} holds no voxels that can be shown")
    return dtype


def _offset(header: Nifti1Header, name: str, *, paired: bool) -> int:
    raw = float(header["vox_offset"])
    if not math.isfinite(raw) or raw < 0:
        raise ImageError(f"{name}: vox_offset: {raw} is no position in the file; fetch it again")
    least = 0 if paired else int(header["sizeof_hdr"]) + 4
    return max(int(raw), least)


def _voxels(
    file: Source,
    name: str,
    offset: int,
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    volume: int,
) -> NDArray[Any]:
    """`(C, i, j, k)`, stored values. Reads to the end so that gzip's checksum is verified."""
    import numpy as np

    one = shape[0] * shape[1] * shape[2] * dtype.itemsize
    declared = offset + one * shape[3]
    if one > 4 * MAX_VALUES:
        raise ImageError(f"{name}: dim, datatype: a volume of {one} bytes; store it as float32")
    if declared > 8 * MAX_BYTES:
        raise ImageError(f"{name}: dim: the header declares {declared} bytes, too many to read")
    packed = _is_gzip(file)
    if not packed and file.size() < declared:
        raise ImageError(
            f"{name}: dim: the header declares {declared} bytes and the file has {file.size()}; "
            "fetch it again"
        )
    start = offset + one * volume
    block: bytes | memoryview | None = None
    # What unpacks to more is not held beside the packed file: gzip then unpacks as it reads.
    if max(file.size(), declared if packed else 0) <= MAX_BYTES and (
        shape[3] == 1 or declared <= MAX_BYTES // 4
    ):
        data = file.read()
        found = _unpack(data, declared) if packed else memoryview(data)
        if found is not None:
            block = found[start : start + one]
    if block is None:
        with _unpacked(file) as stream:
            if packed:
                _skip(stream, start, name)
            else:
                stream.seek(start)
            block = _filled(stream, one, name)
            if packed:
                _skip(stream, declared - start - one, name)
                _drain(stream, name)
    if len(block) < one:
        raise ImageError(f"{name}: the file grew shorter while it was read; fetch it again")
    flat = np.frombuffer(block, dtype=dtype)
    if dtype.names is not None:  # RGB24, RGBA32
        cube = np.stack([flat[channel] for channel in dtype.names[:3]])
        return cube.reshape((3, *shape[:3]), order="F") if cube.ndim == 2 else cube
    return flat.reshape(shape[:3], order="F")[None]


def _unpack(data: bytes, declared: int) -> memoryview | None:
    """What one gzip member holds, its checksum verified; None where that takes a closer look.

    libdeflate is twice as fast as zlib, and has to know the size beforehand. It is tried where
    the file's own word for it (RFC 1952, ISIZE) is what the header declares.
    """
    import imagecodecs

    if int.from_bytes(data[-4:], "little") != declared or declared > MAX_BYTES:
        return None
    if declared > _MOST_PACKED * len(data):  # an empty promise: take no memory for it
        return None
    try:
        found = imagecodecs.gzip_decode(data, out=declared)
    except imagecodecs.DeflateError:  # damaged, or several members
        return None
    return memoryview(found) if len(found) == declared else None


def _scaled(values: NDArray[Any], header: Nifti1Header, name: str) -> NDArray[Any]:
    """Values times slope plus intercept as float32; whole numbers without these as they are."""
    import numpy as np

    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope) or values.shape[0] == 3:
        slope, inter = 1.0, 0.0  # the standard: a slope of 0 means "not scaled"
    if not math.isfinite(inter):
        raise ImageError(f"{name}: scl_inter: {inter} is no number; repair the header")
    if slope == 1 and inter == 0:
        whole = values.dtype.kind in "iu" and values.shape[0] == 1
        return values if whole else values.astype(np.float32, copy=False)
    scaled = np.empty(values.shape, np.float32, order="F")
    for k in range(values.shape[3]):  # in double precision, a slice at a time to spare memory
        scaled[..., k] = values[..., k].astype(np.float64) * slope + inter
    return scaled


def _finite(values: NDArray[Any], name: str, notes: list[str]) -> NDArray[Any]:
    import numpy as np

    low, high = (np.float32(end) for end in (values.min(), values.max()))
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(values)
        count = int(bad.sum())
        if count == values.size:
            raise ImageError(f"{name}: voxels: none is a finite number; make the image again")
        low = values.min(where=~bad, initial=np.inf)
        high = values.max(where=~bad, initial=-np.inf)
        values = np.where(bad, low, values)
        notes.append(f"{count} voxels are not finite and take the smallest value, {low:g}")
    if low == high:
        notes.append(f"every voxel has the value {float(values.flat[0]):g}")
    return values


def _affine(header: Nifti1Header, name: str, notes: list[str]) -> tuple[NDArray[np.float64], str]:
    import numpy as np
    from nibabel.orientations import aff2axcodes

    coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    try:
        with hushed():
            affine = np.asarray(
                header.get_best_affine(),  # type: ignore[no-untyped-call]
                dtype=np.float64,
            )
    except Exception as error:  # bad quaternions and zero sizes raise several classes
        raise ImageError(
            f"{name}: qform: the orientation cannot be read ({type(error).__name__}); "
            "repair the header"
        ) from None
    if not np.isfinite(affine).all():
        raise ImageError(f"{name}: sform/qform: the affine holds NaN or Inf; repair the header")
    if not all(float(size) > 0 for size in header["pixdim"][1:4]):
        notes.append("pixdim: a voxel size is not above 0, so the spacing is unknown")
    axes = aff2axcodes(affine)  # type: ignore[no-untyped-call]
    if abs(np.linalg.det(affine[:3, :3])) < 1e-12 or None in axes:
        if coded and int(header["sform_code"]) > 0:
            raise ImageError(f"{name}: sform: the affine is singular; repair the header")
        affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    codes = "".join(aff2axcodes(affine))  # type: ignore[no-untyped-call]
    if not coded:
        notes.append(
            "sform_code/qform_code: the file does not say how it is oriented; "
            f"{codes} is assumed, left and right may be swapped"
        )
        codes += " (assumed)"
    return affine, codes


def _is_gzip(file: Source) -> bool:
    with file.open() as stream:
        return stream.read(2) == b"\x1f\x8b"


@contextlib.contextmanager
def _unpacked(file: Source) -> Iterator[IO[bytes]]:
    packed = _is_gzip(file)
    with file.open() as stream:
        if not packed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield cast("IO[bytes]", unpacked)


def _take(stream: IO[bytes], count: int, name: str, *, exact: bool = True) -> bytes:
    """Read `count` bytes block by block, so that memory follows what is really there."""
    blocks, missing = [], count
    try:
        while missing > 0 and (block := stream.read(min(missing, _BLOCK))):
            blocks.append(block)
            missing -= len(block)
    except (EOFError, OSError, zlib.error):
        raise ImageError(f"{name}: the gzip stream is damaged or cut; fetch it again") from None
    if missing and exact:
        raise ImageError(
            f"{name}: dim: the header declares more voxels than the file holds; fetch it again"
        )
    return b"".join(blocks)


def _filled(stream: IO[bytes], count: int, name: str) -> memoryview:
    """Read `count` bytes into one block, whose memory the system gives as it is written to."""
    import numpy as np

    block = memoryview(cast("Any", np.empty(count, np.uint8)))
    at = 0
    try:
        while at < count and (read := cast("Any", stream).readinto(block[at : at + _BLOCK])):
            at += read
    except (EOFError, OSError, zlib.error):
        raise ImageError(f"{name}: the gzip stream is damaged or cut; fetch it again") from None
    if at < count:
        raise ImageError(
            f"{name}: dim: the header declares more voxels than the file holds; fetch it again"
        )
    return block


def _skip(stream: IO[bytes], count: int, name: str) -> None:
    while count > 0:
        step = min(count, _BLOCK)
        _take(stream, step, name)
        count -= step


def _drain(stream: IO[bytes], name: str) -> None:
    """Read what trails the voxels: gzip checks its CRC at the very end."""
    for _ in range(64):
        if len(_take(stream, _BLOCK, name, exact=False)) < _BLOCK:
            return
    raise ImageError(f"{name}: far more data than the header declares; the file is not sound")
