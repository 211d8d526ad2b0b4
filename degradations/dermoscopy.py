"""Degradations of dermoscopic pictures, on display pixels, in linear light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, register
from degradations.keys import Key
from degradations.resolvers import in_pixels, white_point

if TYPE_CHECKING:
    from torch import Tensor

_DERMOSCOPY = ("dermoscopy",)


@register("dermoscopy/hair", modalities=_DERMOSCOPY, eight_bit=True)
def hair(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Dark curved hairs across the lesion."""
    from degradations.operators import optics, strokes

    kind = strokes.Hair(
        length=(numbers["shortest"], numbers["longest"]),
        width=(numbers["thinnest"], numbers["thickest"]),
        bend=numbers["bend"],
        taper=numbers["taper"],
    )
    return optics.hair(image, numbers["count"], kind, numbers["opacity"], key)


@register(
    "dermoscopy/ink", modalities=_DERMOSCOPY, eight_bit=True, resolve=in_pixels("width", upper=1.0)
)
def ink(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Lines of a surgical marker, which skin shows through, and a ruler at one edge."""
    from degradations.operators import optics

    return optics.ink(
        image,
        numbers["extent"],
        int(numbers["lines"]),
        numbers["width_px"],
        int(numbers["ticks"]),
        numbers["upper"] >= 0.5,
        key,
    )


@register(
    "dermoscopy/bubbles",
    modalities=_DERMOSCOPY,
    eight_bit=True,
    resolve=in_pixels("smallest", "largest"),
)
def bubbles(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Air bubbles in the immersion gel: each a small lens with a dark rim and a bright ring."""
    from degradations.operators import optics

    radius = (numbers["smallest_px"], numbers["largest_px"])
    return optics.bubbles(image, numbers["count"], radius, numbers["shine"], key)


@register("dermoscopy/vignette", modalities=_DERMOSCOPY, eight_bit=True)
def vignette(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Light falling off towards the corners, in linear light for colour."""
    from degradations.operators import overlay

    return overlay.vignette(image, numbers["corner_loss"])


@register(
    "dermoscopy/colour_cast",
    modalities=_DERMOSCOPY,
    channels=3,
    eight_bit=True,
    resolve=white_point,
)
def colour_cast(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The lamp of another colour than the camera takes for white, by gains in linear light."""
    from degradations.operators import tone

    stops = (numbers["red_stops"], numbers["green_stops"], numbers["blue_stops"])
    return tone.expose(image, *stops)
