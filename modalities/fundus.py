"""Colour photographs of the retina."""

from __future__ import annotations

from modalities import crop
from modalities.image import ImageError, MedicalImage, RawImage
from modalities.registry import Modality


def graham(image: MedicalImage, raw: RawImage) -> tuple[MedicalImage, str]:
    """Even out the illumination: four times the difference to the local mean, around mid-grey.

    The method of B. Graham, Kaggle Diabetic Retinopathy Detection (2015): the local mean is a
    Gaussian of 1/30 of the field's radius. It is taken over the field alone, so that the edge
    does not glow; the surround stays black.

    Raises:
        ImageError: There is no bright field.
    """
    import cv2
    import numpy as np
    import torch

    pixels = image.to_display().pixels.cpu().numpy()
    field = crop.bright(pixels.max(axis=0)).astype(np.float32)
    if field.mean() < crop.LEAST:
        raise ImageError("no bright field was found; leave the choice out")
    radius = max(np.ptp(axis) + 1 for axis in np.nonzero(field)) / 2
    sigma = float(radius / 30)
    weight = np.maximum(cv2.GaussianBlur(field, (0, 0), sigma), 1e-6)
    out = np.empty_like(pixels)
    for band, channel in enumerate(pixels):
        mean = cv2.GaussianBlur(np.ascontiguousarray(channel) * field, (0, 0), sigma) / weight
        out[band] = np.clip(4 * (channel - mean) + 0.5, 0, 1) * field
    return image.with_pixels(torch.from_numpy(out)), f"sigma {sigma:.1f} pixels"


MODALITY = Modality(
    name="fundus",
    description="colour fundus photograph",
    steps={"crop": {"fov": crop.field_of_view}, "illumination": {"graham": graham}},
)
