"""Degradations of magnetic resonance, between the signal in k-space and the magnitude image.

They take magnitudes in proportion to the signal; display pixels are taken for such. Phase encoding
runs down the picture and readout to the right. Strengths are relative to the image itself, and
distances to the field of view.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Operator, Resolver, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _register(
    name: str, *, resolve: Resolver | None = None, geometric: bool = False
) -> Callable[[Operator], Operator]:
    """`register` for operators on float32 signals; uint8 pixels are converted and rounded."""

    def add(operator: Operator) -> Operator:
        @functools.wraps(operator)
        def both(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
            import torch

            from degradations.operators import light

            if image.dtype != torch.uint8:
                return operator(image, numbers, key)
            return light.to_levels(operator(light.to_float(image), numbers, key))

        register(
            name,
            domain="linear",
            modalities=("mri",),
            eight_bit=True,
            geometric=geometric,
            resolve=resolve,
        )(both)
        return operator

    return add


# --- motion and periodic lines


def _motion_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    shift = parameters["shift"]
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    return {
        "shift_px": shift * max(size),
        "angle_deg": shift * parameters["degrees_per_field"],
        "pixel_aspect": row_mm / column_mm,
    }


@_register("mri/motion", resolve=_motion_numbers)
def motion(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The patient lies otherwise while parts of k-space are acquired; its centre is unmoved.

    Three stretches of lines come from three other poses. When they begin and where they move is
    drawn per image; severity makes the movements larger.
    """
    from degradations.operators.kspace import Pose, Segment, acquire

    def signed(stream: str) -> float:
        drawn = key.uniform(stream)
        return math.copysign(0.5 + abs(drawn - 0.5), drawn - 0.5)

    def between(stream: str, low: float, high: float) -> float:
        return low + (high - low) * key.uniform(stream)

    times = (
        (-math.inf, -between("before", 4.0, 10.0)),
        (between("after", 4.0, 10.0), between("later", 24.0, 48.0)),
    )
    spans = (*times, (times[1][1], math.inf))
    segments = [
        Segment(
            *span,
            Pose(
                right_px=numbers["shift_px"] * signed(f"right {place}"),
                down_px=numbers["shift_px"] * signed(f"down {place}"),
                angle_deg=numbers["angle_deg"] * signed(f"angle {place}"),
            ),
        )
        for place, span in enumerate(spans)
    ]
    return acquire(image, segments, numbers["pixel_aspect"])


def _ghosting_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = dict(parameters)
    if key is not None:
        numbers["period_lines"] = 3.0 + math.floor(4.0 * key.uniform("period"))
    return numbers


@_register("mri/ghosting", resolve=_ghosting_numbers)
def ghosting(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Ghosts along phase encoding, from breathing or pulsating blood.

    The phase of the lines swings with a period of 3 to 6 lines, drawn per image: so many parts of
    the field of view are the ghosts apart. No energy is lost, and the centre line is right.
    """
    from degradations.operators import kspace

    return kspace.ghost(image, int(numbers["period_lines"]), numbers["phase"])


# --- lines left out


def _undersampling_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = dict(parameters)
    if "centre_share" in numbers:
        numbers["centre_cycles"] = numbers.pop("centre_share") * size[0] / 2.0
    return numbers


@_register("mri/undersampling", resolve=_undersampling_numbers)
def undersampling(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Only every fourth line outside the centre of k-space acquired: aliasing and blur.

    The fully acquired centre shrinks with severity, so that lines are lost but none is won.
    """
    from degradations.operators import kspace

    acceleration = int(numbers["acceleration"])
    return kspace.undersample_regular(image, acceleration, numbers["centre_cycles"])


@_register("mri/undersampling_random")
def undersampling_random(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Only a quarter of the lines outside the centre of k-space, at random: noise-like streaks.

    The fully acquired centre shrinks with severity, so that lines are lost but none is won.
    """
    from degradations.operators import kspace

    return kspace.undersample_random(image, numbers["share"], numbers["centre_cycles"], key)


@_register("mri/gibbs")
def gibbs(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Too few samples: k-space is cut off along both axes, and edges ring."""
    from degradations.operators import kspace

    return kspace.truncate(image, numbers["cutoff_cycles"])


# --- interference and noise


def _spike_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = dict(parameters)
    if key is not None:
        angle = math.pi * key.uniform("angle")
        radius = 8.0 + 24.0 * key.uniform("radius")
        numbers["across_cycles"] = float(round(radius * math.cos(angle)))
        numbers["down_cycles"] = float(round(radius * math.sin(angle)))
        numbers["phase_rad"] = 2.0 * math.pi * key.uniform("phase")
    return numbers


@_register("mri/spike", resolve=_spike_numbers)
def spike(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A spark in one sample of k-space: stripes over the whole image, herringbone.

    The sample, 8 to 32 cycles per field of view from the centre, is drawn per image.
    """
    from degradations.operators import kspace

    across, down = numbers["across_cycles"], numbers["down_cycles"]
    return kspace.spike(image, numbers["ratio"], across, down, numbers["phase_rad"])


def _zipper_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    numbers = {"amplitude": parameters["amplitude"], "width_px": parameters["width"] * max(size)}
    if key is not None:
        numbers["place"] = 0.2 + 0.6 * key.uniform("place")
    return numbers


@_register("mri/zipper", resolve=_zipper_numbers)
def zipper(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """A radio signal leaks in at one frequency: a dashed line along phase encoding.

    Its place is drawn per image.
    """
    from degradations.operators import kspace

    return kspace.zipper(image, numbers["amplitude"], numbers["width_px"], numbers["place"], key)


@_register("mri/rician")
def rician(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Thermal noise in both parts of the complex signal; its magnitude is Rician.

    Where there is no signal the noise has a mean, which lifts the black background.
    """
    from degradations.operators import kspace

    return kspace.rician(image, numbers["sigma"], key)


@_register("mri/bias_field")
def bias_field(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Uneven sensitivity of the coil: a smooth positive field whose geometric mean is 1."""
    from degradations.operators import kspace

    return kspace.shade(image, numbers["spread"], numbers["gain"], key)


# --- field of view, resolution and geometry


@_register("mri/wrap_around")
def wrap_around(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """The field of view is too short along phase encoding: the ends fold over each other.

    Nothing is cut off; copies one shorter field of view apart are added.
    """
    from degradations.operators import kspace

    height = image.shape[-2]
    return kspace.wrap_around(image, height - round(numbers["overlap"] * height))


@_register("mri/anisotropy")
def anisotropy(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Thick slices seen from the side: coarse along one axis, interpolated for display."""
    from degradations.operators import kspace

    height = image.shape[-2]
    slices = min(height, max(1, round(1.0 / numbers["thickness"])))
    return kspace.thick_slices(image, slices)


@_register("mri/b0_distortion", geometric=True)
def b0_distortion(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """An uneven main field: signal is displaced along readout, and piles up or thins out."""
    from degradations.operators import kspace

    height, width = image.shape[-2:]
    field = kspace.displacement(height, width, key, image.device)
    return kspace.distort(image, field * (numbers["shift"] * width))


@_register("mri/chemical_shift")
def chemical_shift(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Fat, taken to be the brightest parts, is displaced along readout against water."""
    from degradations.operators import kspace

    return kspace.chemical_shift(image, numbers["shift"] * image.shape[-1])


@register("mri/slice_thickness", domain="linear", modalities=("mri",), volumetric=True)
def slice_thickness(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Thick slices: every slice averages its neighbours (partial volume); for volumes."""
    from degradations.operators import resample

    return resample.thickened(image, numbers["slices"])
