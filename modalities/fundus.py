"""Colour photographs of the retina."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="fundus",
    description="colour fundus photograph",
)
