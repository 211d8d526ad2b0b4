"""Containers of questions: JSON Lines, JSON, CSV, TSV. They know records, not questions."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmeval.errors import MmevalError, did_you_mean
from mmeval.schema import parse_json, read_jsonl

__all__ = ["READERS", "read"]

# Line or record number, and the record or what is wrong with it.
Record = tuple[int, Mapping[str, Any] | MmevalError]


def _object(value: object) -> Mapping[str, Any] | MmevalError:
    if isinstance(value, Mapping | MmevalError):
        return value
    return MmevalError(f"expected an object, got {type(value).__name__}")


def _jsonl(path: Path) -> Iterator[Record]:
    for number, value in read_jsonl(path):
        yield number, _object(value)


def _json(path: Path) -> Iterator[Record]:
    try:
        data = parse_json(_text(path))
    except MmevalError as error:
        raise MmevalError(f"{path}: {error}") from None
    if isinstance(data, Mapping):  # id -> record
        data = [{"key": key, **_named(path, key, value)} for key, value in data.items()]
    if not isinstance(data, list):
        raise MmevalError(f"{path}: expected a list of objects, or an object of objects")
    for number, value in enumerate(data, start=1):
        yield number, _object(value)


def _named(path: Path, key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MmevalError(f"{path}: {key}: expected an object, got {type(value).__name__}")
    return value


def _table(delimiter: str) -> Callable[[Path], Iterator[Record]]:
    def rows(path: Path) -> Iterator[Record]:
        reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
        start = 1
        try:
            header = next(reader, [])
            if len(header) < 2:
                raise MmevalError(
                    f"{path}:1: one column only; is it separated by {delimiter!r}? "
                    "(reader: csv is for commas, reader: tsv for tabs)"
                )
            while True:
                start = reader.line_num + 1
                row = next(reader, None)
                if row is None:
                    return
                if not row:
                    continue
                if len(row) == len(header):
                    yield start, dict(zip(header, row, strict=True))
                else:
                    yield start, MmevalError(f"{len(row)} fields, but the header has {len(header)}")
        except csv.Error as error:
            raise MmevalError(f"{path}:{start}: not a table: {error}") from None

    return rows


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MmevalError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise MmevalError(
            f"{path}:{line}: is not UTF-8; convert the file first (iconv -t UTF-8)"
        ) from None


READERS: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _table(","),
    "tsv": _table("\t"),
}


def read(reader: str, path: Path) -> Iterator[Record]:
    """Yields number and record (or its error) of every record of a file.

    The number is the line in JSON Lines and tables, the position from 1 in JSON.

    Raises:
        MmevalError: The reader is unknown or the file as a whole cannot be read.
    """
    if reader not in READERS:
        raise MmevalError(f"reader: unknown {reader!r}{did_you_mean(reader, READERS)}")
    return READERS[reader](path)
