"""The report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmeval import store
from mmeval.errors import MmevalError
from mmeval.metrics import expected_calibration_error, reliability_curve
from mmeval.metrics.aggregate import ECE_BINS, METRICS, Row
from mmeval.report.examples import pick_flips, read_examples, render_examples
from mmeval.report.figures import Point, interval_mark, reliability_chart, severity_chart
from mmeval.report.findings import findings, percent, signed
from mmeval.report.results import Results, RunFiles, read_run
from mmeval.report.terminal import unanswered
from mmeval.schema import LETTERS, Sample, Score

__all__ = ["write"]


def write(run_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of one or more scored runs as a single HTML file.

    The example pictures are rendered anew where the images are still at hand; otherwise those
    rendered before are shown, or the report says that there are none.

    Args:
        run_dirs: Scored run directories.
        out: The file; by default `report.html` in the first run.

    Returns:
        The file written.

    Raises:
        MmevalError: If a directory is no run or has not been scored.
    """
    import jinja2

    if not run_dirs:
        raise MmevalError("no run to report on; name at least one run directory")
    runs = [read_run(Path(run_dir)) for run_dir in run_dirs]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmeval.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = lambda value: "–" if value is None else f"{value:.3f}"
    environment.filters["signed"] = lambda value: "–" if value is None else signed(value, 3)
    page = environment.get_template("report.html.j2").render(
        runs=[_run_context(run) for run in runs], metrics=METRICS
    )
    target = Path(out) if out is not None else Path(run_dirs[0]) / "report.html"
    store.write_atomic(target, page)
    return target


def _run_context(run: RunFiles) -> dict[str, Any]:
    from degradations import DegradationError
    from modalities import ImageError

    problem = None
    try:
        render_examples(run.path)
    except (MmevalError, ImageError, DegradationError) as error:
        # The images of a run may be on another machine; the rest of the report does not need them.
        problem = str(error)
    pictures = read_examples(run.path)
    return {
        "files": run,
        "revision": str((run.environment.get("model") or {}).get("revision") or "")[:12],
        "environment": json.dumps(run.environment, indent=2, ensure_ascii=False),
        "config": _as_yaml(run.config),
        "benchmarks": [_benchmark_context(run, name, pictures, problem) for name in run.benchmarks],
    }


def _as_yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else ""


def _benchmark_context(
    run: RunFiles,
    name: str,
    pictures: Mapping[tuple[str, str, str], list[Path]],
    problem: str | None,
) -> dict[str, Any]:
    results = Results(run.rows, run.scores, name)
    examples = _examples(run, name, pictures)
    errors = Counter(
        response.error or "no reason given"
        for response in run.responses
        if response.benchmark == name and response.status == "error"
    )
    return {
        "name": name,
        "results": results,
        "simulated": run.simulated(name),
        "n_questions": len({score.sample for score in results.scores}),
        "n_clusters": len({score.cluster or score.sample for score in results.scores}),
        "findings": findings(results),
        "tiles": _tiles(results),
        "table": _condition_table(results),
        "charts": _severity_charts(results),
        "reliability": _reliability(results),
        "groups": _group_table(results),
        "pairs": _pair_table(results),
        "rules": results.rules(),
        "errors": errors.most_common(8),
        "examples": examples,
        "no_pictures": problem if examples and not any(e.clean for e in examples) else None,
    }


# --- Tiles and tables -----------------------------------------------------------------------------


def _tiles(results: Results) -> list[dict[str, str]]:
    worst = results.worst
    tiles = [_tile("Accuracy, clean", results.row("accuracy", "clean"), "")]
    chance = results.value("chance", "clean")
    if chance is not None:
        tiles[0]["note"] = f"chance {percent(chance)}"
    if worst:
        tiles.append(_tile("Accuracy, worst", results.row("accuracy", worst), worst))
    shift = _tile("Confidence − accuracy, clean", results.row("calibration_shift", "clean"), "")
    if results.source:
        shift["note"] = f"confidence: {results.source}"
        tiles.append(shift)
        if worst:
            tiles.append(
                _tile(
                    "Confidence − accuracy, worst", results.row("calibration_shift", worst), worst
                )
            )
    negation = results.row("paired_accuracy_negation", "clean")
    if negation:
        tiles.append(_tile("Negation pairs both right", negation, f"{negation['n']} pairs, clean"))
    return tiles


def _tile(label: str, row: Row | None, note: str) -> dict[str, str]:
    if row is None or row["value"] is None:
        return {"label": label, "value": "–", "interval": "", "note": note}
    shift = row["metric"].startswith("calibration_shift")
    value = f"{signed(100 * row['value'], 0)} pts" if shift else percent(row["value"])
    interval = ""
    if row["ci_low"] is not None and row["ci_high"] is not None:
        ends = (100 * row["ci_low"], 100 * row["ci_high"])
        interval = " to ".join(signed(end, 0) if shift else f"{end:.0f}" for end in ends)
    return {"label": label, "value": value, "interval": interval, "note": note}


@dataclass(frozen=True)
class Cell:
    """A number with its interval, and both drawn."""

    text: str
    interval: str
    mark: Markup

    @classmethod
    def of(
        cls,
        row: Row | None,
        span: tuple[float, float],
        name: str,
        reference: float | None = None,
    ) -> Cell:
        """The cell of a row; a dash where there is none."""
        if row is None or row["value"] is None:
            return cls("–", "", Markup())
        low, high = row["ci_low"], row["ci_high"]

        def shown(value: float, decimals: int) -> str:
            return signed(value, decimals) if span[0] < 0 else f"{value:.{decimals}f}"

        interval = "" if low is None or high is None else f"[{shown(low, 2)}, {shown(high, 2)}]"
        mark = interval_mark(row["value"], low, high, span, name, reference)
        return cls(shown(row["value"], 3), interval, mark)


def _shift_span(results: Results) -> tuple[float, float]:
    """One symmetric scale for all calibration shifts of a benchmark."""
    ends = [
        abs(end)
        for row in results.rows
        if row["metric"] == "calibration_shift" and row["by"] is None
        for end in (row["value"], row["ci_low"], row["ci_high"])
        if end is not None
    ]
    reach = max([0.1, *ends])
    return (-reach, reach)


def _condition_table(results: Results) -> list[dict[str, Any]]:
    span = _shift_span(results)
    lines = []
    for row in results.conditions:
        condition = row["condition"]
        lines.append(
            {
                "name": row["degradation"] or condition,
                "condition": condition,
                "severity": f"{row['severity']:g}",
                "row": row,
                "first": row["severity"]
                == min(
                    other["severity"]
                    for other in results.conditions
                    if other["degradation"] == row["degradation"]
                ),
                "worst": condition == results.worst,
                "accuracy": Cell.of(row, (0, 1), "accuracy", results.value("chance", condition)),
                "drop": Cell.of(results.row("accuracy_drop", condition), (-1, 1), "accuracy"),
                "confidence": results.value("mean_confidence", condition),
                "shift": Cell.of(
                    results.row("calibration_shift", condition), span, "confidence", 0.0
                ),
                "ece": results.value("ece", condition),
                "unanswered": unanswered(row),
            }
        )
    return lines


def _group_table(results: Results) -> list[dict[str, Any]]:
    worst = results.worst
    lines = []
    for group in results.groups():
        chance = results.value("chance", "clean", group)
        accuracy = results.row("accuracy", "clean", group)
        degraded = results.row("accuracy", worst, group) if worst else None
        lines.append(
            {
                "name": group.partition("=")[2],
                "n": accuracy["n"] if accuracy else 0,
                "chance": chance,
                "accuracy": Cell.of(accuracy, (0, 1), "accuracy", chance),
                "worst": Cell.of(degraded, (0, 1), "accuracy", chance),
                "shift": results.value("calibration_shift", "clean", group),
            }
        )
    return lines


def _pair_table(results: Results) -> list[dict[str, Any]]:
    last = [rows[-1]["condition"] for rows in results.degradations.values()]
    lines = []
    for condition in ["clean", *last]:
        negation = results.row("paired_accuracy_negation", condition)
        hallucination = results.row("paired_accuracy_hallucination", condition)
        if negation or hallucination:
            lines.append(
                {
                    "condition": condition,
                    "negation": Cell.of(negation, (0, 1), "accuracy"),
                    "n_negation": negation["n"] if negation else 0,
                    "hallucination": Cell.of(hallucination, (0, 1), "accuracy"),
                    "n_hallucination": hallucination["n"] if hallucination else 0,
                }
            )
    return lines


# --- Charts ---------------------------------------------------------------------------------------


def _point(severity: float, row: Row | None) -> list[Point]:
    if row is None or row["value"] is None:
        return []
    return [Point(severity, row["value"], row["ci_low"], row["ci_high"], row["n"])]


def _severity_charts(results: Results) -> list[dict[str, Any]]:
    charts = []
    for name, rows in results.degradations.items():
        first = rows[0]["condition"]
        accuracy = _point(0, results.row("accuracy_clean", first))
        confidence = _point(0, results.row("mean_confidence_clean", first))
        for row in rows:
            accuracy += _point(row["severity"], results.row("accuracy", row["condition"]))
            confidence += _point(row["severity"], results.row("mean_confidence", row["condition"]))
        series = {"confidence": confidence, "accuracy": accuracy}
        series = {label: points for label, points in series.items() if points}
        if series:
            worst = rows[-1]["condition"]
            label = f"accuracy and mean confidence against severity of {name}"
            charts.append(
                {
                    "name": name,
                    "n": rows[-1]["n"],
                    "drop": results.value("accuracy_drop", worst) or 0.0,
                    "svg": severity_chart(series, results.value("chance", worst), label),
                }
            )
    return sorted(charts, key=lambda chart: -chart["drop"])


def _reliability(results: Results) -> list[dict[str, Any]]:
    """Clean and worst condition on the same questions."""
    if results.source is None:
        return []
    source, worst = results.source, results.worst
    by_condition: dict[str, dict[tuple[str, int], Score]] = {"clean": {}, worst or "clean": {}}
    for score in results.scores:
        if (
            score.condition in by_condition
            and score.status != "error"
            and source in score.confidence
        ):
            by_condition[score.condition][score.sample, score.trial] = score
    both = set.intersection(*(set(scores) for scores in by_condition.values()))
    panels = []
    for condition, scores in by_condition.items():
        matched = [scores[key] for key in sorted(both)]
        if not matched:
            continue
        confidence = [score.confidence[source] for score in matched]
        correct = [score.correct for score in matched]
        curve = reliability_curve(confidence, correct, ECE_BINS)
        panels.append(
            {
                "condition": condition,
                "n": len(matched),
                "ece": expected_calibration_error(confidence, correct, ECE_BINS),
                "svg": reliability_chart(
                    curve.confidence.tolist(),
                    curve.accuracy.tolist(),
                    curve.count.tolist(),
                    f"reliability diagram, {condition}",
                ),
            }
        )
    return panels


# --- Examples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """One card of the gallery: data URIs of the pictures and what was answered."""

    sample: str
    condition: str
    question: str
    options: list[str]
    gold: str
    before: str
    before_confidence: float | None
    after: str
    after_confidence: float | None
    clean: list[str]
    degraded: list[str]


def _examples(
    run: RunFiles, benchmark: str, pictures: Mapping[tuple[str, str, str], list[Path]]
) -> list[Example]:
    examples = []
    for flip in pick_flips(run.scores):
        before, after = flip.clean, flip.degraded
        if before.benchmark != benchmark:
            continue
        sample = run.samples[benchmark, before.sample]
        examples.append(
            Example(
                sample=sample.id,
                condition=after.condition,
                question=sample.question,
                options=[f"{LETTERS[i]}. {text}" for i, text in enumerate(sample.options)],
                gold=_shown(sample.answer, sample),
                before=_shown(before.parsed, sample),
                before_confidence=max(before.confidence.values(), default=None),
                after=_shown(after.parsed, sample),
                after_confidence=max(after.confidence.values(), default=None),
                clean=_data_uris(pictures.get((benchmark, sample.id, "clean"), [])),
                degraded=_data_uris(pictures.get((benchmark, sample.id, after.condition), [])),
            )
        )
    return examples


def _shown(answer: str | None, sample: Sample) -> str:
    if answer is None:
        return "–"
    if sample.kind == "choice":
        return f"{answer}. {sample.options[LETTERS.index(answer)]}"
    return answer


def _data_uris(paths: Sequence[Path]) -> list[str]:
    return [
        "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
        for path in paths
    ]
