"""Where an image comes from, and what format its bytes are in."""

from __future__ import annotations

import _thread
import base64
import binascii
import contextlib
import hashlib
import io
import itertools
import os
import stat
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from modalities.image import MAX_VALUES, ImageError

Format = Literal["dicom", "nifti", "raster", "tiff"]

# Neither a file nor what it unpacks to may be larger than this where it is read as a whole.
MAX_BYTES = 4 * MAX_VALUES

# Below this, hashing takes no longer than starting a thread; above, a thread would keep in memory
# what its reader may have done with.
_HASHED_ASIDE = range(1 << 20, 300 << 20)

# Files of one series; the longest thin-slice scans of a whole body have some 4,000.
MAX_FILES = 2**12

# Characters a text without a head needs to be taken for base64 rather than for a path.
LEAST_BASE64 = 64

_HEAD = 1024
# Files up to here are read whole where only their format is asked.
_SMALL = 1 << 20
_RASTER_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_UNSUPPORTED = (
    (b"CDF\x01", "MINC 1", "convert it to NIfTI"),
    (b"\x89HDF\r\n", "HDF5 (MINC 2)", "convert it to NIfTI"),
    (b"\x00\x00\x00\x01", "MGH/MGZ", "convert it to NIfTI"),
    (b"NRRD", "NRRD", "convert it to NIfTI"),
    (b"ObjectType", "MetaImage", "convert it to NIfTI or PNG"),
    (b"HSF-OCT-", "Heidelberg .vol", "export the B-scans as TIFF or PNG"),
    (b"%PDF", "PDF", "export the image it holds"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"<svg", "SVG", "export it as PNG"),
    (b"<html", "an HTML page", "fetch the image again, the download failed"),
    (b"<!doctype html", "an HTML page", "fetch the image again, the download failed"),
    (b"<?xml", "XML", "give the image file itself"),
    (b"<", "a markup file", "give the image file itself"),
    (b"{", "JSON", "give the image file itself"),
)


class _Digest:
    """SHA-256 of some bytes: of many, computed in a thread while they are decoded.

    A thread each and no pool: pools do not survive the fork of a data loader's workers.
    """

    def __init__(self, data: bytes) -> None:
        self._found = ""
        self._few = data if len(data) < _HASHED_ASIDE.start else None
        if self._few is not None:  # not everybody asks
            return
        self._done = threading.Lock()
        self._done.acquire()
        if len(data) in _HASHED_ASIDE:
            # Thread.start() would wait until the thread runs, on a busy machine for milliseconds.
            with contextlib.suppress(RuntimeError):  # no more threads are to be had
                _thread.start_new_thread(self._run, (data,))
                return
        self._run(data)

    def _run(self, data: bytes) -> None:
        try:
            self._found = hashlib.sha256(data).hexdigest()  # lets other threads run
        finally:
            self._done.release()

    def hex(self) -> str:
        if self._few is not None:
            return hashlib.sha256(self._few).hexdigest()
        with self._done:
            return self._found


@dataclass(frozen=True)
class Source:
    """One file or one block of bytes.

    Attributes:
        name: For messages: the path as it was given.
        path: Where to read it, or None when there is only `data`.
        data: The bytes, or None when there is a `path`.
    """

    name: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    _digests: list[_Digest] = field(default_factory=list, init=False, repr=False, compare=False)
    _kept: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def open(self) -> BinaryIO:
        """The bytes as a seekable stream.

        Raises:
            ImageError: There is no regular file any more: pipes and devices are not read.
        """
        if self.path is None:
            return io.BytesIO(self.data or b"")
        handle, _ = self._opened()
        # Not fdopen: tifffile asks for the name.
        return open(self.path, "rb", opener=lambda *_: handle)

    def _opened(self) -> tuple[int, int]:
        """The file as a descriptor (a stream would take further calls), and its number of bytes."""
        assert self.path is not None  # noqa: S101
        # O_NONBLOCK: should a pipe have taken the file's place, opening it must not wait.
        handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            raise ImageError(f"{self.name}: not a regular file; give a file or a folder")
        return handle, found.st_size

    def size(self) -> int:
        """Number of bytes."""
        return self.path.stat().st_size if self.path is not None else len(self.data or b"")

    def read(self) -> bytes:
        """All bytes, and a start of hashing them; refuses a file too large to be one image."""
        if self.path is None:
            data = self.data or b""
            self._check(len(data))
        elif self._kept:
            data = self._kept.pop()
        else:
            handle, size = self._opened()
            try:
                self._check(size)
                data = _whole(handle, size)
            finally:
                os.close(handle)
        self._digests[:] = [_Digest(data)]
        return data

    def _check(self, size: int) -> None:
        if size > MAX_BYTES:
            raise ImageError(
                f"{self.name}: {size} bytes are more than the {MAX_BYTES} one image may "
                "have; split it, or store it as a tiled TIFF"
            )

    def head(self, *, keep: bool = False) -> bytes:
        """The first bytes.

        Args:
            keep: `read` is likely to come next: a small file is read whole, and only once.
        """
        if self.path is None:
            return (self.data or b"")[:_HEAD]
        handle, size = self._opened()
        try:
            if keep and size <= _SMALL:
                self._kept[:] = [_whole(handle, size)]
                return self._kept[0][:_HEAD]
            return _whole(handle, min(size, _HEAD))
        finally:
            os.close(handle)

    def sha256(self) -> str:
        """Hex digest of the bytes `read` returned, or of the file, without holding it whole."""
        if self._digests:
            return self._digests[0].hex()
        if self.path is None:
            return hashlib.sha256(self.data or b"").hexdigest()
        handle, size = self._opened()
        try:
            if size <= _SMALL:
                return hashlib.sha256(_whole(handle, size)).hexdigest()
            digest = hashlib.sha256()
            while block := os.read(handle, _SMALL):
                digest.update(block)
            return digest.hexdigest()
        finally:
            os.close(handle)


def _whole(handle: int, size: int) -> bytes:
    """The next bytes of a file; fewer only at its end."""
    data = os.read(handle, size)
    while len(data) < size and (more := os.read(handle, size - len(data))):
        data += more  # some file systems give parts
    return data


def _inline(uri: str) -> bytes:
    """The bytes of a base64 data URI (RFC 2397); its media type is not believed."""
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("<data URI>: source: expected data:image/png;base64,...")
    if len(body) > MAX_BYTES:
        raise ImageError("<data URI>: source: is too large for one image; save it as a file")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("<data URI>: source: the base64 is damaged; encode it again") from None


def _bare(text: str) -> bytes | None:
    """The bytes of a file written as base64 without a head; None where it may be a path."""
    start = "".join(text[:1024].split())
    if len(start) < LEAST_BASE64 or os.path.lexists(text):
        return None
    try:
        head = base64.b64decode(start[: len(start) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return None
    magic = (*_TIFF_MAGIC, *(magic for magic in _RASTER_MAGIC if len(magic) > 2))
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    nifti = head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")
    if not (head.startswith(magic) or webp or nifti or head[128:132] == b"DICM"):
        return None
    if len(text) > MAX_BYTES:
        raise ImageError("<base64>: source: is too large for one image; save it as a file")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("<base64>: source: the base64 is damaged; encode it again") from None


def resolve(source: object, root: object = None) -> tuple[list[Source], bool]:
    """The files behind `source`, and whether they are meant as one series.

    Args:
        source: A path, bytes, a base64 data URI or bare base64, a folder, or a list of paths.
        root: A folder that every file must lie in once symbolic links are followed, or None.

    Raises:
        ImageError: Nothing readable is there, or it lies outside `root`.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return [Source("<bytes>", data=bytes(source))], False
    if isinstance(source, str) and source[:5].lower() == "data:":
        return [Source("<data URI>", data=_inline(source))], False
    bare = _bare(source) if isinstance(source, str) else None
    if bare is not None:
        return [Source("<base64>", data=bare)], False
    if isinstance(source, str) and "://" in source:
        raise ImageError(f"{source}: addresses are not fetched; download the file first")
    inside = _root(root)
    if isinstance(source, str | Path):
        path = source if isinstance(source, Path) else Path(source)  # 3.11 parses it again
        if _mode(path) == "folder":
            return _folder(path, inside), True
        return _with_companion(path, inside), False
    if isinstance(source, Sequence) and source:
        if len(source) > MAX_FILES:
            raise ImageError(
                f"source: {len(source)} files are more than the {MAX_FILES} of one series; "
                "give those of one"
            )
        files = [_file(Path(item), inside) for item in source if isinstance(item, str | Path)]
        if len(files) != len(source):
            raise ImageError("source: a series is a list of paths, something else is in it")
        return files, True
    raise ImageError(
        f"source: expected a path, bytes, or a list of paths, got {type(source).__name__}"
        f"{' (empty)' if isinstance(source, Sequence) else ''}"
    )


def digest(files: Sequence[Source]) -> str:
    """`fingerprint` of files already resolved."""
    try:
        digests = sorted(file.sha256() for file in files)
    except OSError as error:
        raise ImageError(f"{files[0].name}: cannot be read ({error.strerror}); check it") from None
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def detect(source: Source, *, keep: bool = False) -> Format:
    """The format the bytes are in, whatever the name says.

    Args:
        source: One file.
        keep: See `Source.head`.

    Raises:
        ImageError: No known format, or one that is known and not supported.
    """
    try:
        head = source.head(keep=keep)
    except OSError as error:
        raise ImageError(f"{source.name}: cannot be read ({error.strerror}); check it") from None
    if not head:
        raise ImageError(f"{source.name}: the file is empty; fetch it again")
    if head.startswith(b"\x1f\x8b"):
        head = _gzip_head(source)
    found = _format_of(head)
    if found is not None:
        return found
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what, mend in _UNSUPPORTED:
        if text.startswith(magic.lower()):
            raise ImageError(f"{source.name}: this is {what}, which is not supported; {mend}")
    raise ImageError(
        f"{source.name}: not an image in a known format (DICOM, NIfTI, JPEG, PNG, TIFF, WebP, "
        "GIF, BMP, JPEG 2000, PNM); check that the file is complete"
    )


def _format_of(head: bytes) -> Format | None:
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(_TIFF_MAGIC):
        return "tiff"
    if head.startswith(_RASTER_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "raster"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#" and head[2:3]:
        return "raster"
    if any(int.from_bytes(head[:4], order) in (348, 540) for order in ("little", "big")):
        return "nifti"
    # A DICOM data set without the preamble starts with a low, even group, (0002) or (0008).
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00" and len(head) > 16:
        return "dicom"
    return None


def _gzip_head(source: Source) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    with source.open() as stream:
        try:
            return unpacker.decompress(stream.read(_HEAD * 16), _HEAD)
        except zlib.error:
            raise ImageError(
                f"{source.name}: the gzip stream is damaged; fetch the file again"
            ) from None


def _mode(path: Path) -> Literal["file", "folder"]:
    """What a path is, asked without opening it: opening a pipe would wait for its other end."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        why = getattr(error, "strerror", None) or "impossible name"
        raise ImageError(f"{path}: cannot be read ({why}); check the path") from None
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{path}: not a regular file; give a file or a folder")
    if found.st_size == 0:  # the kernel's pseudo-files too, some of which never end
        raise ImageError(f"{path}: the file is empty; fetch it again")
    return "file"


def _root(root: object) -> Path | None:
    if root is None:
        return None
    if not isinstance(root, str | Path) or not Path(root).is_dir():
        raise ImageError(f"root: {root!r} is no folder; give the folder the files lie in")
    return Path(os.path.realpath(root))


def _inside(path: Path, root: Path | None) -> Path:
    """Where to read `path`: with links followed and found within `root`, if there is one."""
    if root is None:
        return path
    if ".." in path.parts:
        raise ImageError(f"{path}: '..' is not allowed below a root; give the plain path")
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise ImageError(f"{path}: lies outside the root folder; copy it there")
    return real


def _file(path: Path, root: Path | None) -> Source:
    real = _inside(path, root)
    if _mode(path) == "folder":
        raise ImageError(f"{path}: a folder, not a regular file; list the files in it")
    return Source(str(path), path=real)


def _with_companion(path: Path, root: Path | None) -> list[Source]:
    """A file; NIfTI pairs keep header and data apart: there both are the source."""
    file = Source(str(path), path=_inside(path, root))
    if not file.name.lower().endswith((".hdr", ".img")):
        return [file]
    other = path.with_suffix(".img" if path.suffix.lower() == ".hdr" else ".hdr")
    if not other.is_file():
        missing = "data" if other.suffix == ".img" else "header"
        raise ImageError(f"{file.name}: its {missing} file {other.name} is missing; put it beside")
    pair = [file, _file(other, root)]
    return pair if path.suffix.lower() == ".hdr" else pair[::-1]


def _folder(folder: Path, root: Path | None) -> list[Source]:
    _inside(folder, root)
    paths = list(itertools.islice(_regular_files(folder), MAX_FILES + 1))
    if len(paths) > MAX_FILES:
        raise ImageError(
            f"{folder}: holds more than {MAX_FILES} files; give a list with those of one series"
        )
    files = []
    for path in sorted(paths):
        if path.name.upper() == "DICOMDIR":  # the index of a medium, PS3.10 8
            continue
        file = Source(str(path), path=_inside(path, root))
        with contextlib.suppress(ImageError):  # a README beside the slices is no slice
            if detect(file) == "dicom":
                files.append(file)
    if not files:
        raise ImageError(f"{folder}: no DICOM files in this folder; give the image file itself")
    return files


def _regular_files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read ({error.strerror}); check the path") from None
