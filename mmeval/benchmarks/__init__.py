"""Benchmarks: published question files turned into samples by a short YAML specification.

A specification names a reader, a file under `root` and how columns become fields::

    name: my-benchmark
    reader: csv
    file: questions.csv
    columns: {id: qid, question: question, answer: answer, images: "images/{file}"}
    modality: xray
    kind:                                    # the first rule that fits
      - {kind: yes_no, when: {answer: ["yes", "no"]}}
      - {kind: open}
    tags: {organ: body_part}
    expected: {samples: 120}

Without `columns`, a ``jsonl`` file holds samples as `mmeval.schema.Sample` writes them. The reader
``phantom`` makes its own questions from `seed` and `n`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmeval.benchmarks.readers import READERS, read
from mmeval.errors import MmevalError, did_you_mean
from mmeval.schema import LETTERS, ImageRef, Sample

__all__ = ["SPEC_KEYS", "Benchmark", "confined", "load"]

SPEC_KEYS = frozenset(
    {
        *("name", "description", "version", "source", "licence", "note"),  # what it is
        *("reader", "root", "file", "seed", "n", "where", "expected"),  # which records
        *("columns", "values", "answer_is", "kind", "modality", "choices", "tags"),  # how to read
    }
)
_COLUMNS = frozenset(
    ("id", "question", "answer", "images", "options", "cluster", "group", "role", "chance")
)
_FIELD = re.compile(r"\{([\w.\- ]+)\}")


@dataclass(frozen=True)
class Benchmark:
    """Samples and where their images are.

    Attributes:
        name: What results are listed under.
        samples: All of them, also those that cannot be asked (`Sample.invalid`).
        root: Folder under which every image lies.
        spec: The specification, as resolved.
    """

    name: str
    samples: tuple[Sample, ...]
    root: Path
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def invalid(self) -> tuple[Sample, ...]:
        """The samples that cannot be asked, each with its reason."""
        return tuple(sample for sample in self.samples if sample.invalid is not None)

    def locate(self, image: ImageRef) -> Path:
        """Returns the file or folder of an image.

        Raises:
            MmevalError: It lies outside the root or does not exist.
        """
        return confined(self.root, image.path)


def confined(root: Path, relative: str) -> Path:
    """Returns ``root / relative`` if it exists and nothing of it lies outside `root`.

    Args:
        root: The only folder that may be read.
        relative: A path from a data file.

    Raises:
        MmevalError: The path is absolute, climbs with ``..``, leaves the root through a symbolic
            link, or does not exist.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or "\\" in relative or "\0" in relative:
        raise MmevalError(f"{relative!r}: images lie under the root; write a path relative to it")
    base = root.resolve()
    path = base / parts
    try:
        exists = path.exists()
    except OSError:  # a name longer than the file system allows
        exists = False
    if not exists:
        raise MmevalError(f"{relative!r}: no such file under the root")
    members = [path, *path.rglob("*")] if path.is_dir() else [path]
    if not all(member.resolve().is_relative_to(base) for member in members):
        raise MmevalError(f"{relative!r}: a symbolic link leads out of the root")
    return path


def load(spec: Mapping[str, Any], data_dir: Path | None = None) -> Benchmark:
    """Reads a benchmark.

    Args:
        spec: A specification (see the module's description).
        data_dir: Where the reader ``phantom`` writes its files; its `root` takes precedence.

    Returns:
        The benchmark. Records that cannot be asked are among its samples, marked `invalid`.

    Raises:
        MmevalError: The specification is wrong, the file cannot be read, an id is used twice, no
            record is usable, or a count differs from `expected`.
    """
    for key in spec:
        if key not in SPEC_KEYS:
            raise MmevalError(f"benchmark: unknown key {key!r}{did_you_mean(key, SPEC_KEYS)}")
    name = str(spec.get("name") or "benchmark")
    try:
        if spec.get("reader") == "phantom":
            root, path, reader = *_phantom(spec, data_dir), "jsonl"
        else:
            root, path, reader = *_file(spec), str(spec["reader"])
        samples = _samples(spec, root, path, reader)
        _expect(spec.get("expected") or {}, samples, path)
    except MmevalError as error:
        raise MmevalError(f"benchmark {name}: {error}") from None
    return Benchmark(name, samples, root, dict(spec))


def _phantom(spec: Mapping[str, Any], data_dir: Path | None) -> tuple[Path, Path]:
    """Writes the phantoms, unless the same ones are already there."""
    import mmeval
    from mmeval import phantom

    recipe = {"seed": spec.get("seed", 0), "n": spec.get("n", 240), "mmeval": mmeval.__version__}
    for key in ("seed", "n"):
        if not isinstance(recipe[key], int) or recipe[key] < 0:
            raise MmevalError(f"{key}: expected a whole number, got {recipe[key]!r}")
    folder = spec.get("root") or data_dir
    if folder is None:
        raise MmevalError("root: say where the phantoms are to be written")
    root = Path(folder)
    recipe_file = root / "phantom.json"
    if not (recipe_file.is_file() and json.loads(recipe_file.read_text()) == recipe):
        if recipe_file.is_file():  # ours, from another recipe or version
            shutil.rmtree(root)
        elif root.is_dir() and any(root.iterdir()):
            raise MmevalError(f"root: {root} holds other files; choose an empty folder")
        partial = root.with_name(f".{root.name}.partial")  # only a complete folder gets the name
        shutil.rmtree(partial, ignore_errors=True)
        phantom.write(partial, seed=recipe["seed"], n=recipe["n"])
        (partial / recipe_file.name).write_text(json.dumps(recipe))
        if root.is_dir():
            root.rmdir()
        partial.rename(root)
    return root, root / "samples.jsonl"


def _file(spec: Mapping[str, Any]) -> tuple[Path, Path]:
    if spec.get("reader") not in READERS:
        reader = str(spec.get("reader"))
        raise MmevalError(
            f"reader: unknown {reader!r}{did_you_mean(reader, [*READERS, 'phantom'])}"
        )
    if not spec.get("file"):
        raise MmevalError("file: say which file under the root holds the questions")
    if not spec.get("root"):
        source = f" (from {spec['source']})" if spec.get("source") else ""
        raise MmevalError(f"root: say which folder holds {spec['file']}{source}: --set root=FOLDER")
    root = Path(spec["root"])
    if not root.is_dir():
        raise MmevalError(f"root: {root} is not a folder")
    try:
        return root, confined(root, str(spec["file"]))
    except MmevalError as error:
        raise MmevalError(f"file: {error}; is {root} the right root?") from None


def _samples(spec: Mapping[str, Any], root: Path, path: Path, reader: str) -> tuple[Sample, ...]:
    columns = spec.get("columns")
    if columns is None and reader != "jsonl":
        raise MmevalError(f"columns: say which column is the question (reader {reader})")
    for key in columns or ():
        if key not in _COLUMNS:
            raise MmevalError(f"columns: unknown field {key!r}{did_you_mean(key, _COLUMNS)}")
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    unreachable: dict[str, str | None] = {}
    for number, record in read(reader, path):
        where = f"{path.name}:{number}"
        try:
            if isinstance(record, MmevalError):
                raise record
            if not _selected(spec.get("where"), record):
                continue
            sample = _map(spec, record) if columns is not None else Sample.from_dict(record)
            for i, image in enumerate(sample.images):
                if image.path not in unreachable:
                    unreachable[image.path] = _why_not(root, image.path)
                if unreachable[image.path]:
                    raise MmevalError(f"images[{i}].path: {unreachable[image.path]}")
        except MmevalError as error:
            sample = Sample(
                _id_of(spec, record) or f"{where}", "", "open", "", invalid=f"{where}: {error}"
            )
        if sample.id in lines:
            raise MmevalError(
                f"{path}:{number}: id {sample.id!r} was already used in {path.name}:"
                f"{lines[sample.id]}; make ids unique (blanks around an id do not count)"
            )
        lines[sample.id] = number
        samples.append(sample)
    if not samples:
        raise MmevalError(f"{path}: no records" + (" left by `where`" if spec.get("where") else ""))
    if all(sample.invalid for sample in samples):
        raise MmevalError(
            f"none of {len(samples)} records is usable; the first: {samples[0].invalid}"
        )
    return tuple(samples)


def _why_not(root: Path, relative: str) -> str | None:
    try:
        confined(root, relative)
    except MmevalError as error:
        return str(error)
    return None


def _id_of(spec: Mapping[str, Any], record: Mapping[str, Any] | MmevalError) -> str | None:
    if isinstance(record, MmevalError):
        return None
    try:
        return _get(record, (spec.get("columns") or {}).get("id", "id"), "id")
    except MmevalError:
        return None


def _raw(record: Mapping[str, Any], column: str) -> object:
    """Returns a column's value; dots lead into nested objects."""
    if column in record:
        return record[column]
    value: object = record
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise MmevalError(f"there is no column {column!r}{did_you_mean(column, record)}")
        value = value[part]
    return value


def _scalar(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise MmevalError(f"expected text or a number, got {type(value).__name__}")
    return str(value).strip()


def _get(record: Mapping[str, Any], source: object, name: str) -> str:
    """Returns the text of a field: a column, or a template such as ``images/{file}``."""
    try:
        column = str(source)
        if "{" in column:
            return _FIELD.sub(lambda match: _scalar(_raw(record, match[1])), column)
        return _scalar(_raw(record, column))
    except MmevalError as error:
        raise MmevalError(f"{name}: {error}") from None


def _fits(rule: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    for column, wanted in rule.items():
        value = _get(record, column, column).casefold()
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if value not in {_yaml_text(item).casefold() for item in allowed}:
            return False
    return True


def _yaml_text(value: object) -> str:
    # YAML reads a bare yes or no as a truth value; in a question file it is a word.
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).strip()


def _selected(where: object, record: Mapping[str, Any]) -> bool:
    if where is None:
        return True
    if not isinstance(where, Mapping):
        raise MmevalError("where: expected column: value")
    return _fits(where, record)


def _map(spec: Mapping[str, Any], record: Mapping[str, Any]) -> Sample:
    columns: Mapping[str, Any] = spec["columns"]
    values: Mapping[str, Any] = spec.get("values") or {}
    got: dict[str, str] = {}
    for name in columns.keys() - {"images", "options"}:
        text = _get(record, columns[name], name)
        mapped = (values.get(name) or {}).get(text, text)
        got[name] = _yaml_text(mapped)
    images = _list(record, columns["images"], "images") if "images" in columns else []
    options = _list(record, columns["options"], "options") if "options" in columns else []
    kind = _kind(spec.get("kind", "choice" if options else "open"), record)
    if kind != "choice":
        options = []
    answer = got.get("answer", "")
    if kind == "yes_no":
        answer = answer.casefold()
    elif kind == "choice":
        answer = _letter(answer, options, str(spec.get("answer_is", "letter")))
    chance = {"yes_no": 0.5, "choice": 1 / max(len(options), 1)}.get(kind)
    return Sample.from_dict(
        {
            "id": got.get("id"),
            "question": got.get("question"),
            "kind": kind,
            "answer": answer,
            "options": options,
            "images": [
                {"path": path, "modality": spec.get("modality"), "choices": spec.get("choices")}
                for path in images
            ],
            "tags": {
                tag: _get(record, column, f"tags.{tag}")
                for tag, column in (spec.get("tags") or {}).items()
            },
            "group": got.get("group"),
            "role": got.get("role"),
            "cluster": got.get("cluster") or (images[0] if images else None),
            "chance": float(got["chance"]) if "chance" in got else chance,
        }
    )


def _list(record: Mapping[str, Any], source: object, name: str) -> list[str]:
    """Returns the texts of a list field: one column holding one or many, or a list of columns."""
    if isinstance(source, list):
        found = [_get(record, column, f"{name}[{i}]") for i, column in enumerate(source)]
        while found and not found[-1]:  # published tables leave unused last options empty
            found.pop()
        return found
    value = _raw(record, str(source)) if "{" not in str(source) else _get(record, source, name)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_scalar(item) for item in value]
    return [_scalar(value)]


def _kind(rules: object, record: Mapping[str, Any]) -> str:
    if isinstance(rules, str):
        return rules
    if not isinstance(rules, list):
        raise MmevalError("kind: expected a kind or a list of rules")
    for rule in rules:
        if _fits(rule.get("when") or {}, record):
            return str(rule["kind"])
    raise MmevalError("kind: no rule fits; end the list with one that has no `when`")


def _letter(answer: str, options: list[str], form: str) -> str:
    if form == "letter":
        return answer.upper()
    if form == "text":
        matches = [i for i, text in enumerate(options) if text.casefold() == answer.casefold()]
    elif form in ("index0", "index1"):
        number = int(answer) - int(form[-1]) if answer.isdecimal() else -1
        matches = [number] if 0 <= number < len(options) else []
    else:
        raise MmevalError(f"answer_is: unknown {form!r}; known: letter, text, index0, index1")
    if len(matches) != 1 or matches[0] >= len(LETTERS):
        raise MmevalError(f"answer: {answer!r} is {len(matches)} of the options; answer_is: {form}")
    return LETTERS[matches[0]]


def _expect(expected: Mapping[str, int], samples: Sequence[Sample], path: Path) -> None:
    counts = Counter(sample.kind for sample in samples if sample.invalid is None)
    found = {
        "samples": len(samples),
        "images": len({image.path for sample in samples for image in sample.images}),
        **counts,
    }
    for what, number in expected.items():
        if found.get(what, 0) != number:
            raise MmevalError(
                f"{path}: expected {number} {what}, found {found.get(what, 0)}: another version or "
                "an incomplete copy? If it is meant, run with --set expected=null"
            )
