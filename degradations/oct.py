"""Degradations of optical coherence tomography, on B-scans shown in decibels of intensity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

_OCT = ("oct",)


@register("oct/speckle", modalities=_OCT)
def speckle(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Coherent speckle: the intensity times grain, up to that of fully developed speckle."""
    from degradations.operators import bscan

    return bscan.speckle(image, numbers["contrast"], numbers["grain"], key)


@register("oct/shadow", modalities=_OCT)
def shadow(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Shadows of vessels and vitreous opacities, down to the lower border."""
    from degradations.operators import bscan

    return bscan.shadow(image, numbers["loss_db"], int(numbers["count"]), key)


@register("oct/roll_off", modalities=_OCT)
def roll_off(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Sensitivity that falls with depth, as of a spectrometer with too few pixels."""
    from degradations.operators import bscan

    return bscan.roll_off(image, numbers["loss_db"])


def _shift_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"amplitude_px": parameters["amplitude"] * max(size)}


@register("oct/bscan_shift", modalities=_OCT, geometric=True, resolve=_shift_numbers)
def bscan_shift(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Eye motion during the scan: A-scans drift and jump along depth."""
    from degradations.operators import bscan

    return bscan.shift_columns(image, numbers["amplitude_px"], key)


@register("oct/blink", modalities=_OCT)
def blink(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A blink: neighbouring A-scans without any signal."""
    from degradations.operators import bscan

    return bscan.blink(image, numbers["fraction"], numbers["edge"], key)


@register("oct/mirror", modalities=_OCT)
def mirror(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The complex conjugate image: the retina once more, upside down about the zero delay."""
    from degradations.operators import bscan

    return bscan.mirror(image, numbers["residual"], key)


def _defocus_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"sigma_px": parameters["sigma"] * max(size)}


@register("oct/defocus", modalities=_OCT, resolve=_defocus_numbers)
def defocus(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A beam out of focus: lateral detail is lost, axial detail is kept."""
    from degradations.operators import bscan

    return bscan.defocus(image, numbers["sigma_px"])
