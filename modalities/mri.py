"""Magnetic resonance imaging, in arbitrary signal units."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="mri",
    description="magnetic resonance, signal magnitude",
    domain="linear",
    default_window="percentile",
)
