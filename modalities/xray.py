"""Projection radiography: CR, DX, mammography, angiography."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="xray",
    description="projection radiograph, brightness as displayed",
)
