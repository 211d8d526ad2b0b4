"""Histology: slides and tiles of slides."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="pathology",
    description="histology slide or tile, RGB",
)
