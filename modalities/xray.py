"""Projection radiography: CR, DX, mammography, angiography."""

from __future__ import annotations

from dataclasses import replace

from modalities import crop
from modalities.image import ImageError, MedicalImage, RawImage, Window
from modalities.registry import Modality

# Decades of exposure between black and white where only the display image is left.
DECADES = 2.0


def exposure(image: MedicalImage, raw: RawImage) -> tuple[MedicalImage, str]:
    """Pixels proportional to the exposure behind the patient, in the domain `linear`.

    A file that says its values are linear in the beam's intensity (PixelIntensityRelationship
    LIN) keeps them. From anything else the exposure is estimated: brightness is taken to fall in
    proportion to the logarithm of the exposure, as on film between base and shoulder, with black
    at exposure 1 and white at 10**-2. What the window clipped is not recovered.

    Raises:
        ImageError: The image is in colour.
    """
    import torch

    if image.pixels.shape[0] != 1:
        raise ImageError("a colour image has no exposure; convert it to grey")
    if raw.intensity == "linear" and raw.overlay is None and image.window is not None:
        return (
            replace(image, pixels=torch.from_numpy(raw.values), domain="linear"),
            "the file's own values",
        )
    linear = torch.pow(10.0, -DECADES * image.to_display().pixels)
    window = Window(-DECADES / 2, DECADES, "log10", "exposure", inverted=True)
    return (
        replace(image, pixels=linear, domain="linear", window=window),
        f"assumed 10**(-{DECADES:g} x brightness)",
    )


MODALITY = Modality(
    name="xray",
    description="projection radiograph, brightness as displayed",
    default_window="percentile",
    steps={"domain": {"linear": exposure}, "crop": {"border": crop.shutter}},
)
