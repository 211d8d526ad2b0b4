"""Degradations for pictures of any modality, on display pixels in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor


@register("general/gaussian_noise")
def gaussian_noise(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Independent normal noise on every pixel, as from electronics.

    Colour images get independent noise in each channel. The noise belongs to the pixel grid: a
    viewer that shrinks the image averages it away.
    """
    from degradations.operators import noise

    return noise.add_gaussian(image, numbers["sigma"], key)


def _blur_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    if "sigma_px" in parameters:
        return parameters
    return {"sigma_px": parameters["sigma"] * max(size)}


@register("general/gaussian_blur", resolve=_blur_numbers)
def gaussian_blur(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Gaussian blur, as from a wide point spread function; a fraction of the field of view."""
    from degradations.operators import blur

    return blur.gaussian(image, numbers["sigma_px"])


def _motion_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = {"length_px": parameters["length"] * max(size)}
    if key is not None:
        numbers["angle_deg"] = 180.0 * key.uniform("angle")
    return numbers


@register("general/motion_blur", resolve=_motion_numbers)
def motion_blur(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Uniform motion along a line during exposure; its direction is drawn per image."""
    from degradations.operators import blur

    return blur.motion(image, numbers["length_px"], numbers["angle_deg"])


def _jpeg_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"quality": round(parameters["quality"])}


@register("general/jpeg", resolve=_jpeg_numbers)
def jpeg(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Lossy storage as baseline JPEG: gray as one component, colour with 4:2:0 chroma."""
    from degradations.operators import jpeg

    return jpeg.jpeg(image, int(numbers["quality"]))


@register("general/contrast")
def contrast(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Contrast reduced about the mean of each channel."""
    from degradations.operators import tone

    return tone.contrast(image, numbers["factor"])
