"""Degradations of B-mode ultrasound, on display pixels taken for a log-compressed envelope.

See `operators.envelope` for the compression that is assumed, and for beams: they run down the
columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

_ONLY = ("ultrasound",)


# --- coherence and receiver


@register("ultrasound/speckle", modalities=_ONLY)
def speckle(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Speckle of unresolved scatterers, which multiplies the envelope; Rayleigh at full."""
    from degradations.operators import envelope

    return envelope.speckle(image, numbers["amount"], numbers["grain"], key)


@register("ultrasound/thermal_noise", modalities=_ONLY)
def thermal_noise(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Receiver noise that gain compensation raises with depth, where echoes are weak."""
    from degradations.operators import envelope

    return envelope.thermal_noise(
        image, numbers["amplitude"], numbers["rise_db"], numbers["grain"], key
    )


def _element_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return parameters | {"elements": round(parameters["elements"])}


@register("ultrasound/dead_elements", modalities=_ONLY, resolve=_element_numbers)
def dead_elements(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Dead elements of the probe or lost contact: dark stripes along the beams."""
    from degradations.operators import envelope

    elements = int(numbers["elements"])
    return envelope.drop_elements(image, numbers["fraction"], elements, numbers["loss_db"], key)


# --- gain


@register("ultrasound/gain_up", modalities=_ONLY, eight_bit=True, channelwise=True)
def gain_up(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Gain too high: every echo brighter by the same decibels, strong ones saturate."""
    from degradations.operators import envelope, tone

    return tone.curve(image, envelope.amplify, numbers["gain_db"])


@register("ultrasound/gain_down", modalities=_ONLY, eight_bit=True, channelwise=True)
def gain_down(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Gain too low: every echo darker by the same decibels, weak ones are lost."""
    from degradations.operators import envelope, tone

    return tone.curve(image, envelope.amplify, -numbers["loss_db"])


@register("ultrasound/attenuation", modalities=_ONLY)
def attenuation(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Absorption that gain compensation does not make up for: decibels lost in line with depth."""
    from degradations.operators import envelope

    return envelope.attenuate(image, numbers["loss_db"])


@register("ultrasound/tgc", modalities=_ONLY)
def tgc(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Sliders of time gain compensation set wrong: bands of depth too bright and too dark."""
    from degradations.operators import envelope

    return envelope.misadjust(image, numbers["error_db"], key)


# --- artefacts of propagation


def _shadow_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    if key is None:
        return {"loss_db": parameters["loss_db"]}
    rows, columns = size
    half = 0.5 * columns * (0.18 + 0.17 * key.uniform("width"))
    middle = columns * (0.3 + 0.4 * key.uniform("place"))
    return {
        "loss_db": parameters["loss_db"],
        "left_px": middle - half - 0.5,
        "right_px": middle + half - 0.5,
        "top_px": rows * (0.15 + 0.25 * key.uniform("depth")),
        "edge_px": parameters["edge"] * columns,
    }


@register("ultrasound/shadow", modalities=_ONLY, resolve=_shadow_numbers)
def shadow(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Acoustic shadow of bone, stone or gas: dark along the beams below it."""
    from degradations.operators import envelope

    return envelope.shadow(
        image,
        numbers["loss_db"],
        numbers["left_px"],
        numbers["right_px"],
        numbers["top_px"],
        numbers["edge_px"],
    )


def _reverberation_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    rows, columns = size
    numbers = {
        "amplitude": parameters["amplitude"],
        "thickness_px": parameters["thickness"] * rows,
        "decay": parameters["decay"],
    }
    if key is None:
        return numbers
    return numbers | {
        "distance_px": rows * (0.09 + 0.06 * key.uniform("distance")),
        "middle_px": columns * (0.4 + 0.2 * key.uniform("place")),
        "width_px": columns * (0.3 + 0.3 * key.uniform("width")),
    }


@register("ultrasound/reverberation", modalities=_ONLY, resolve=_reverberation_numbers)
def reverberation(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Echoes to and fro between probe and reflector: bright lines at multiples of its depth."""
    from degradations.operators import envelope

    return envelope.reverberate(
        image,
        numbers["amplitude"],
        numbers["distance_px"],
        numbers["thickness_px"],
        numbers["decay"],
        numbers["middle_px"],
        numbers["width_px"],
        key,
    )


def _haze_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    rows = size[0]
    numbers = {"amplitude": parameters["amplitude"]}
    if key is None:
        return numbers
    return numbers | {
        "middle_px": rows * (0.3 + 0.2 * key.uniform("depth")),
        "spread_px": rows * (0.12 + 0.08 * key.uniform("spread")),
    }


@register("ultrasound/haze", modalities=_ONLY, resolve=_haze_numbers)
def haze(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Clutter of fat and near-field reverberation: a bright cloud over a band of depth."""
    from degradations.operators import envelope

    return envelope.haze(
        image, numbers["amplitude"], numbers["middle_px"], numbers["spread_px"], key
    )
