"""B-mode ultrasound, log-compressed by the scanner."""

from __future__ import annotations

from modalities import crop
from modalities.registry import Modality

MODALITY = Modality(
    name="ultrasound",
    description="B-mode ultrasound, log-compressed as stored",
    steps={"crop": {"region": crop.region}},
)
