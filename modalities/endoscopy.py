"""Endoscopy video frames."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="endoscopy",
    description="endoscopy frame, RGB",
)
