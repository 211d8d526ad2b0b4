"""Degradations of radiographs, on display values that stand for the logarithm of exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

_XRAY = ("xray",)


# --- photons


def _noise_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    longer = max(size)
    return {
        "dose": parameters["dose"],
        "quanta_per_px": parameters["quanta"] * (parameters["elements"] / longer) ** 2,
        "mtf_sigma_px": parameters["mtf_sigma"] * longer,
    }


@register("xray/quantum_noise", modalities=_XRAY, resolve=_noise_numbers)
def quantum_noise(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Too little dose: photon noise that the detector has blurred, coarser where it is white."""
    from degradations.operators import exposure

    return exposure.quantum_noise(
        image, numbers["dose"], numbers["quanta_per_px"], numbers["mtf_sigma_px"], key
    )


def _scatter_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"ratio": parameters["ratio"], "sigma_px": parameters["sigma"] * max(size)}


@register("xray/scatter", modalities=_XRAY, resolve=_scatter_numbers)
def scatter(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Compton scatter without a grid: a veil that takes contrast, most behind dense parts."""
    from degradations.operators import exposure

    return exposure.scatter(image, numbers["ratio"], numbers["sigma_px"])


@register("xray/grid_lines", modalities=_XRAY)
def grid_lines(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Lines of a stationary antiscatter grid, as sampling shows them."""
    from degradations.operators import exposure

    return exposure.grid_lines(image, numbers["depth"], numbers["lines"], key)


@register("xray/grid_cutoff", modalities=_XRAY)
def grid_cutoff(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """An antiscatter grid off its focus: exposure falls off towards one side."""
    from degradations.operators import exposure

    return exposure.grid_cutoff(image, numbers["loss"], key)


def _motion_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    if "length_px" in parameters:
        return dict(parameters) | {"in_exposure": 0.0}
    numbers = {"length_px": parameters["length"] * max(size), "in_exposure": 1.0}
    if key is not None:
        numbers["angle_deg"] = 180.0 * key.uniform("angle")
    return numbers


@register("xray/motion", modalities=_XRAY, resolve=_motion_numbers)
def motion(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Breathing or a restless patient: motion along a line during exposure, drawn per image."""
    from degradations.operators import blur, exposure

    if numbers["in_exposure"] < 0.5:
        return blur.motion(image, numbers["length_px"], numbers["angle_deg"])
    return exposure.motion(image, numbers["length_px"], numbers["angle_deg"])


@register("xray/over_exposure", modalities=_XRAY, eight_bit=True, channelwise=True)
def over_exposure(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Too much exposure: the shoulder of the characteristic curve blackens lungs and skin."""
    from degradations.operators import exposure

    return exposure.expose(image, numbers["stops"])


@register("xray/under_exposure", modalities=_XRAY, eight_bit=True, channelwise=True)
def under_exposure(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Too little exposure: the toe of the characteristic curve whitens dense parts; no noise."""
    from degradations.operators import exposure

    return exposure.expose(image, -numbers["stops"])


# --- beam and detector


@register("xray/collimation", modalities=_XRAY)
def collimation(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Collimator blades closed too far, with a penumbra; what they cover is unexposed, white."""
    from degradations.operators import exposure

    return exposure.collimate(image, numbers["closed"], numbers["penumbra"], numbers["leak"], key)


@register("xray/dead_lines", modalities=_XRAY)
def dead_lines(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Rows and columns of a flat panel, whole or broken, that are not read or saturate."""
    from degradations.operators import exposure

    return exposure.dead_lines(image, numbers["count"], int(numbers["elements"]), key)


@register("xray/gain_map", modalities=_XRAY)
def gain_map(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """An outdated flat-field correction: bands, columns and regions of wrong gain."""
    from degradations.operators import exposure

    return exposure.gain_map(
        image, numbers["sigma"], int(numbers["elements"]), int(numbers["bands"]), key
    )


def _object_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    assumed = parameters["assumed_field_mm"] / max(size)
    return {"count": parameters["count"], "mm_per_px": spacing_mm[1] if spacing_mm else assumed}


@register("xray/foreign_object", modalities=_XRAY, resolve=_object_numbers)
def foreign_object(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Coins, nails and tubes in the beam, by the attenuation of their material and thickness."""
    from degradations.operators import exposure

    return exposure.foreign_objects(image, numbers["count"], numbers["mm_per_px"], key)


# --- film


def _rotation_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = {"pixel_aspect": spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0}
    if key is not None:
        side = 1.0 if key.uniform("side") < 0.5 else -1.0
        numbers["angle_deg"] = side * parameters["angle_deg"]
    return numbers


@register(
    "xray/rotation", modalities=_XRAY, geometric=True, eight_bit=True, resolve=_rotation_numbers
)
def rotation(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A portable film that lies askew under the patient: turned in its plane, to either side."""
    from degradations.operators import exposure

    return exposure.rotate(image, numbers["angle_deg"], numbers["pixel_aspect"])


def _tilt_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = {"angle_deg": parameters["angle_deg"], "field": parameters["field"]}
    if key is not None:
        numbers["axis_deg"] = 360.0 * key.uniform("axis")
    return numbers


@register("xray/tilt", modalities=_XRAY, geometric=True, resolve=_tilt_numbers)
def tilt(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A portable film that is not square to the beam: one side is magnified, the other shrinks."""
    from degradations.operators import exposure

    return exposure.tilt(image, numbers["angle_deg"], numbers["field"], numbers["axis_deg"])


def _archive_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {
        "matrix_px": max(8, round(min(parameters["matrix"], max(size)))),
        "levels": max(2, round(2.0 ** parameters["bits"])),
        "quality": round(parameters["quality"]),
        "share": parameters["share"],
    }


@register("xray/lossy_archive", modalities=_XRAY, resolve=_archive_numbers)
def lossy_archive(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Stored as public archives do: shrunk, cut to fewer gray levels, and saved as JPEG."""
    from degradations.operators import exposure

    return exposure.archive(
        image,
        int(numbers["matrix_px"]),
        int(numbers["levels"]),
        int(numbers["quality"]),
        numbers["share"],
    )
