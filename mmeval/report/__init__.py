"""What a person reads after a run: a table in the terminal and one HTML file."""

from __future__ import annotations

from mmeval.report.examples import render_examples
from mmeval.report.html import write
from mmeval.report.terminal import summary_table

__all__ = ["render_examples", "summary_table", "write"]
