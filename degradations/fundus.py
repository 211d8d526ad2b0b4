"""Degradations of photographs of the fundus, on display pixels, in linear light.

The black surround of the picture stays black: it is a stop in the camera, see
`degradations.operators.optics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key
from degradations.resolvers import in_pixels, white_point

if TYPE_CHECKING:
    from torch import Tensor

_FUNDUS = ("fundus",)


@register(
    "fundus/uneven_illumination",
    modalities=_FUNDUS,
    eight_bit=True,
    resolve=in_pixels(angle_deg=360.0),
)
def uneven_illumination(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The flash off the pupil's axis: one side of the retina lit, the other dark."""
    from degradations.operators import optics

    return optics.illuminate(image, numbers["stops"], numbers["offset"], numbers["angle_deg"])


@register("fundus/halo", modalities=_FUNDUS, eight_bit=True, resolve=in_pixels(angle_deg=360.0))
def halo(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Stray light that leaks in beside the eye: a bright crescent along the rim of the field."""
    from degradations.operators import optics

    tint = (numbers["red"], numbers["green"], numbers["blue"])
    return optics.leak(image, numbers["amount"], tint, numbers["width"], numbers["angle_deg"])


@register(
    "fundus/dust_spots",
    modalities=_FUNDUS,
    eight_bit=True,
    resolve=in_pixels("smallest", "largest"),
)
def dust_spots(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Dust on the lens: round soft spots that take part of the light."""
    from degradations.operators import optics

    return optics.spots(
        image,
        numbers["count"],
        (numbers["smallest_px"], numbers["largest_px"]),
        (numbers["least_opacity"], numbers["greatest_opacity"]),
        key,
    )


@register("fundus/defocus", modalities=_FUNDUS, eight_bit=True, resolve=in_pixels("radius"))
def defocus(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The retina out of focus: every point a disk, but the rim of the field sharp."""
    from degradations.operators import optics

    return optics.defocus(image, numbers["radius_px"])


def _cataract_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    depth = parameters["optical_depth"]
    return {
        "optical_depth": depth,
        "sigma_px": parameters["sigma_over_depth"] * depth * max(size),
        "correlation": parameters["correlation"],
        "red": parameters["red"],
        "green": parameters["green"],
        "blue": parameters["blue"],
    }


@register("fundus/cataract", modalities=_FUNDUS, eight_bit=True, resolve=_cataract_numbers)
def cataract(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Seen through a clouded lens: blurred, and veiled by the flash that it scatters back."""
    from degradations.operators import optics

    return optics.cataract(
        image,
        numbers["optical_depth"],
        numbers["sigma_px"],
        (numbers["red"], numbers["green"], numbers["blue"]),
        numbers["correlation"],
        key,
    )


@register(
    "fundus/lashes",
    modalities=_FUNDUS,
    eight_bit=True,
    resolve=in_pixels("reach", "width", "sigma", lower=1.0),
)
def lashes(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Lashes and lid in the light path: soft dark streaks from the upper or lower edge."""
    from degradations.operators import optics

    return optics.lashes(
        image,
        numbers["reach_px"],
        int(numbers["count"]),
        numbers["width_px"],
        numbers["sigma_px"],
        numbers["lower"] >= 0.5,
        key,
    )


@register(
    "fundus/colour_shift",
    modalities=_FUNDUS,
    channels=3,
    eight_bit=True,
    resolve=white_point,
)
def colour_shift(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Wrong white point, in a direction drawn per image, by gains in linear light."""
    from degradations.operators import tone

    stops = (numbers["red_stops"], numbers["green_stops"], numbers["blue_stops"])
    return tone.expose(image, *stops)
