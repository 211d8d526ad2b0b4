"""Figures as inline SVG. Colours come from the page's style sheet, so they follow dark mode.

Hand-written rather than plotted: a page of twenty small charts stays below 100 kB, every mark has a
tooltip, and nothing needs a font or a script. All text is escaped by `Markup.format`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Point", "interval_mark", "reliability_chart", "severity_chart"]


@dataclass(frozen=True)
class Point:
    """One estimate at one severity; an interval is absent where there is one cluster only."""

    severity: float
    value: float
    low: float | None
    high: float | None
    n: int


def _group(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def severity_chart(
    series: Mapping[str, Sequence[Point]], chance: float | None, label: str
) -> Markup:
    """Values from 0 to 1 against severity, each with its interval as a band.

    Args:
        series: Points by CSS class ("accuracy", "confidence"), in order of severity.
        chance: Drawn as a dotted line where known.
        label: What the figure shows, for those who do not see it.
    """
    left, right, top, bottom = 30.0, 272.0, 8.0, 150.0
    severities = sorted({point.severity for points in series.values() for point in points})
    last = max(severities[-1], 1.0)

    def x(severity: float) -> float:
        return left + (right - left) * severity / last

    def y(value: float) -> float:
        return bottom - (bottom - top) * min(max(value, 0.0), 1.0)

    parts = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3:.1f}" y="{4:.1f}" text-anchor="end">{5:g}</text>'
        ).format(left, right, y(value), left - 6, y(value) + 3.5, value)
        for value in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts += [
        Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            x(severity), bottom + 15, "clean" if severity == 0 else f"{severity:g}"
        )
        for severity in severities
    ]
    if chance is not None:
        parts.append(
            Markup(
                '<line class="chance" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}">'
                "<title>chance {3:.2f}</title></line>"
            ).format(left, right, y(chance), chance)
        )
    for name, points in series.items():
        banded = [point for point in points if point.low is not None and point.high is not None]
        outline = [(x(p.severity), y(p.high or 0.0)) for p in banded]
        outline += [(x(p.severity), y(p.low or 0.0)) for p in reversed(banded)]
        parts.append(Markup('<polygon class="band {}" points="{}"/>').format(name, _path(outline)))
    for name, points in series.items():
        line = _path([(x(p.severity), y(p.value)) for p in points])
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(name, line))
        parts += [_mark(name, x(p.severity), y(p.value), p) for p in points]
    return Markup('<svg viewBox="0 0 284 172" role="img" aria-label="{}">{}</svg>').format(
        label, _group(parts)
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _mark(name: str, x: float, y: float, point: Point) -> Markup:
    """Circles and squares, so that the two lines differ in more than colour."""
    interval = "" if point.low is None else f" [{point.low:.2f}, {point.high:.2f}]"
    title = f"{name} {point.value:.3f}{interval}, n = {point.n}"
    if name == "accuracy":
        shape = Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="3.4">')
        return (shape + Markup("<title>{}</title></circle>")).format(name, x, y, title)
    shape = Markup('<rect class="mark {}" x="{:.1f}" y="{:.1f}" width="6" height="6">')
    return (shape + Markup("<title>{}</title></rect>")).format(name, x - 3, y - 3, title)


def reliability_chart(
    confidence: Sequence[float],
    accuracy: Sequence[float],
    count: Sequence[int],
    label: str,
) -> Markup:
    """Accuracy against confidence by bin; the stem to the diagonal is the miscalibration.

    Args:
        confidence: Mean confidence of each bin.
        accuracy: Share of right answers of each bin.
        count: Samples of each bin; the area of a mark is in proportion.
        label: What the figure shows, for those who do not see it.
    """
    left, right, top, bottom = 40.0, 270.0, 10.0, 240.0

    def x(value: float) -> float:
        return left + (right - left) * value

    def y(value: float) -> float:
        return bottom - (bottom - top) * value

    parts = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3:.1f}" y="{4:.1f}" text-anchor="end">{5:g}</text>'
            '<text class="tick" x="{6:.1f}" y="{7:.1f}" text-anchor="middle">{5:g}</text>'
        ).format(left, right, y(value), left - 6, y(value) + 3.5, value, x(value), bottom + 15)
        for value in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(
        Markup(
            '<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            '<text class="axis" x="{:.1f}" y="{:.1f}" text-anchor="middle">confidence</text>'
            '<text class="axis" transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">'
            "accuracy</text>"
        ).format(x(0), y(0), x(1), y(1), (left + right) / 2, bottom + 31, (top + bottom) / 2)
    )
    total = sum(count)
    bins = list(zip(confidence, accuracy, count, strict=True))
    for sure, right_share, _ in bins:
        side = "over" if sure > right_share else "under"
        parts.append(
            Markup(
                '<line class="stem {0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{3:.1f}"/>'
            ).format(side, x(sure), y(sure), y(right_share))
        )
    for sure, right_share, n in bins:
        side = "over" if sure > right_share else "under"
        radius = 2.5 + 15.0 * (n / total) ** 0.5
        parts.append(
            Markup(
                '<circle class="bin {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>'
                "confidence {:.2f}, accuracy {:.2f}, n = {}</title></circle>"
            ).format(side, x(sure), y(right_share), radius, sure, right_share, n)
        )
    return Markup('<svg viewBox="0 0 284 280" role="img" aria-label="{}">{}</svg>').format(
        label, _group(parts)
    )


def interval_mark(
    value: float,
    low: float | None,
    high: float | None,
    span: tuple[float, float],
    name: str,
    reference: float | None = None,
) -> Markup:
    """A dot with its interval on a scale, for a table cell.

    Args:
        value: The estimate.
        low: Lower bound, if there is one.
        high: Upper bound.
        span: Ends of the scale.
        name: CSS class.
        reference: A value to compare with (chance, zero), drawn as a tick.
    """
    width = 120.0

    def x(number: float) -> float:
        share = (min(max(number, span[0]), span[1]) - span[0]) / (span[1] - span[0])
        return 4 + (width - 8) * share

    parts = [Markup('<line class="rail" x1="4" x2="{:.0f}" y1="8" y2="8"/>').format(width - 4)]
    if reference is not None:
        parts.append(
            Markup('<line class="reference" x1="{0:.1f}" x2="{0:.1f}" y1="1" y2="15"/>').format(
                x(reference)
            )
        )
    if low is not None and high is not None:
        parts.append(
            Markup('<line class="whisker {0}" x1="{1:.1f}" x2="{2:.1f}" y1="8" y2="8"/>').format(
                name, x(low), x(high)
            )
        )
    parts.append(
        Markup('<circle class="mark {}" cx="{:.1f}" cy="8" r="3.6"/>').format(name, x(value))
    )
    return Markup('<svg class="mini" viewBox="0 0 120 16" aria-hidden="true">{}</svg>').format(
        _group(parts)
    )
