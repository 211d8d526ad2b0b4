"""Degradations of endoscopic pictures, on display pixels, in linear light.

The black surround of the picture stays black: it is a stop behind the optics, see
`degradations.operators.optics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key
from degradations.resolvers import in_pixels

if TYPE_CHECKING:
    from torch import Tensor

_ENDOSCOPY = ("endoscopy",)


@register("endoscopy/specular", modalities=_ENDOSCOPY, eight_bit=True)
def specular(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Mirror images of the lamp on wet mucosa: white, saturated patches."""
    from degradations.operators import optics

    return optics.speculars(
        image,
        numbers["fraction"],
        numbers["light"],
        numbers["correlation"],
        numbers["softness"],
        key,
    )


@register("endoscopy/smoke", modalities=_ENDOSCOPY, eight_bit=True)
def smoke(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Smoke of cautery: an uneven gray veil that hides the more the denser it is."""
    from degradations.operators import optics

    return optics.smoke(
        image,
        numbers["optical_depth"],
        (numbers["red"], numbers["green"], numbers["blue"]),
        numbers["correlation"],
        numbers["log_sd"],
        key,
    )


@register("endoscopy/blood", modalities=_ENDOSCOPY, channels=3, eight_bit=True)
def blood(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Pools of blood on the mucosa, which absorb green and blue light far more than red."""
    from degradations.operators import optics

    return optics.blood(
        image, numbers["fraction"], numbers["slope_mm"], numbers["correlation"], key
    )


@register(
    "endoscopy/bubbles",
    modalities=_ENDOSCOPY,
    eight_bit=True,
    resolve=in_pixels("smallest", "largest"),
)
def bubbles(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Air bubbles in liquid: each a small lens with a dark rim and a bright ring."""
    from degradations.operators import optics

    radius = (numbers["smallest_px"], numbers["largest_px"])
    return optics.bubbles(image, numbers["count"], radius, numbers["shine"], key)


@register("endoscopy/lens_fog", modalities=_ENDOSCOPY, eight_bit=True, resolve=in_pixels("sigma"))
def lens_fog(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Condensation on the window: part of the light is scattered widely, none is lost."""
    from degradations.operators import optics

    return optics.fog(
        image,
        numbers["optical_depth"],
        numbers["sigma_px"],
        numbers["correlation"],
        numbers["log_sd"],
        key,
    )


@register(
    "endoscopy/motion",
    modalities=_ENDOSCOPY,
    eight_bit=True,
    resolve=in_pixels("length", angle_deg=180.0),
)
def motion(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The tip of the scope moving during exposure; the rim of the field stays sharp."""
    from degradations.operators import optics

    return optics.motion(image, numbers["length_px"], numbers["angle_deg"])


@register(
    "endoscopy/over_exposure", modalities=_ENDOSCOPY, eight_bit=True, resolve=in_pixels("sigma")
)
def over_exposure(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Too much light: near tissue turns white, and part of the excess spills around it."""
    from degradations.operators import optics

    return optics.overexpose(image, numbers["stops"], numbers["bloom"], numbers["sigma_px"])


@register("endoscopy/under_exposure", modalities=_ENDOSCOPY, eight_bit=True)
def under_exposure(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Too little light: all of it divided, without added noise."""
    from degradations.operators import tone

    return tone.expose(image, -numbers["stops"])


@register("endoscopy/vignette", modalities=_ENDOSCOPY, eight_bit=True)
def vignette(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Light falling off away from the axis of a wide-angle lens."""
    from degradations.operators import overlay

    return overlay.vignette(image, numbers["corner_loss"])


def _line_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = {"lines": parameters["lines"]}
    shift = parameters["shift"] * max(size)
    if key is None:
        return numbers | {"shift_px": shift}
    return numbers | {"shift_px": shift if key.uniform("side") < 0.5 else -shift}


@register("endoscopy/interlacing", modalities=_ENDOSCOPY, eight_bit=True, resolve=_line_numbers)
def interlacing(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The two fields of a video frame taken while the scope moves: combs at every edge."""
    from degradations.operators import optics

    return optics.interlace(image, numbers["shift_px"], int(numbers["lines"]))
