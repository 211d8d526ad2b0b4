"""Clinical photographs, and pictures nothing else is known about."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="photo",
    description="clinical photograph, or any picture",
)
