"""Common ways to turn the parameters of a degradation into numbers for one image."""

from __future__ import annotations

import math

from degradations.degradation import Numbers, Resolver, Spacing
from degradations.keys import Key


def in_pixels(*lengths: str, **drawn: float) -> Resolver:
    """Make a resolver for lengths that are fractions of the field of view.

    Args:
        *lengths: Parameters that become ``<name>_px``, times the longer side. Others stay.
        **drawn: Numbers to draw per image, each uniform from 0 to the value given.

    Returns:
        The resolver.
    """

    def resolve(
        parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
    ) -> Numbers:
        numbers = {
            f"{name}_px" if name in lengths else name: value * max(size)
            if name in lengths
            else value
            for name, value in parameters.items()
        }
        if key is not None:
            numbers |= {name: upto * key.uniform(name) for name, upto in drawn.items()}
        return numbers

    return resolve


def white_point(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    """Stops of each channel for a cast of ``stops`` in a direction drawn per image.

    The directions are warm, cold, green, magenta and all between: ``stops`` is the ratio of red
    to blue light of a warm cast. Gray keeps its luminance.
    """
    if key is None:
        return parameters
    angle = 2.0 * math.pi * key.uniform("direction")
    warm, green = (parameters["stops"] * side for side in (math.cos(angle), math.sin(angle)))
    # Two perpendicular directions of equal length, without change of the sum.
    stops = (
        0.5 * warm - green / math.sqrt(12.0),
        green / math.sqrt(3.0),
        -0.5 * warm - green / math.sqrt(12.0),
    )
    # Luminance of linear light (Rec. ITU-R BT.709, sRGB).
    weights = (0.2126, 0.7152, 0.0722)
    gain = math.log2(math.fsum(w * 2.0**stop for w, stop in zip(weights, stops, strict=True)))
    red, green, blue = (stop - gain for stop in stops)
    return {"red_stops": red, "green_stops": green, "blue_stops": blue}
