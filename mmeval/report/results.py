"""One benchmark of one run, as the report reads it: rows by name, and the worst condition."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mmeval import store
from mmeval.errors import MmevalError
from mmeval.metrics.aggregate import Row
from mmeval.schema import Response, Sample, Score

__all__ = ["Results", "RunFiles", "read_run"]

_SOURCES = ("option", "voting", "verbalized")


@dataclass(frozen=True)
class RunFiles:
    """What a report needs of a run directory."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    samples: dict[tuple[str, str], Sample]
    responses: list[Response]
    scores: list[Score]
    rows: list[Row]
    answered: datetime.datetime

    @property
    def model(self) -> str:
        """What the configuration calls the model."""
        model = self.config.get("model") or {}
        name = model.get("path") or model.get("model") or model.get("backend") or "unknown model"
        return Path(str(name)).name

    @property
    def packaged_model(self) -> bool:
        """Whether the model is the demonstration model that comes with mmeval."""
        from mmeval.phantom import checkpoint_path

        path = str((self.config.get("model") or {}).get("path") or "")
        if path == "phantom":
            return True
        try:
            return bool(path) and Path(path).resolve() == checkpoint_path().resolve()
        except FileNotFoundError:
            return False

    def simulated(self, benchmark: str) -> bool:
        """Whether the images of a benchmark are phantoms."""
        return any(
            spec.get("name") == benchmark and spec.get("reader") == "phantom"
            for spec in self.config.get("benchmarks") or ()
        )

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks, in the order of the rows."""
        return list(dict.fromkeys(row["benchmark"] for row in self.rows))


def read_run(run_dir: Path) -> RunFiles:
    """Read a scored run.

    Raises:
        MmevalError: If the directory is no run, or has not been scored.
    """
    responses = run_dir / "responses.jsonl"
    if not responses.is_file():
        raise MmevalError(f"{run_dir}: is not a run directory (no responses.jsonl)")
    if not (run_dir / "metrics.json").is_file():
        raise MmevalError(f"{run_dir}: has not been scored; run `mmeval score {run_dir}` first")
    config, environment = run_dir / "config.yaml", run_dir / "environment.json"
    return RunFiles(
        path=run_dir,
        config=yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {},
        environment=json.loads(environment.read_text(encoding="utf-8"))
        if environment.is_file()
        else {},
        samples=store.samples(run_dir),
        responses=list(store.responses(run_dir)),
        scores=[Score.from_dict(record) for record in store.read_records(run_dir, "scores.jsonl")],
        rows=store.read_json(run_dir, "metrics.json")["rows"],
        answered=datetime.datetime.fromtimestamp(responses.stat().st_mtime, datetime.UTC),
    )


class Results:
    """The rows and scores of one benchmark.

    Args:
        rows: Rows of `metrics.json`.
        scores: Scores of the same run.
        benchmark: Which benchmark.
    """

    def __init__(self, rows: Sequence[Row], scores: Sequence[Score], benchmark: str) -> None:
        self.benchmark = benchmark
        self.rows = [row for row in rows if row["benchmark"] == benchmark]
        self.scores = [score for score in scores if score.benchmark == benchmark]
        sources = {row["confidence"] for row in self.rows if row["confidence"]}
        ordered = [name for name in _SOURCES if name in sources] + sorted(
            sources - {*_SOURCES, None}
        )
        self.source: str | None = ordered[0] if ordered else None
        self._found = {
            (row["metric"], row["condition"], row["by"]): row
            for row in self.rows
            if row["confidence"] in (None, self.source)
        }

    def row(self, metric: str, condition: str, by: str | None = None) -> Row | None:
        """A row with a value, or None."""
        row = self._found.get((metric, condition, by))
        return row if row is not None and row["value"] is not None else None

    def value(self, metric: str, condition: str, by: str | None = None) -> float | None:
        """The value of a row, or None."""
        row = self.row(metric, condition, by)
        return None if row is None else row["value"]

    @cached_property
    def conditions(self) -> list[Row]:
        """The accuracy row of every condition, also where nothing was answered."""
        return [row for row in self.rows if row["metric"] == "accuracy" and row["by"] is None]

    @cached_property
    def degradations(self) -> dict[str, list[Row]]:
        """Accuracy rows by degradation, in order of severity."""
        found: dict[str, list[Row]] = {}
        for row in self.conditions:
            if row["degradation"] is not None:
                found.setdefault(row["degradation"], []).append(row)
        return {name: sorted(rows, key=lambda row: row["severity"]) for name, rows in found.items()}

    @cached_property
    def worst(self) -> str | None:
        """The condition that surely costs most accuracy on the same questions, if any does.

        The one whose interval of the drop begins highest: a large drop on few questions is no surer
        than a smaller one on many.
        """
        drops = [
            (row["ci_low"] if row["ci_low"] is not None else row["value"] or 0.0, row["condition"])
            for row in self.rows
            if row["metric"] == "accuracy_drop" and row["by"] is None and (row["value"] or 0.0) > 0
        ]
        return max(drops)[1] if drops else None

    def groups(self) -> list[str]:
        """The finest breakdown there is of the questions: by task, else by kind."""
        names = sorted({row["by"] for row in self.rows if row["by"]})
        tasks = [name for name in names if name.startswith("task=")]
        return tasks or [name for name in names if name.startswith("kind=")]

    def rules(self) -> list[tuple[str, str, int]]:
        """How answers were read: status, rule, number of responses; most frequent first."""
        counts = Counter((score.status, score.rule or "") for score in self.scores)
        return [(status, rule, n) for (status, rule), n in counts.most_common()]
