"""Dermoscopy of skin lesions."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="dermoscopy",
    description="dermoscopy of skin, RGB",
)
