"""What a run shows, in a few sentences made from its numbers."""

from __future__ import annotations

from mmeval.metrics.aggregate import Row
from mmeval.report.results import Results

__all__ = ["findings", "percent", "signed", "with_interval"]

_TOLERATED = 0.02


def percent(value: float) -> str:
    """A share in per cent, without decimals."""
    return f"{100 * value:.0f} %"


def signed(value: float, decimals: int) -> str:
    """A number with its sign; what rounds to zero has none."""
    text = f"{abs(value):.{decimals}f}"
    if not text.strip("0."):
        return text
    return ("+" if value > 0 else "−") + text


def with_interval(row: Row) -> str:
    """A share in per cent with its interval."""
    text = percent(row["value"] or 0.0)
    if row["ci_low"] is None or row["ci_high"] is None:
        return text
    return f"{text} [{100 * row['ci_low']:.0f}, {100 * row['ci_high']:.0f}]"


def findings(results: Results) -> list[str]:
    """Sentences on what breaks the model, whether it knows, and what it tolerates.

    A drop is called one only if its interval excludes zero.
    """
    found = [
        _breaks(results),
        _knows(results),
        _tolerates(results),
        _chance(results),
        _pairs(results),
        _unanswered(results),
    ]
    return [sentence for sentence in found if sentence]


def _breaks(results: Results) -> str | None:
    worst = results.worst
    clean = results.row("accuracy", "clean")
    if worst is None or clean is None:
        return None
    drop = results.row("accuracy_drop", worst)
    before, after = results.row("accuracy_clean", worst), results.row("accuracy", worst)
    if drop is None or before is None or after is None:
        return None
    if drop["ci_low"] is None or drop["ci_low"] <= 0:
        return "No degradation lowers accuracy beyond what chance in the sample explains."
    return (
        f"{worst} breaks it most: accuracy falls from {with_interval(before)} to "
        f"{with_interval(after)} on the same {drop['n']} answers, a drop of "
        f"{100 * (drop['value'] or 0):.0f} points "
        f"[{100 * drop['ci_low']:.0f}, {100 * (drop['ci_high'] or 0):.0f}]."
    )


def _knows(results: Results) -> str | None:
    worst = results.worst
    if worst is None:
        return None
    before, after = (
        results.row("mean_confidence_clean", worst),
        results.row("mean_confidence", worst),
    )
    shift_before = results.value("calibration_shift_clean", worst)
    shift_after = results.row("calibration_shift", worst)
    drop = results.row("accuracy_drop", worst)
    change = results.row("calibration_shift_change", worst)
    if not (before and after and shift_after and drop and change) or shift_before is None:
        return None
    if drop["ci_low"] is None or drop["ci_low"] <= 0:
        return None
    # The share of the lost accuracy that the model's own confidence gives up.
    noticed = ((before["value"] or 0) - (after["value"] or 0)) / (drop["value"] or 1)
    if noticed < 1 / 3:
        verdict = "It hardly notices"
    elif noticed < 2 / 3:
        verdict = "It notices only in part"
    else:
        verdict = "It notices"
    return (
        f"{verdict}: there its mean confidence goes from {percent(before['value'] or 0)} to "
        f"{percent(after['value'] or 0)}, and confidence minus accuracy from "
        f"{signed(100 * shift_before, 0)} to {signed(100 * (shift_after['value'] or 0), 0)} points"
        f" (change {_points(change)})."
    )


def _points(row: Row) -> str:
    text = signed(100 * (row["value"] or 0), 0)
    if row["ci_low"] is None or row["ci_high"] is None:
        return text
    return f"{text} [{signed(100 * row['ci_low'], 0)}, {signed(100 * row['ci_high'], 0)}]"


def _tolerates(results: Results) -> str | None:
    kept = []
    for name, rows in results.degradations.items():
        drop = results.row("accuracy_drop", rows[-1]["condition"])
        if drop and drop["ci_high"] is not None and drop["ci_high"] < _TOLERATED:
            kept.append(f"{name} up to severity {rows[-1]['severity']:g}")
    if not kept:
        return None
    return f"It tolerates {', '.join(kept)}: less than {100 * _TOLERATED:.0f} points lost."


def _chance(results: Results) -> str | None:
    at_chance = []
    for group in results.groups():
        accuracy = results.row("accuracy", "clean", group)
        chance = results.value("chance", "clean", group)
        if accuracy and chance is not None and (accuracy["ci_low"] or 0.0) <= chance:
            at_chance.append(f"{group.partition('=')[2]} ({with_interval(accuracy)})")
    if not at_chance:
        return None
    return f"Already on clean images not clearly above chance: {', '.join(at_chance)}."


def _pairs(results: Results) -> str | None:
    both = results.row("paired_accuracy_negation", "clean")
    if both is None:
        return None
    sentence = (
        f"Of {both['n']} questions asked together with their negation, {with_interval(both)} are "
        "answered right both ways on clean images"
    )
    there = results.value("paired_accuracy_negation", results.worst or "")
    return sentence + (f", {percent(there)} under {results.worst}." if there is not None else ".")


def _unanswered(results: Results) -> str | None:
    total = len(results.scores)
    parts = []
    for status, meaning in (
        ("unparsed", "gave no readable answer (counted as wrong)"),
        ("refused", "were refused (counted as wrong)"),
        ("error", "failed and are in no figure"),
    ):
        n = sum(score.status == status for score in results.scores)
        if n:
            parts.append(f"{n} {meaning}")
    return f"Of {total} questions put, {'; '.join(parts)}." if parts else None
