"""Computed tomography, in Hounsfield units."""

from __future__ import annotations

from modalities.image import RawImage, Window
from modalities.registry import Modality

# Centre and width in HU, as printed on reading-room consoles and in radiology textbooks.
_PRESETS = {
    "brain": (40, 80),
    "subdural": (75, 215),
    "stroke": (40, 40),
    "lung": (-600, 1500),
    "mediastinum": (40, 400),
    "bone": (400, 1800),
    "abdomen": (50, 400),
    "liver": (30, 150),
}


def _prepare(raw: RawImage) -> RawImage:
    if not raw.physical or raw.display_range is not None:
        return raw
    if raw.provenance.get("format") == "nifti":
        # NIfTI carries no unit; every converter in use stores CT in HU.
        raw.hounsfield = True
        if float(raw.values.min()) > -200:
            raw.warnings.append("no air (below -200) in it: are these really Hounsfield units?")
    elif raw.kind not in (None, "ct"):
        raw.hounsfield = False
    if not raw.hounsfield:
        raw.warnings.append("the values are not Hounsfield units; the domain is linear, not hu")
    return raw


MODALITY = Modality(
    name="ct",
    description="computed tomography, Hounsfield units",
    domain="hu",
    windows={name: Window(c, w, name=name) for name, (c, w) in _PRESETS.items()},
    default_window="mediastinum",
    prepare=_prepare,
)
