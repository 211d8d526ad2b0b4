"""From a record, as a file holds it, to a checked `Sample`."""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmeval.benchmarks.images import Embed, decode_base64, is_base64, listed
from mmeval.benchmarks.readers import BLANK
from mmeval.errors import MmevalError, did_you_mean
from mmeval.schema import KINDS, LETTERS, Sample

__all__ = ["COLUMNS", "FORMS", "Mapper", "Notes"]

#: Fields that `columns` may name.
COLUMNS = frozenset(
    {
        *("id", "question", "kind", "answer", "images", "modality", "options"),
        *("cluster", "group", "role", "chance", "low", "high", "tolerance", "extra"),
    }
)
#: How a file writes the answer of a choice.
FORMS = ("letter", "text", "index0", "index1")
_FIELD = re.compile(r"\{([^{}]+)\}")
_BARE = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\].:]*")
_PREFIXED = re.compile(r"[(\[]?([A-Za-z])[)\].:]+\s*(.+)", re.DOTALL)
_YES_NO = {"true": "yes", "false": "no"}

#: What was read otherwise than it is written: reason to the ids it happened to.
Notes = defaultdict[str, list[str]]


def raw(record: Mapping[str, Any], column: str) -> object:
    """Returns a column's value; dots lead into objects, and into each object of a list.

    Raises:
        MmevalError: There is no such column.
    """
    if column in record:
        return record[column]
    value: object = record
    parts = column.split(".")
    for i, part in enumerate(parts):
        if isinstance(value, list):
            rest = ".".join(parts[i:])
            return [raw(item, rest) if isinstance(item, Mapping) else item for item in value]
        if not isinstance(value, Mapping) or part not in value:
            raise MmevalError(f"there is no column {column!r}{did_you_mean(column, record)}")
        value = value[part]
    return value


def scalar(value: object) -> str:
    """Returns a single value as text without blanks around it; a truth value is yes or no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str | int | float):
        raise MmevalError(f"expected text or a number, got {type(value).__name__}")
    return str(value).strip()


def blank(value: object) -> bool:
    """Whether a value is nothing, as tables and data frames write it."""
    if isinstance(value, str):
        return value.strip()[:5].casefold() in BLANK
    return value is None or (isinstance(value, float) and math.isnan(value))


def get(record: Mapping[str, Any], source: object, name: str) -> str:
    """Returns the text of a field.

    Args:
        record: As read.
        source: A column, a template such as ``images/{file}``, or a list of these whose texts are
            joined by line breaks, blank ones left out.
        name: Of the field, for errors.

    Raises:
        MmevalError: There is no such column, or it holds no single value.
    """
    try:
        if isinstance(source, list):
            parts = [get(record, part, name) for part in source]
            return "\n".join(part for part in parts if not blank(part))
        column = str(source)
        if "{" in column and column not in record:
            return _FIELD.sub(lambda match: scalar(raw(record, match[1])), column)
        return scalar(raw(record, column))
    except MmevalError as error:
        text = str(error)
        raise MmevalError(text if text.startswith(f"{name}: ") else f"{name}: {text}") from None


def fits(rule: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a record's columns have the wanted values, whatever the case."""
    for column, wanted in rule.items():
        value = get(record, column, column).casefold()
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if value not in {yaml_text(item).casefold() for item in allowed}:
            return False
    return True


def yaml_text(value: object) -> str:
    """Returns what was meant: YAML reads a bare yes or no as a truth value."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).strip()


def plain(value: object, name: str) -> object:
    """Returns a value as JSON can hold it.

    Raises:
        MmevalError: It is of another type, such as bytes or a date.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    raise MmevalError(f"{name}: expected text, numbers or lists, got {type(value).__name__}")


class Mapper:
    """Makes samples of records as a specification says.

    Args:
        spec: The specification, its layout's keys included.
        root: Where paths are relative to.
        embed: Keeps images that lie in the file.
        samples: `Protocol.samples`, used where the specification has no columns.

    Attributes:
        notes: What was read otherwise than it is written.

    Raises:
        MmevalError: The specification is wrong.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        root: Path,
        embed: Embed,
        samples: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] | None = None,
    ) -> None:
        import modalities

        self.spec, self.root, self.embed, self.samples = spec, root, embed, samples
        self.notes: Notes = defaultdict(list)
        self.columns: Mapping[str, Any] | None = spec.get("columns")
        self.modalities = {name.casefold(): name for name in modalities.names()}
        for key in self.columns or ():
            if key not in COLUMNS:
                raise MmevalError(f"columns: unknown field {key!r}{did_you_mean(key, COLUMNS)}")
        for name in ("values", "tags", "extra"):
            if not isinstance(spec.get(name) or {}, Mapping):
                raise MmevalError(f"{name}: expected keys and values")
        if str(spec.get("answer_is", "letter")) not in FORMS:
            form = str(spec["answer_is"])
            raise MmevalError(f"answer_is: unknown {form!r}; known: {', '.join(FORMS)}")
        if isinstance(spec.get("kind"), str) and spec["kind"] not in KINDS:
            raise MmevalError(f"kind: unknown {spec['kind']!r}{did_you_mean(spec['kind'], KINDS)}")
        self.values = {
            name: {yaml_text(key): yaml_text(value) for key, value in (table or {}).items()}
            for name, table in (spec.get("values") or {}).items()
        }
        self.modality = self._modality(spec.get("modality"))

    def selected(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is among those that ``where`` asks for."""
        where = self.spec.get("where")
        if where is None:
            return True
        if not isinstance(where, Mapping):
            raise MmevalError("where: expected column: value")
        return fits(where, record)

    def id_of(self, record: Mapping[str, Any]) -> str | None:
        """Returns the id of a record that is wrong otherwise, None where that is wrong, too."""
        try:
            return get(record, (self.columns or {}).get("id", "id"), "id") or None
        except MmevalError:
            return None

    def map(self, record: Mapping[str, Any]) -> Iterator[tuple[object, Sample]]:
        """Yields the samples of a record, each with its id as written.

        Raises:
            MmevalError: Names the field and what is wrong with it.
        """
        if self.columns is not None:
            fields = self._fields(record)
            written = raw(record, self.columns["id"]) if self._is_column("id", record) else None
            yield written, self._sample(fields)
        elif self.samples is not None:
            try:
                found = [dict(fields) for fields in self.samples(record)]
            except MmevalError:
                raise
            except KeyError as error:
                raise MmevalError(f"there is no {error.args[0]!r}, which the protocol reads") from (
                    None
                )
            except (TypeError, ValueError, IndexError, AttributeError) as error:
                protocol = self.spec.get("protocol")
                raise MmevalError(
                    f"not a record as the protocol {protocol} reads them ({type(error).__name__})"
                ) from None
            for fields in found:
                tags = {**self._tags(record), **(fields.get("tags") or {})}
                yield fields.get("id"), self._sample({**fields, "tags": tags})
        else:
            yield record.get("id"), self._sample(dict(record))

    def _is_column(self, name: str, record: Mapping[str, Any]) -> bool:
        source = (self.columns or {}).get(name)
        return isinstance(source, str) and source in record

    def _fields(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the fields that the columns of a record hold, answers and images as written."""
        spec, columns = self.spec, self.columns or {}
        fields: dict[str, Any] = {}
        for name in ("id", "kind", "cluster", "group", "role", "chance"):
            if name in columns and not blank(self._cell(record, columns[name], name)):
                fields[name] = self._value(name, get(record, columns[name], name))
        if "question" in columns:
            fields["question"] = self._value(
                "question", get(record, columns["question"], "question")
            )
        elif spec.get("question"):
            fields["question"] = _filled(str(spec["question"]), record)
        if "options" in columns:
            fields["options"] = self._options(record, columns["options"])
        if "chance" in fields:
            fields["chance"] = _number(fields["chance"], "chance")
        kind = fields.get("kind") or self._kind(record, fields.get("options"))
        fields["kind"] = kind
        if kind not in ("choice", "multiple"):
            fields.pop("options", None)
        if "answer" in columns:
            fields["answer"] = self._written_answer(record, columns["answer"])
        if "images" in columns:
            fields["images"] = self._images(record, columns["images"], columns.get("modality"))
        fields["tags"] = self._tags(record)
        fields["extra"] = self._extra(record)
        return fields

    def _cell(self, record: Mapping[str, Any], source: object, name: str) -> object:
        """Returns the value of a column as it is, or the text of a template or of a list."""
        if not isinstance(source, str) or ("{" in source and source not in record):
            return get(record, source, name)
        try:
            return raw(record, source)
        except MmevalError as error:
            raise MmevalError(f"{name}: {error}") from None

    def _value(self, name: str, text: str) -> str:
        return self.values.get(name, {}).get(text, text)

    def _tags(self, record: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for tag, column in (self.spec.get("tags") or {}).items():
            value = self._cell(record, column, f"tags.{tag}")
            if not blank(value):
                found[tag] = get(record, column, f"tags.{tag}")
        return found

    def _extra(self, record: Mapping[str, Any]) -> dict[str, Any]:
        columns = self.columns or {}
        found = dict(self.spec.get("extra") or {})
        listed_extra = columns.get("extra") or {}
        if not isinstance(listed_extra, Mapping):
            raise MmevalError("columns.extra: expected name: column")
        for name, column in listed_extra.items():
            found[name] = plain(self._cell(record, column, f"extra.{name}"), f"extra.{name}")
        for name in ("low", "high", "tolerance"):
            if name in columns:
                value = self._cell(record, columns[name], name)
                if not blank(value):
                    found[name] = _number(get(record, columns[name], name), name)
        return found

    def _kind(self, record: Mapping[str, Any], options: Sequence[str] | None) -> str:
        rules = self.spec.get("kind", "choice" if options else "open")
        if isinstance(rules, str):
            return rules
        if not isinstance(rules, list):
            raise MmevalError("kind: expected a kind or a list of rules")
        for rule in rules:
            if not isinstance(rule, Mapping) or rule.get("kind") not in KINDS:
                raise MmevalError(f"kind: every rule says a kind: {', '.join(KINDS)}")
            if fits(rule.get("when") or {}, record):
                return str(rule["kind"])
        raise MmevalError("kind: no rule fits; end the list with one that has no `when`")

    def _options(self, record: Mapping[str, Any], source: object) -> list[str]:
        if isinstance(source, list):
            cells: list[object] = [self._cell(record, column, "options") for column in source]
        else:
            value = self._cell(record, source, "options")
            if isinstance(value, Mapping):
                value = list(value.values())
            cells = value if isinstance(value, list) else listed(str(value))
        while cells and blank(cells[-1]):  # published tables leave unused last options empty
            cells = cells[:-1]
        try:
            return [self._value("options", "" if blank(c) else scalar(c)) for c in cells]
        except MmevalError as error:
            raise MmevalError(f"options: {error}") from None

    def _written_answer(self, record: Mapping[str, Any], source: object) -> object:
        if isinstance(source, list):  # the four numbers of a box
            return [self._cell(record, column, "answer") for column in source]
        value = self._cell(record, source, "answer")
        try:
            text = scalar(value)
        except MmevalError:
            return value
        return self.values.get("answer", {}).get(text, value)

    def _images(
        self, record: Mapping[str, Any], source: object, modality: object
    ) -> list[dict[str, Any]]:
        sources = source if isinstance(source, list) else [source]
        named = modality if isinstance(modality, list) else [modality] * len(sources)
        if len(named) != len(sources):
            raise MmevalError(f"modality: {len(named)} columns for {len(sources)} of images")
        found: list[dict[str, Any]] = []
        for column, kind in zip(sources, named, strict=True):
            cells = _cells(self._pictured(record, str(column)))
            kinds = [None] * len(cells)
            if kind is not None:
                kinds = self._kinds(record, str(kind), len(cells))
            for cell, each in zip(cells, kinds, strict=True):
                if not blank(cell):
                    found.append(self._image(cell, self._modality(each)))
        return found

    def _kinds(self, record: Mapping[str, Any], column: str, n: int) -> list[Any]:
        value = self._cell(record, column, "modality")
        found = _cells(value)
        if len(found) == 1:
            return found * n
        if len(found) not in (0, n):
            raise MmevalError(f"modality: {len(found)} for {n} images")
        return found or [None] * n

    def _pictured(self, record: Mapping[str, Any], source: str) -> object:
        """The value of an image column; a template is filled once for each entry of a list."""
        fields = _FIELD.findall(source) if source not in record else []
        try:
            if not fields:
                return raw(record, source)
            values = {field: _cells(raw(record, field)) for field in fields}
        except MmevalError as error:
            raise MmevalError(f"images: {error}") from None
        n = max(map(len, values.values()))
        if any(len(found) not in (1, n) for found in values.values()):
            return []
        filled = []
        for i in range(n):
            row = {field: found[i if len(found) > 1 else 0] for field, found in values.items()}
            if not any(map(blank, row.values())):
                filled.append(_FIELD.sub(lambda match, row=row: scalar(row[match[1]]), source))  # type: ignore[misc]
        return filled

    def _image(self, cell: object, modality: str | None) -> dict[str, Any]:
        """Returns an image reference for a cell, keeping the image if the cell holds it."""
        own: Mapping[str, Any] = {}
        if isinstance(cell, Mapping):
            data, path = cell.get("bytes"), cell.get("path")
            own = {key: value for key, value in cell.items() if key not in ("bytes", "path")}
            cell = data if isinstance(data, bytes) else self._relative(path)
        if isinstance(cell, bytes):
            cell = self.embed(cell)
        elif isinstance(cell, str) and is_base64(cell):
            cell = self.embed(decode_base64(cell))
        elif isinstance(cell, str) and cell.strip():
            cell = posixpath.normpath(cell.strip())  # one name for one file
        found = {"path": cell, "modality": modality or self.modality, **own}
        if self.spec.get("choices") is not None:
            found.setdefault("choices", self.spec["choices"])
        return found

    def _relative(self, path: object) -> object:
        """The library datasets names local images by their absolute path."""
        if isinstance(path, str) and Path(path).is_absolute():
            for root in (self.root, self.root.resolve()):
                if Path(path).is_relative_to(root):
                    return Path(path).relative_to(root).as_posix()
        return path

    def _modality(self, written: object) -> str | None:
        if blank(written):
            return None
        text = scalar(written)
        text = self._value("modality", text)
        found = self.modalities.get(text.casefold())
        if found is None:
            raise MmevalError(
                f"modality: unknown {text!r}{did_you_mean(text, self.modalities)}; "
                "give others one of these names with values: {modality: {OTHER: NAME}}"
            )
        return found

    def _sample(self, fields: dict[str, Any]) -> Sample:
        """Returns the sample of fields as records, protocols and ``samples.jsonl`` have them."""
        if "id" in fields:
            fields["id"] = get(fields, "id", "id")
        if isinstance(fields.get("images"), list | tuple):
            fields["images"] = [
                image if isinstance(image, Mapping) and _native(image) else self._image(image, None)
                for image in fields["images"]
                if not blank(image)
            ]
        if "kind" not in fields and isinstance(self.spec.get("kind"), str):
            fields["kind"] = self.spec["kind"]
        if "kind" not in fields and fields.get("options"):
            fields["kind"] = "choice"
        kind, options = fields.get("kind"), fields.get("options") or []
        if "answer" in fields and fields.get("invalid") is None:
            fields["answer"] = self._answer(kind, fields["answer"], options, fields.get("id"))
        if kind in ("yes_no", "choice"):
            chance = 0.5 if kind == "yes_no" else 1 / max(len(options), 1)
            fields.setdefault("chance", chance)
        images = fields.get("images")
        if images and isinstance(images[0], Mapping):
            fields.setdefault("cluster", images[0].get("path"))
        return Sample.from_dict(fields)

    def _answer(self, kind: object, value: object, options: Sequence[Any], id: object) -> object:
        """Returns an answer in the one form that a `Sample` has."""
        form = str(self.spec.get("answer_is", "letter"))
        if kind == "choice":
            letter, how = _letter(value, options, form)
        elif kind == "multiple":
            letters = [_letter(item, options, form) for item in _several(value, options, form)]
            letter = ",".join(sorted({letter for letter, _ in letters}))
            how = next((how for _, how in letters if how), None)
        else:
            return _single(kind, value)
        if how is not None:
            self.notes[f"answers written as {how} are read as that option"].append(str(id))
        return letter


def _native(image: Mapping[str, Any]) -> bool:
    return "bytes" not in image and set(image) <= {"path", "modality", "choices"} and len(image) > 1


def _single(kind: object, value: object) -> object:
    if kind == "yes_no":
        text = scalar(value).casefold().rstrip(".")
        return _YES_NO.get(text, text)
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if kind == "box" and isinstance(value, list | tuple) and len(value) == 4:
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, str):
        return value.strip()
    return scalar(value)


def _filled(template: str, record: Mapping[str, Any]) -> str:
    try:
        return _FIELD.sub(lambda match: scalar(raw(record, match[1])), template)
    except MmevalError as error:
        raise MmevalError(f"question: {error}") from None


def _number(text: object, name: str) -> float:
    try:
        found = float(str(text))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise MmevalError(f"{name}: expected a number, got {_short(text)}")
    return found


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _cells(value: object) -> list[Any]:
    """Returns the entries of a value: a list, a list written as JSON or Python, or ``a;b``."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or is_base64(value):
        return [value]
    found = listed(value)
    if found == [value.strip()] and ";" in value:
        return [part.strip() for part in value.split(";")]
    return found


def _several(value: object, options: Sequence[Any], form: str) -> list[Any]:
    """Returns the answers that a question with several right ones lists."""
    if isinstance(value, list | tuple):
        return list(value)
    text = str(value).strip()
    found = listed(text)
    if found != [text]:
        return found
    if form == "letter" and text.isalpha() and set(text) <= set(LETTERS[: len(options)]):
        return list(text)
    return [part for part in re.split(r"[,;/|]", text) if part.strip()]


def _letter(value: object, options: Sequence[Any], form: str) -> tuple[str, str | None]:
    """Returns the letter of an answer, and how it was written where that was not as `form` says."""
    how = None
    if isinstance(value, list | tuple) and len(value) == 1:
        value, how = value[0], "a list of one"
    if form in ("index0", "index1"):
        return _by_index(value, options, form), how
    if not isinstance(value, str):
        if isinstance(value, int | float):
            raise MmevalError(
                f"answer: {value!r} may count from 0 or from 1; say answer_is: index0 or index1"
            )
        raise MmevalError(f"answer: expected text, got {type(value).__name__}")
    text = value.strip()
    if not text:
        raise MmevalError("answer: is empty")
    if form == "text":
        by_text = _by_text(text, options)
        if len(by_text) != 1 or by_text[0] >= len(LETTERS):
            raise MmevalError(
                f"answer: {_short(text)} is {len(by_text)} of the options; answer_is: {form}"
            )
        return LETTERS[by_text[0]], how
    wide = unicodedata.normalize("NFKC", text)
    bare, prefixed = _BARE.fullmatch(wide), _PREFIXED.fullmatch(wide)
    if bare and bare[1].upper() in LETTERS[: len(options)]:
        if text != bare[1].upper():
            how = how or ("a small letter" if text == bare[1] else "a letter in other signs")
        return bare[1].upper(), how
    by_text = _by_text(text, options)
    if len(by_text) == 1:
        return LETTERS[by_text[0]], how or "the text of the option"
    if prefixed and prefixed[1].upper() in LETTERS[: len(options)]:
        letter = prefixed[1].upper()
        if _same(options[LETTERS.index(letter)], prefixed[2]):
            return letter, how or "letter and text"
        raise MmevalError(f"answer: {_short(text)} is not the text of option {letter}")
    if text.isdecimal():
        raise MmevalError(
            f"answer: {text!r} may count from 0 or from 1; say answer_is: index0 or index1"
        )
    last = LETTERS[min(len(options), len(LETTERS)) - 1] if options else "none"
    raise MmevalError(
        f"answer: expected an option letter A to {last} or an option's text, got {_short(text)}"
    )


def _by_text(text: str, options: Sequence[Any]) -> list[int]:
    return [i for i, option in enumerate(options) if _same(option, text)]


def _same(option: object, text: str) -> bool:
    """Whether a text is an option's, whatever its blanks and case."""
    if not isinstance(option, str):
        return False
    return option.casefold().split() == text.casefold().split()


def _by_index(value: object, options: Sequence[Any], form: str) -> str:
    try:
        number = float(str(value).strip())
    except ValueError:
        number = math.nan
    index = number - int(form[-1])
    if not (index.is_integer() and 0 <= index < min(len(options), len(LETTERS))):
        raise MmevalError(
            f"answer: {_short(value)} is not the number of an option; answer_is: {form}"
        )
    return LETTERS[int(index)]
