"""The table that closes a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["summary_table", "unanswered"]

_HEADER = ("degradation", "severity", "n", "accuracy", "calibration shift", "not answered")
_NUMERIC = (False, True, True, False, False, False)


def summary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out accuracy and calibration shift by degradation and severity as plain text.

    Args:
        rows: The rows of `metrics.json`; only those over all questions of a benchmark are shown.

    Returns:
        One block per benchmark, with 95 % intervals in brackets. "-" stands where a run holds no
        confidence or no answer. Empty without rows.

    Examples:
        >>> row = dict(benchmark="b", metric="accuracy", value=0.5, ci_low=0.4, ci_high=0.6, n=90)
        >>> row |= dict(condition="clean", degradation=None, severity=0, by=None)
        >>> row |= dict(n_unparsed=2, n_refused=0, n_error=0, confidence=None)
        >>> print(summary_table([row]))
        b
        degradation  severity   n  accuracy           calibration shift  not answered
        clean               0  90  0.500 [0.40, 0.60]  -                 2 unparsed
    """
    overall = [row for row in rows if row["by"] is None]
    blocks = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in overall):
        cells = [_HEADER]
        by_condition: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in overall:
            if row["benchmark"] == benchmark:
                # The first confidence source of a condition, in the order of the file, is shown.
                by_condition.setdefault(row["condition"], {}).setdefault(row["metric"], row)
        for condition, metrics in by_condition.items():
            accuracy = metrics["accuracy"]
            cells.append(
                (
                    accuracy["degradation"] or condition,
                    f"{accuracy['severity']:g}",
                    str(accuracy["n"]),
                    _with_interval(accuracy, ""),
                    _with_interval(metrics.get("calibration_shift"), "+"),
                    unanswered(accuracy),
                )
            )
        blocks.append(f"{benchmark}\n{_align(cells)}")
    return "\n\n".join(blocks)


def _with_interval(row: Mapping[str, Any] | None, sign: str) -> str:
    if row is None or row["value"] is None:
        return "-"
    text = f"{row['value']:{sign}.3f}"
    if row["ci_low"] is not None:
        text += f" [{row['ci_low']:{sign}.2f}, {row['ci_high']:{sign}.2f}]"
    return text


def unanswered(row: Mapping[str, Any]) -> str:
    """What the responses without a readable answer were, such as "2 unparsed, 1 error"."""
    counts = ((row[f"n_{name}"], name) for name in ("unparsed", "refused", "error"))
    return ", ".join(f"{count} {name}" for count, name in counts if count)


def _align(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADER))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, _NUMERIC, strict=True)
        ).rstrip()
        for row in cells
    )
