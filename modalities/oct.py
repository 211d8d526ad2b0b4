"""Optical coherence tomography B-scans."""

from __future__ import annotations

from modalities.registry import Modality

MODALITY = Modality(
    name="oct",
    description="optical coherence tomography, log-compressed as stored",
    default_window="percentile",
)
