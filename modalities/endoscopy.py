"""Endoscopy video frames."""

from __future__ import annotations

from modalities import crop
from modalities.registry import Modality

MODALITY = Modality(
    name="endoscopy",
    description="endoscopy frame, RGB",
    steps={"crop": {"border": crop.surround}},
)
