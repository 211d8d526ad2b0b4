"""Answers read from text, compared with gold answers, and written down with their denominators."""

from __future__ import annotations

from mmeval.scoring.extract import Extraction, extract
from mmeval.scoring.normalize import box_iou, normalize, token_f1
from mmeval.scoring.run import Summary, read_scores, score_response, score_run

__all__ = [
    "Extraction",
    "Summary",
    "box_iou",
    "extract",
    "normalize",
    "read_scores",
    "score_response",
    "score_run",
    "token_f1",
]
