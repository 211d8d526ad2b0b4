"""Answers read from text, compared with gold answers, and written down with their denominators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmeval.scoring.extract import Extraction, extract
from mmeval.scoring.normalize import box_iou, normalize, token_f1

if TYPE_CHECKING:
    from mmeval.scoring.predictions import score_predictions
    from mmeval.scoring.run import Summary, judge_run, read_scores, score_response, score_run

__all__ = [
    "Extraction",
    "Summary",
    "box_iou",
    "extract",
    "judge_run",
    "normalize",
    "read_scores",
    "score_predictions",
    "score_response",
    "score_run",
    "token_f1",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # Protocols are built on the extractor above, and scoring on the protocols.
    if name == "score_predictions":
        from mmeval.scoring.predictions import score_predictions

        return score_predictions
    if name in __all__:
        from mmeval.scoring import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
