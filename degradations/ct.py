"""Degradations of computed tomography, on Hounsfield units.

All of them but the window act on the rays of a parallel-beam scan, and add what that does to the
reconstruction to the slice; see `operators.tomography`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

    from degradations.operators.tomography import Geometry

#: Windows of the organs that readers of soft tissue confuse: (centre, width) in HU.
WINDOWS = {"lung": (-600.0, 1500.0), "bone": (480.0, 2500.0), "brain": (40.0, 80.0)}


def _scan_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    """Distances between pixels; without them, an assumed field of view."""
    numbers = dict(parameters)
    assumed = numbers.pop("assumed_field_mm") / max(size)
    row_mm, column_mm = spacing_mm or (assumed, assumed)
    return numbers | {"row_mm": row_mm, "column_mm": column_mm}


def _limited_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = _scan_numbers(parameters, size, spacing_mm, key)
    return numbers if key is None else numbers | {"start_deg": 180.0 * key.uniform("start")}


def _motion_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = _scan_numbers(parameters, size, spacing_mm, key)
    if key is None:
        return numbers
    return numbers | {
        "direction_deg": 180.0 * key.uniform("direction"),
        "phase_deg": 360.0 * key.uniform("phase"),
    }


def _metal_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = _scan_numbers(parameters, size, spacing_mm, key)
    if key is None:
        return numbers
    # Two rods on opposite sides, as hips, screws and fillings come.
    return numbers | {
        "distance_fraction": 0.10 + 0.10 * key.uniform("distance"),
        "direction_deg": 60.0 * key.uniform("direction") - 30.0,
    }


def _window_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    if key is None:
        return parameters
    drawn = list(WINDOWS.values())[int(len(WINDOWS) * key.uniform("organ"))]
    return parameters | {"wrong_centre_hu": drawn[0], "wrong_width_hu": drawn[1]}


def _geometry(image: Tensor, numbers: Numbers) -> Geometry:
    from degradations.operators import tomography

    return tomography.Geometry(
        height=image.shape[-2],
        width=image.shape[-1],
        row_mm=numbers["row_mm"],
        column_mm=numbers["column_mm"],
        views=int(numbers["views"]),
    )


@register("ct/low_dose", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def low_dose(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Few photons: quantum and electronic noise in the projections, reconstructed."""
    from degradations.operators import tomography

    geometry = _geometry(image, numbers)
    return tomography.low_dose(image, geometry, numbers["photons"], numbers["electronic"], key)


@register("ct/sparse_view", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def sparse_view(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Few views: fine streaks from every edge."""
    from degradations.operators import tomography

    geometry = _geometry(image, numbers)
    weights = tomography.sparse_weights(geometry.views, numbers["kept"])
    # With the bare ramp, streaks would grow with the fineness of the edges that pixels resolve.
    window = tomography.hamming(geometry, image.device)
    return tomography.reweighted(image, geometry, weights, window)


@register("ct/limited_angle", domain="hu", modalities=("ct",), resolve=_limited_numbers)
def limited_angle(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A range of directions is missing: edges across it are lost, others are drawn out."""
    from degradations.operators import tomography

    geometry = _geometry(image, numbers)
    weights = tomography.limited_weights(
        geometry.views, numbers["start_deg"] / 180.0, numbers["missing_deg"] / 180.0
    )
    return tomography.reweighted(image, geometry, weights)


@register("ct/ring", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def ring(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Detector elements of unequal gain: rings about the axis of rotation."""
    from degradations.operators import tomography

    return tomography.rings(image, _geometry(image, numbers), numbers["gain"], key)


@register("ct/metal", domain="hu", modalities=("ct",), resolve=_metal_numbers)
def metal(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Two iron rods: beam hardening and photon starvation, dark bands and streaks."""
    from degradations.operators import tomography

    geometry = _geometry(image, numbers)
    turn = math.radians(numbers["direction_deg"])
    distance = numbers["distance_fraction"] * geometry.field_mm
    row, column = distance * math.sin(turn), distance * math.cos(turn)
    centres = ((row, column), (-row, -column))
    radius_mm, photons = numbers["radius_mm"], numbers["photons"]
    return tomography.with_metal(image, geometry, centres, radius_mm, photons, key)


@register("ct/beam_hardening", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def beam_hardening(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Thick parts attenuate too little: a dark middle (cupping), bands between dense parts."""
    from degradations.operators import tomography

    return tomography.hardened(image, _geometry(image, numbers), numbers["strength"])


@register("ct/scatter", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def scatter(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Scattered photons fill the shadows: cupping, and dark bands along the longest paths."""
    from degradations.operators import tomography

    return tomography.scattered(image, _geometry(image, numbers), numbers["ratio"])


@register("ct/motion", domain="hu", modalities=("ct",), resolve=_motion_numbers)
def motion(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The patient moves during the scan: doubled edges and streaks from them."""
    from degradations.operators import tomography

    geometry = _geometry(image, numbers)
    turn = math.radians(numbers["direction_deg"])
    phase = math.radians(numbers["phase_deg"])
    views = range(geometry.views)
    wave = [
        math.sin(2.0 * math.pi * numbers["cycles"] * view / geometry.views + phase)
        for view in views
    ]
    # The mean place is where it would have been.
    mean = sum(wave) / len(wave)
    amplitude = numbers["amplitude_mm"]
    shifts = [
        (amplitude * (at - mean) * math.sin(turn), amplitude * (at - mean) * math.cos(turn))
        for at in wave
    ]
    return tomography.moved(image, geometry, shifts)


@register("ct/truncation", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def truncation(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The patient is wider than the detector: a bright rim where the field of view ends."""
    from degradations.operators import tomography

    return tomography.truncated(image, _geometry(image, numbers), numbers["field"])


@register("ct/detector_blur", domain="hu", modalities=("ct",), resolve=_scan_numbers)
def detector_blur(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Large focal spot and detector elements: blur along the detector in every view."""
    from degradations.operators import tomography

    geometry = _geometry(image, numbers)
    return tomography.detector_blurred(image, geometry, numbers["sigma_mm"])


@register("ct/wrong_window", domain="hu", modalities=("ct",), resolve=_window_numbers)
def wrong_window(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Shown in the window of another organ: lung, bone or brain, drawn for each image."""
    share = numbers["share"]
    centre, width = numbers["centre_hu"], numbers["width_hu"]
    wrong_centre = centre + share * (numbers["wrong_centre_hu"] - centre)
    # Widths differ by factors. What shows in the wrong window shows in the right one afterwards.
    factor = math.exp(share * math.log(width / numbers["wrong_width_hu"]))
    return (image - wrong_centre) * factor + centre


@register("ct/slice_thickness", domain="hu", modalities=("ct",), volumetric=True)
def slice_thickness(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Thick collimation: every slice averages its neighbours (partial volume); for volumes."""
    from degradations.operators import resample

    return resample.thickened(image, numbers["slices"])
