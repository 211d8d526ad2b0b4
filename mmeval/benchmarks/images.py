"""Images of question files: where they lie, and those that lie inside the file itself.

An image that a file holds as bytes or base64 is written once, byte for byte, under the run's data
folder as ``embedded/<sha256>.<ending>``; nothing is decoded or compressed anew.
"""

from __future__ import annotations

import ast
import base64
import binascii
import functools
import hashlib
import json
import os
import posixpath
import re
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mmeval.errors import MmevalError

__all__ = ["EMBEDDED", "Embed", "confined", "decode_base64", "embedding", "is_base64", "listed"]

#: Keeps the bytes of an image and returns its path.
Embed = Callable[[bytes], str]

#: The path of an embedded image.
EMBEDDED = re.compile(r"embedded/[0-9a-f]{64}(\.[a-z.]+)?")

# Content decides how a file is read; the ending is for people and their viewers.
_ENDINGS = (
    (0, b"\x89PNG", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"GIF8", ".gif"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (8, b"WEBP", ".webp"),
    (128, b"DICM", ".dcm"),
    (0, b"\x1f\x8b", ".nii.gz"),
)
# How base64 of these begins.
_BASE64 = re.compile(
    r"(iVBORw0KGgo|/9j/|R0lGOD|Qk[0-9A-Za-z]|SUkqA|TU0AK|UklGR)[A-Za-z0-9+/\s]{60}"
)
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


def confined(root: Path, relative: str) -> Path:
    """Returns ``root / relative`` if it exists and nothing of it lies outside `root`.

    A snapshot in the Hugging Face cache consists of links to the ``blobs`` beside it; these count
    as inside. The links on the way to a folder are followed once in a process.

    Args:
        root: The only folder that may be read.
        relative: A path from a data file. ``..`` is fine as long as it stays inside.

    Raises:
        MmevalError: The path is absolute, climbs out with ``..``, leaves the root through a
            symbolic link, or does not exist.
    """
    folder, _, name = relative.rpartition("/")
    odd = name in ("", ".", "..") or "\\" in name or "\0" in name or relative.startswith("/")
    inside = None if odd else _folder_inside(root, folder)
    if inside is None:
        return _confined(root, relative)
    # Most are plain files in a folder that is known to lie inside.
    path = f"{inside}{os.sep}{name}"
    try:
        regular = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:  # also a name longer than the file system allows
        raise MmevalError(f"{relative!r}: no such file under the root") from None
    return Path(path) if regular else _confined(root, relative)


@functools.lru_cache(maxsize=256)
def _folder_inside(root: Path, folder: str) -> str | None:
    """A folder under the root that no link leads to; None for any other."""
    parts = PurePosixPath(posixpath.normpath(folder))
    if parts.is_absolute() or ".." in parts.parts or "\\" in folder or "\0" in folder:
        return None
    path = str(_real(root) / parts)
    return path if os.path.realpath(path) == path else None


def _confined(root: Path, relative: str) -> Path:
    parts = PurePosixPath(posixpath.normpath(relative))
    if parts.is_absolute() or ".." in parts.parts or "\\" in relative or "\0" in relative:
        raise MmevalError(f"{relative!r}: images lie under the root; write a path relative to it")
    base = _real(root)
    path = base / parts
    try:
        folder = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        raise MmevalError(f"{relative!r}: no such file under the root") from None
    inside = [base]
    if base.parent.name == "snapshots" and base.parents[1].name.startswith("datasets--"):
        inside.append(base.parents[1] / "blobs")
    allowed = tuple(f"{each}{os.sep}" for each in inside)
    for member in [path, *path.rglob("*")] if folder else [path]:
        if not f"{os.path.realpath(member)}{os.sep}".startswith(allowed):
            raise MmevalError(f"{relative!r}: a symbolic link leads out of the root")
    return path


@functools.lru_cache(maxsize=64)
def _real(root: Path) -> Path:
    return root.resolve()


def embedding(data_dir: Path | None, *, write: bool = True) -> Embed:
    """Returns what keeps embedded images.

    Args:
        data_dir: Where the folder ``embedded`` is made, when there is an image to keep.
        write: Whether files are written; otherwise images are only named.
    """

    def embed(data: bytes) -> str:
        if not data:
            raise MmevalError("images: an embedded image is empty")
        ending = next(
            (name for at, magic, name in _ENDINGS if data[at : at + len(magic)] == magic), ""
        )
        name = f"embedded/{hashlib.sha256(data).hexdigest()}{ending}"
        if not write:
            return name
        if data_dir is None:
            raise MmevalError("images: the file holds images; say where to put them (data_dir)")
        path = data_dir / name
        if not path.is_file() or path.stat().st_size != len(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(data)
            partial.replace(path)  # only a complete file gets the name
        return name

    return embed


def is_base64(text: str) -> bool:
    """Whether a text is an image in base64: a data URI, or how known formats begin."""
    return _DATA_URI.match(text) is not None or _BASE64.match(text) is not None


def decode_base64(text: str) -> bytes:
    """Returns the bytes of an image in base64, with or without ``data:image/...;base64,``.

    Raises:
        MmevalError: It is no base64.
    """
    head = _DATA_URI.match(text)
    try:
        return base64.b64decode("".join(text[head.end() if head else 0 :].split()), validate=True)
    except binascii.Error:
        raise MmevalError("image: is not base64") from None


def listed(cell: str) -> list[object]:
    """Returns what a cell lists: JSON, a Python list, or itself alone."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [text]
    return found if isinstance(found, list) else [text]
