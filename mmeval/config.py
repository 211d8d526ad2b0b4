"""Configurations: YAML files, names of packaged ones, and ``--set key=value`` on top.

A run configuration names a model, benchmarks and conditions. A benchmark specification can be run
too: it is then the run's only benchmark, and keys of a run beside its own are the run's settings.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmeval import protocols
from mmeval.benchmarks import SPEC_KEYS, included
from mmeval.errors import MmevalError, did_you_mean, is_plain
from mmeval.privacy import without_secrets
from mmeval.schema import CONTROLS, Condition

__all__ = ["RunConfig", "conditions", "config_root", "load", "names", "resolve"]

DEFAULT_MODEL = "phantom"
CONFIDENCES: Mapping[str, str] = {
    "option": "the answer's probability among the options, no extra request",
    "voting": "1 - H/log K over `trials` answers at `vote_temperature` (MedQ-Deg); choices only",
    "verbalized": "what the model says, 0 to 100, asked together with the answer; one more request",
}
_NAME = re.compile(r"\w[\w.-]*")  # also the name of a folder
_SEVERAL = re.compile(r"(.+):([^:\[\]]+,[^:\[\]]+)((?:\[\w+\])?)")


@dataclass(frozen=True)
class RunConfig:
    """What a run asks. Every field is a key of the YAML file.

    Attributes:
        name: Names the run directory where `out` is not given.
        model: ``backend`` and its arguments; in a file also a name, a file or a checkpoint folder.
        benchmarks: Specifications; in a file also names or files.
        conditions: ``clean``, degradation specs (``general/jpeg:1,3,5`` stands for three), controls
            (``control/no_image``) and variants (``variant/negated``); see
            `mmeval.schema.Condition`.
        protocol: How questions are put, read and scored, instead of each benchmark's own protocol.
        confidence: Which confidences to ask for, of `CONFIDENCES`; several may be combined.
        trials: How many votes the confidence ``voting`` takes; MedQ-Deg takes 10.
        vote_temperature: At which temperature votes are cast.
        seed: Of the degradations.
        max_new_tokens: Longest answer, instead of the protocol's.
        image_labels: Said before each of several images, ``Image {n}:``; None for nothing.
        temperature: 0 is greedy.
        render_size: Longest edge of what the model is shown, None for the image's own.
        assume_window: (centre, width) in HU that CT pictures were windowed with; lets degradations
            of Hounsfield units run on them.
        ask_geometric: Whether degradations that move anatomy are asked also on questions about a
            place or a side, whose right answer they may change.
        limit: First samples of each benchmark only.
        fail_on_error: Errors that are tolerated: a count, or a share below 1. Beyond it the exit
            code is 1.
        executor: ``local``, ``ray``, or a mapping such as ``{kind: ray, replicas: 2}``; see
            `mmeval.running.cluster`.
        out: The run directory.
    """

    name: str
    model: Mapping[str, Any]
    benchmarks: tuple[Mapping[str, Any], ...]
    conditions: tuple[str, ...] = ("clean",)
    protocol: str | None = None
    confidence: tuple[str, ...] = ("option",)
    trials: int = 10
    vote_temperature: float = 1.0
    seed: int = 0
    max_new_tokens: int | None = None
    image_labels: str | None = None
    temperature: float = 0.0
    render_size: int | None = None
    assume_window: tuple[float, float] | None = None
    ask_geometric: bool = False
    limit: int | None = None
    fail_on_error: float = 0
    executor: str | Mapping[str, Any] = "local"
    out: Path = field(default=Path("runs"))

    def to_yaml(self) -> str:
        """Returns the configuration as YAML that can be run again, secrets left out."""
        data = dataclasses.asdict(self) | {"out": str(self.out)}
        return yaml.safe_dump(without_secrets(data), sort_keys=False, allow_unicode=True)


RUN_KEYS = frozenset(f.name for f in dataclasses.fields(RunConfig))


def config_root() -> Path:
    """Returns the folder of packaged configurations, in an installation or in the repository."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def names(kind: str = "") -> list[str]:
    """Returns the names of packaged ``benchmarks``, ``models``, ``sweeps``, or runs (no kind)."""
    return sorted(path.stem for path in (config_root() / kind).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping; relative folders in it become relative to the file.

    Raises:
        MmevalError: The file is missing, no YAML, or no mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MmevalError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MmevalError(f"{path}: is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise MmevalError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise MmevalError(f"{path}: expected keys and values, got {type(data).__name__}")
    if "include" in data:
        data = dict(included(data, path, read_yaml))
    for part in (data, data.get("model"), *_listed(data.get("benchmarks"))):
        if isinstance(part, dict):
            for key in ("root", "script", "path"):
                value = part.get(key)
                if isinstance(value, str) and (key != "path" or (path.parent / value).is_dir()):
                    part[key] = str((path.parent / value).resolve())
    return data


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def resolve(reference: object, kind: str) -> dict[str, Any]:
    """Returns the mapping that a name, a file or a mapping stands for.

    Args:
        reference: A mapping, a YAML file, the name of a packaged configuration, or for ``models`` a
            checkpoint folder or Hugging Face id.
        kind: ``benchmarks`` or ``models``.

    Raises:
        MmevalError: Nothing of that name exists.
    """
    if isinstance(reference, Mapping):
        return dict(reference)
    if not isinstance(reference, str | Path):
        raise MmevalError(f"{kind}: expected a name, a file or a mapping, got {reference!r}")
    text = str(reference)
    if text.endswith((".yaml", ".yml")):
        return read_yaml(Path(text))
    if text in names(kind):
        return read_yaml(config_root() / kind / f"{text}.yaml")
    if kind == "models" and (Path(text).is_dir() or "/" in text):
        return {"backend": "transformers", "path": text}
    if kind == "benchmarks" and text.endswith(".jsonl"):
        path = Path(text)
        name = re.sub(r"[^\w.-]+", "-", path.stem).lstrip(".-") or "samples"
        return {"name": name, "reader": "jsonl", "root": str(path.parent), "file": path.name}
    raise MmevalError(f"{kind}: no {text!r}{did_you_mean(text, names(kind))}")


def load(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    limit: int | None = None,
) -> RunConfig:
    """Reads and checks a configuration.

    Args:
        source: A YAML file, the name of a packaged configuration, or a mapping.
        overrides: ``key=value``; dots lead inside, values are YAML.
        out: Run directory, instead of the configuration's.
        limit: First samples of each benchmark only.

    Raises:
        MmevalError: Names the file, the key and the mend.
    """
    label = str(source) if isinstance(source, str | Path) else "configuration"
    try:
        data = _find(source) if isinstance(source, str | Path) else dict(source)
        parsed = [_override(text) for text in overrides]
        reads = data.get("protocol")
        for path, value in parsed:
            if len(path) == 1:
                data[path[0]] = value
        if "reader" in data:
            data = _benchmark_run(data, reads)
        data.setdefault("model", DEFAULT_MODEL)
        data["model"] = resolve(data["model"], "models")
        found = [resolve(item, "benchmarks") for item in _one_or_more(data.get("benchmarks"))]
        data["benchmarks"] = [
            {key: value for key, value in spec.items() if key in SPEC_KEYS or key not in RUN_KEYS}
            for spec in found
        ]
        for path, value in parsed:
            if len(path) > 1:
                _assign(data, path, value)
        if out is not None:
            data["out"] = out
        if limit is not None:
            data["limit"] = limit
        return _checked(data, Path(label).stem)
    except MmevalError as error:
        message = str(error)
        raise MmevalError(message if message.startswith(label) else f"{label}: {message}") from None


def _find(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.is_file():
        return read_yaml(path)
    kinds = ("", "sweeps", "benchmarks")
    for kind in kinds:
        if str(source) in names(kind):
            return read_yaml(config_root() / kind / f"{source}.yaml")
    known = [name for kind in kinds for name in names(kind)]
    raise MmevalError(
        f"no such file, and no packaged configuration{did_you_mean(str(source), known)}"
    )


def _benchmark_run(data: dict[str, Any], reads: object) -> dict[str, Any]:
    """A run of one benchmark. ``--set protocol=X`` says how to ask, not how its file is read."""
    asks = data.pop("protocol", None)
    benchmark = {key: value for key, value in data.items() if key in SPEC_KEYS}
    run = {key: value for key, value in data.items() if key not in SPEC_KEYS}
    if reads is not None:
        benchmark["protocol"] = reads
    if asks != reads:
        run["protocol"] = asks
    return {**run, "name": data.get("name"), "benchmarks": [benchmark]}


def _one_or_more(value: object) -> list[object]:
    if value is None:
        raise MmevalError(f"benchmarks: name at least one, such as {names('benchmarks')}")
    return list(value) if isinstance(value, list | tuple) else [value]


def _override(text: str) -> tuple[list[str], Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise MmevalError(f"--set {text}: write --set key=value")
    try:
        return key.split("."), yaml.safe_load(value)
    except yaml.YAMLError:
        raise MmevalError(f"--set {text}: the value is not YAML; quote it") from None


def with_overrides(spec: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns a specification with ``key=value`` texts laid over it; dots lead inside.

    Raises:
        MmevalError: A text is no ``key=value``, or leads nowhere.
    """
    data = copy.deepcopy(dict(spec))
    for text in overrides:
        path, value = _override(text)
        _assign(data, path, value)
    return data


def _assign(data: object, path: list[str], value: object) -> None:
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            key: Any = int(part)
        elif isinstance(data, dict) and (last or part in data):
            key = part
        else:
            raise MmevalError(
                f"--set {'.'.join(path)}: there is no {'.'.join(path[: depth + 1])!r}"
            )
        if last:
            data[key] = value
        else:
            data = data[key]


def conditions(listed: object) -> tuple[str, ...]:
    """Returns conditions one by one and checked.

    Args:
        listed: ``clean``, degradation specs, controls and variants as `mmeval.schema.Condition`
            names them, also with several values at the end (``general/jpeg:1,3,5``).

    Raises:
        MmevalError: A part does not exist or does not go with the others, or a condition is listed
            twice.
    """
    found: list[str] = []
    for item in _one_or_more(listed):
        text = str(item).replace(" ", "")
        several = _SEVERAL.fullmatch(text)
        expanded = [text]
        if several:
            head, values, images = several.groups()
            expanded = [f"{head}:{value}{images}" for value in values.split(",")]
        for spec in expanded:
            try:
                name = _condition(spec)
            except ValueError as error:
                if not is_plain(error):
                    raise
                raise MmevalError(f"conditions: {error}") from None
            if name in found:
                raise MmevalError(f"conditions: {name} is listed twice")
            found.append(name)
    if not found:
        raise MmevalError("conditions: list at least one, such as clean")
    return tuple(found)


def _condition(text: str) -> str:
    """Returns one condition as it is written in files."""
    if text == "clean":
        return text
    import degradations

    condition = Condition(text)
    parts = []
    for spec, images in condition.degradations:
        (step,) = degradations.parse(spec)
        parts.append(str(step) if images == "all" else f"{step}[{images}]")
    for prefix, name in (("control", condition.control), ("variant", condition.variant)):
        if name is not None:
            parts.append(f"{prefix}/{name}")
    control = condition.control
    if len(parts) != len(text.split("+")):
        raise MmevalError(f"{text}: at most one control and one variant, without [images]")
    if control is not None and control not in CONTROLS:
        raise MmevalError(f"control/{control}: unknown{did_you_mean(control, CONTROLS)}")
    if control in ("no_image", "blank", "mean") and condition.degradations:
        raise MmevalError(f"{text}: control/{control} shows nothing that could be degraded")
    if condition.variant is not None:
        from mmeval import probing

        probing.check_variant(condition.variant)
    return "+".join(parts)


def _checked(data: Mapping[str, Any], stem: str) -> RunConfig:
    for key in data:
        if key not in RUN_KEYS:
            raise MmevalError(f"unknown key {key!r}{did_you_mean(key, RUN_KEYS)}")
    name = str(data.get("name") or stem)
    listed = [str(spec.get("name") or "benchmark") for spec in data["benchmarks"]]
    for benchmark in listed:
        if not _NAME.fullmatch(benchmark):
            raise MmevalError(f"name: {benchmark!r}: letters, digits, '-', '_' and '.' only")
        if listed.count(benchmark) > 1:
            raise MmevalError(f"benchmarks: two are called {benchmark!r}; give one another name")
    confidence = data.get("confidence", ("option",))
    confidence = (confidence,) if isinstance(confidence, str) else tuple(confidence or ())
    for item in confidence:
        if item not in CONFIDENCES:
            raise MmevalError(f"confidence: unknown {item!r}{did_you_mean(str(item), CONFIDENCES)}")
    window = data.get("assume_window")
    if window is not None:
        if not isinstance(window, list | tuple) or len(window) != 2:
            raise MmevalError("assume_window: expected [centre, width] in HU")
        window = (float(window[0]), float(window[1]))
    protocol = data.get("protocol")
    for item in (protocol, *(spec.get("protocol") for spec in data["benchmarks"])):
        if item is not None:
            protocols.get(str(item))
    from mmeval.running import cluster

    executor = data.get("executor", "local")
    cluster.executor(executor)
    labels = data.get("image_labels")
    if labels is not None and not (isinstance(labels, str) and "{n}" in labels):
        raise MmevalError("image_labels: expected a text with {n}, such as 'Image {n}:'")
    return RunConfig(
        name=name,
        model=data["model"],
        benchmarks=tuple(_absolute(spec) for spec in data["benchmarks"]),
        conditions=conditions(data.get("conditions", ["clean"])),
        protocol=None if protocol is None else str(protocol),
        confidence=confidence,
        trials=_number(data, "trials", 10, least=2),
        vote_temperature=_number(data, "vote_temperature", 1.0),
        seed=_number(data, "seed", 0),
        max_new_tokens=_number(data, "max_new_tokens", None, least=1),
        image_labels=labels,
        temperature=_number(data, "temperature", 0.0),
        render_size=_number(data, "render_size", None, least=1),
        assume_window=window,
        ask_geometric=bool(data.get("ask_geometric", False)),
        limit=_number(data, "limit", None, least=1),
        fail_on_error=_number(data, "fail_on_error", 0.0),
        executor=executor,
        out=Path(data["out"]) if data.get("out") else Path("runs") / name,
    )


def _absolute(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run directory must find its images wherever it is opened from."""
    root = spec.get("root")
    return {**spec, "root": str(Path(root).absolute())} if root else spec


def _number(data: Mapping[str, Any], key: str, default: Any, least: float = 0) -> Any:  # noqa: ANN401
    value = data.get(key, default)
    if value is None and default is None:
        return None
    whole = not isinstance(default, float)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise MmevalError(f"{key}: expected a {'whole ' if whole else ''}number, got {value!r}")
    if value < least:
        raise MmevalError(f"{key}: expected at least {least}, got {value}")
    return value


def walk_benchmarks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields name and specification of every packaged benchmark."""
    for name in names("benchmarks"):
        yield name, read_yaml(config_root() / "benchmarks" / f"{name}.yaml")
