"""What happens to light between tissue and the sensor of a camera: veils, films, spots, bubbles.

Pictures of these cameras hold light by the curve of sRGB, in colour and in gray; every function
that is about light works on linear light in [0, 1], see `in_light`.

Fundus cameras and endoscopes show a lit field with a black surround, which is a stop in the image
plane, behind all of the optics that scatter. So no veil, leak or blur brings light out there:
functions that would take the field as a mask, estimated by `field_of_view`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators import blur, colour, light, strokes

Array = np.ndarray[Any, np.dtype[Any]]

#: A pixel whose brightest channel exceeds this level out of 255 is lit: above the noise and the
#: JPEG ringing of a black surround, below almost all tissue.
_LIT_ABOVE = 12.5
#: Absorption of whole blood at 620, 540 and 450 nm, for R, G and B, in 1 / mm: 150 g/L of
#: oxygenated haemoglobin of 64500 g/mol, with the molar extinctions that S. Prahl compiled (Oregon
#: Medical Laser Center 1999) of 942, 53236 and 62816 / (cm mol/L).
BLOOD_PER_MM = tuple(math.log(10.0) * e * 150.0 / 64500.0 / 10.0 for e in (942.0, 53236.0, 62816.0))
#: Share of the light of an air bubble's surroundings that its rim still passes, and how far its
#: curved surface shrinks the picture behind it.
_RIM_SHARE, _SHRINK = 0.35, 0.6
#: Linear light of a dark brown hair, and optical density of surgical ink (gentian violet) in
#: R, G, B.
_HAIR_LIGHT = (0.020, 0.012, 0.008)
_INK_DENSITY = (0.75, 1.10, 0.25)
_TICK_DENSITY = (1.2, 1.2, 1.2)


def in_light(image: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of linear light to a picture.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        change: Takes and returns float32 linear light (C, H, W); values beyond 1 saturate.

    Returns:
        (C, H, W) of the same type; uint8 is rounded.
    """
    return light.to_display(change(light.to_linear(image)), image.dtype)


def field_of_view(image: Tensor) -> Tensor:
    """Estimate the lit field of a picture with a black surround.

    Inside is every pixel with lit pixels both to its left and right and above and below, or that
    is lit itself: dark tissue within the field counts, what is between the field and the border
    does not. A picture without a black surround is all field. Where lit text stands in several
    corners of the surround, part of what lies between it counts as well.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.

    Returns:
        (1, H, W) float32, 1 inside and 0 outside.
    """
    scale = 1.0 if image.dtype == torch.uint8 else 255.0
    lit = image.amax(dim=0).float() * scale > _LIT_ABOVE
    inside = torch.ones_like(lit)
    for axis in (0, 1):
        place = torch.arange(lit.shape[axis], dtype=torch.int32, device=lit.device)
        place = place[:, None] if axis == 0 else place
        first = torch.where(lit, place, lit.shape[axis]).amin(dim=axis, keepdim=True)
        last = torch.where(lit, place, -1).amax(dim=axis, keepdim=True)
        inside = inside & (place >= first) & (place <= last)
    return inside.float()[None]


def _bounds(inside: Tensor) -> tuple[float, float, float]:
    """Middle (row, column) and half the longer extent of a field, in pixels."""
    rows, columns = (inside[0].amax(dim=axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    if not rows:
        return inside.shape[1] / 2.0, inside.shape[2] / 2.0, max(inside.shape[1:]) / 2.0
    (top, bottom), (left, right) = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
    return (top + bottom) / 2.0, (left + right) / 2.0, max(bottom - top, right - left) / 2.0


def _grid(size: Sequence[int], row: float, column: float) -> tuple[Array, Array]:
    """Distance of pixel centres from a point, (H, 1) downward and (1, W) to the right."""
    y = np.arange(size[0])[:, None] + (0.5 - row)
    return y, np.arange(size[1])[None] + (0.5 - column)


def _map(values: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _per_channel(rgb: Sequence[float], image: Tensor) -> Tensor:
    """(C, 1, 1): one value per channel, or that of equal luminance where C is not 3."""
    if len(image) != 3:
        gray = sum(weight * value for weight, value in zip(colour.LUMINANCE, rgb, strict=True))
        rgb = (gray,) * len(image)
    return torch.tensor(rgb, dtype=torch.float32, device=image.device)[:, None, None]


def within(linear: Tensor, inside: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
    """Blur the field as if tissue went on beyond the stop that ends it.

    The mean is taken over the pixels of the field only (normalised convolution), so that the
    black surround neither darkens the rim nor receives light.

    Args:
        linear: (C, H, W) light.
        inside: (1, H, W), 1 in the field.
        spread: Linear, shift-invariant, of sum 1.

    Returns:
        (C, H, W); outside of the field as it was.
    """
    if bool(inside.all()):
        return spread(linear)
    weight = spread(inside).clamp_(min=1e-2)
    return torch.where(inside > 0.0, spread(linear * inside) / weight, linear)


def cloud(
    key: Key, size: Sequence[int], correlation: float, spread: float, device: torch.device
) -> Tensor:
    """Density of mean 1 that varies as smoke does: the exponential of smooth normal noise.

    Args:
        key: Whose cloud.
        size: (H, W).
        correlation: Of its coarser part, a fraction of the longer side; see `smooth`.
        spread: Standard deviation of its logarithm.
        device: Where it is needed.

    Returns:
        (H, W) float32, positive.
    """
    coarse = random_fields.smooth(key, "coarse", size, correlation, device)
    fine = random_fields.smooth(key, "fine", size, correlation / 3.0, device)
    exponent = (coarse + fine * 0.5) * (spread / math.sqrt(1.25))
    return torch.exp(exponent - spread**2 / 2.0)


def airlight(linear: Tensor, transmission: Tensor, veil: Tensor) -> Tensor:
    """Light through a scattering medium: ``J t + A (1 - t)`` (Koschmieder).

    Args:
        linear: J, (C, H, W).
        transmission: t, (1, H, W) in [0, 1].
        veil: A, the light of the medium where it is opaque, (C, 1, 1).

    Returns:
        (C, H, W).
    """
    return linear * transmission + veil * (1.0 - transmission)


def smoke(
    image: Tensor,
    depth: float,
    veil: tuple[float, float, float],
    correlation: float,
    spread: float,
    key: Key,
) -> Tensor:
    """Veil the field with smoke of optical depth ``depth`` times a `cloud`.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        depth: Mean optical depth.
        veil: Linear light of opaque smoke, in R, G, B.
        correlation: See `cloud`.
        spread: See `cloud`.
        key: Whose smoke.

    Returns:
        (C, H, W) of the same type; black surround stays black.
    """
    inside = field_of_view(image)
    density = cloud(key, image.shape[1:], correlation, spread, image.device)
    transmission = torch.exp(density * -depth)[None]
    transmission = torch.where(inside > 0.0, transmission, 1.0)
    return in_light(image, lambda x: airlight(x, transmission, _per_channel(veil, x)))


def cataract(
    image: Tensor,
    depth: float,
    sigma: float,
    veil: tuple[float, float, float],
    correlation: float,
    key: Key,
) -> Tensor:
    """See the field through a clouded lens: blurred, and veiled by the flash that it scatters.

    ``t (G * J) + A (1 - t)``, the model of Peli and Peli 1989 with the lens's transmission t.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        depth: Mean optical depth of the lens.
        sigma: Standard deviation of the Gaussian G in pixels.
        veil: Linear light A that an opaque lens sends back, in R, G, B.
        correlation: Of the lens's density, see `cloud`.
        key: Whose lens.

    Returns:
        (C, H, W) of the same type; black surround stays black.
    """
    inside = field_of_view(image)
    density = cloud(key, image.shape[1:], correlation, 0.3, image.device)
    transmission = torch.exp(density * -depth)[None]
    transmission = torch.where(inside > 0.0, transmission, 1.0)

    def change(linear: Tensor) -> Tensor:
        soft = within(linear, inside, lambda x: blur.gaussian(x, sigma))
        return airlight(soft, transmission, _per_channel(veil, linear))

    return in_light(image, change)


def fog(
    image: Tensor, depth: float, sigma: float, correlation: float, spread: float, key: Key
) -> Tensor:
    """See the field through a fogged window, which scatters light widely and absorbs none.

    A share ``1 - exp(-depth)`` of the light, varying as a `cloud`, arrives from all around. A
    uniform field is not changed.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        depth: Mean optical depth.
        sigma: Standard deviation in pixels of the Gaussian over which light is scattered.
        correlation: See `cloud`.
        spread: See `cloud`.
        key: Whose fog.

    Returns:
        (C, H, W) of the same type; black surround stays black.
    """
    inside = field_of_view(image)
    density = cloud(key, image.shape[1:], correlation, spread, image.device)
    straight = torch.exp(density * -depth)[None]

    def change(linear: Tensor) -> Tensor:
        around = within(linear, inside, lambda x: blur.gaussian(x, sigma).clamp_(min=0.0))
        return linear * straight + around * (1.0 - straight)

    return in_light(image, change)


def defocus(image: Tensor, radius: float) -> Tensor:
    """Blur the field by a disk of ``radius`` pixels, in linear light; its rim stays sharp."""
    inside = field_of_view(image)
    return in_light(image, lambda x: within(x, inside, lambda v: blur.defocus(v, radius)))


def motion(image: Tensor, length: float, angle_deg: float) -> Tensor:
    """Blur the field along a line of ``length`` pixels, in linear light; its rim stays sharp."""
    inside = field_of_view(image)
    return in_light(image, lambda x: within(x, inside, lambda v: blur.motion(v, length, angle_deg)))


def illuminate(image: Tensor, stops: float, offset: float, angle_deg: float) -> Tensor:
    """Light a picture from a beam that is off its axis.

    Light falls as a Gaussian about the axis of the beam: by ``stops`` powers of two at the far
    end of the field, where it is ``offset`` plus half the longer side away.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        stops: Light lost at the far end.
        offset: Of the axis from the middle, as a fraction of the longer side.
        angle_deg: Direction of that offset, counter-clockwise from the x axis.

    Returns:
        (C, H, W) of the same type.
    """
    rows, columns = image.shape[1:]
    longer, angle = max(rows, columns), math.radians(angle_deg)
    y, x = _grid(
        (rows, columns),
        rows / 2.0 - offset * math.sin(angle) * longer,
        columns / 2.0 + offset * math.cos(angle) * longer,
    )
    far = (offset + 0.5) * longer
    gain = _map(2.0 ** (-stops * (y**2 + x**2) / far**2), image.device)
    return in_light(image, lambda linear: linear * gain)


def leak(
    image: Tensor, amount: float, tint: Sequence[float], width: float, angle_deg: float
) -> Tensor:
    """Add a crescent of stray light along the rim of the field.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        amount: Linear light at its brightest, as a fraction of white.
        tint: Its colour, in R, G, B.
        width: Standard deviation across, as a fraction of the field's radius.
        angle_deg: Where on the rim it is brightest, counter-clockwise from the x axis.

    Returns:
        (C, H, W) of the same type; black surround stays black.
    """
    inside = field_of_view(image)
    row, column, radius = _bounds(inside)
    y, x = _grid(image.shape[1:], row, column)
    distance, angle = np.hypot(y, x), math.radians(angle_deg)
    # Cosine of the angle from the brightest place; 0 at the very middle.
    towards = (x * math.cos(angle) - y * math.sin(angle)) / np.maximum(distance, 1e-9)
    ring = np.exp(-0.5 * ((distance / radius - 1.0) / width) ** 2)
    stray = _map(amount * ring * (0.5 + 0.5 * towards) ** 2, image.device) * inside
    return in_light(image, lambda linear: linear + stray * _per_channel(tint, linear))


def spots(
    image: Tensor,
    count: float,
    radius: tuple[float, float],
    opacity: tuple[float, float],
    key: Key,
) -> Tensor:
    """Shade a picture with round soft spots, as dust on a lens does.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        count: How many; the last is fainter by the fraction. A larger count keeps those of a
            smaller one.
        radius: Smallest and largest, to the middle of their edge, in pixels.
        opacity: Least and greatest share of light that one takes.
        key: Whose dust.

    Returns:
        (C, H, W) of the same type.
    """
    rows, columns = image.shape[1:]
    passed = np.ones((rows, columns))
    drawn = random_fields.uniform(key, "spots", (math.ceil(count), 4), "cpu").double().tolist()
    for place, (y, x, large, dark) in enumerate(drawn):
        size = radius[0] + (radius[1] - radius[0]) * large**2
        soft = max(0.6 * size, 1.0)
        take = (opacity[0] + (opacity[1] - opacity[0]) * dark) * min(count - place, 1.0)
        window, (down, right) = _window((rows, columns), y * rows, x * columns, size + soft)
        share = np.clip((size - np.hypot(down, right)) / soft + 0.5, 0.0, 1.0)
        passed[window] *= 1.0 - take * share * share * (3.0 - 2.0 * share)
    gain = _map(passed, image.device)
    return in_light(image, lambda linear: linear * gain)


def _window(
    size: tuple[int, int], row: float, column: float, reach: float
) -> tuple[tuple[slice, slice], tuple[Array, Array]]:
    """The part of a picture within ``reach`` of a point, and distances from the point in it."""
    top, left = (max(math.floor(at - reach), 0) for at in (row, column))
    bottom, right = (
        min(math.ceil(at + reach) + 1, side) for at, side in zip((row, column), size, strict=True)
    )
    window = slice(top, max(bottom, top)), slice(left, max(right, left))
    y = np.arange(window[0].start, window[0].stop)[:, None] + (0.5 - row)
    return window, (y, np.arange(window[1].start, window[1].stop)[None] + (0.5 - column))


def lashes(
    image: Tensor, reach: float, count: int, thick: float, soft: float, lower: bool, key: Key
) -> Tensor:
    """Shade the field from one edge by lashes and the lid they grow on, out of focus.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        reach: Of the longest lash into the field, in pixels.
        count: How many.
        thick: Width at the root in pixels.
        soft: Standard deviation in pixels by which they are out of focus.
        lower: Whether they hang in from below instead of from above.
        key: Whose lashes.

    Returns:
        (C, H, W) of the same type.
    """
    inside = field_of_view(image)
    rows, columns = int(image.shape[1]), int(image.shape[2])
    lit = inside[0].amax(dim=1).nonzero()[:, 0].tolist() or [0, rows - 1]
    top = float(rows - 1 - lit[-1] if lower else lit[0])
    cover = strokes.lashes((rows, columns), top, reach, count, thick, key)
    hanging = blur.gaussian(_map(cover, image.device)[None], soft).clamp_(0.0, 1.0)
    depth = np.maximum(np.arange(rows) + 0.5 - top, 0.0)[:, None]
    # The lid's own shadow ends well before the lashes do.
    lid = _map(np.exp(-((depth / (0.45 * reach)) ** 2)), image.device)
    gain = (1.0 - hanging * 0.85) * (1.0 - lid * 0.9)
    gain = gain.flip(1) if lower else gain
    return in_light(image, lambda linear: linear * gain)


def _highest(field: Tensor, inside: Tensor, fraction: float) -> float:
    """The value that ``fraction`` of a field's pixels exceed."""
    values = field[inside[0] > 0.0]
    if len(values) == 0:
        return math.inf
    above = min(round(fraction * len(values)), len(values) - 1)
    return float(values.kthvalue(len(values) - above).values)


def speculars(
    image: Tensor, fraction: float, light_of: float, correlation: float, soft: float, key: Key
) -> Tensor:
    """Add mirror images of the lamp, as on wet tissue, which saturate the sensor.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        fraction: Of the field that they touch. A larger one keeps those of a smaller one.
        light_of: Linear light that they add, as a fraction of white.
        correlation: Their size, as a fraction of the longer side; see `smooth`.
        soft: Width of their edges, in standard deviations of the field they are cut from.
        key: Whose highlights.

    Returns:
        (C, H, W) of the same type; pixels beside them are untouched.
    """
    inside = field_of_view(image)
    height = random_fields.smooth(key, "height", image.shape[1:], correlation, image.device)
    over = (height - _highest(height, inside, fraction)) / soft
    added = (over.clamp_(0.0, 1.0) * light_of)[None] * inside
    return in_light(image, lambda linear: linear + added)


def blood(image: Tensor, fraction: float, slope: float, correlation: float, key: Key) -> Tensor:
    """Cover part of the field with pools of blood, which light crosses twice (Beer-Lambert).

    Args:
        image: (3, H, W) float32 in [0, 1] or uint8.
        fraction: Of the field that is covered. A larger one is deeper everywhere.
        slope: Millimetres of depth per standard deviation of the smooth field that says where.
        correlation: Size of the pools, as a fraction of the longer side; see `smooth`.
        key: Whose blood.

    Returns:
        (3, H, W) of the same type; dry pixels are untouched.
    """
    inside = field_of_view(image)
    height = random_fields.smooth(key, "height", image.shape[1:], correlation, image.device)
    depth = (height - _highest(height, inside, fraction)).clamp_(min=0.0) * slope
    return in_light(image, lambda linear: absorb(linear, depth[None], BLOOD_PER_MM))


def absorb(linear: Tensor, depth: Tensor, per_unit: Sequence[float]) -> Tensor:
    """Light that crosses an absorbing film and comes back: ``J exp(-2 mu depth)``."""
    mu = torch.tensor(per_unit, dtype=torch.float32, device=linear.device)[:, None, None]
    return linear * torch.exp(mu * depth * -2.0)


def bubbles(
    image: Tensor, count: float, radius: tuple[float, float], shine: float, key: Key
) -> Tensor:
    """Put air bubbles in front of a picture.

    An air bubble in liquid is a diverging lens: it shows a smaller picture of what is behind it,
    with a dark rim, where light is totally reflected, and inside that a bright ring and the
    mirror image of the lamp.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        count: How many; the last is fainter by the fraction. A larger count keeps those of a
            smaller one.
        radius: Smallest and largest in pixels.
        shine: Linear light of ring and mirror image, as a fraction of white.
        key: Whose bubbles.

    Returns:
        (C, H, W) of the same type; pixels beside the bubbles are untouched.
    """
    inside = field_of_view(image)
    size = int(image.shape[1]), int(image.shape[2])
    # Where each pixel's light comes from, how much of it is let through and added, and the share
    # of the pixel that a bubble takes.
    source = np.stack(np.meshgrid(*(np.arange(side) + 0.5 for side in size), indexing="ij"))
    passed, added, cover = np.ones(size), np.zeros(size), np.zeros(size)
    for row, column, r, share in _places(key, count, size, radius):
        window, (down, right) = _window(size, row, column, r + 1.0)
        rho = np.hypot(down, right) / r
        edge = np.clip((1.0 - rho) * r + 0.5, 0.0, 1.0) * share
        here = edge > cover[window]
        grow = 1.0 + _SHRINK * (1.0 + np.minimum(rho, 1.0) ** 2)
        rim = np.clip((rho - 0.82) / 0.18, 0.0, 1.0)
        # The lamp is at the upper left of the camera.
        lamp = np.exp(-(((down / r + 0.4) ** 2 + (right / r + 0.4) ** 2) / 0.02))
        facing = 0.6 - 0.4 * (down + right) / (math.sqrt(2.0) * np.maximum(rho, 1e-3) * r)
        ring = np.exp(-0.5 * ((rho - 0.75) / 0.07) ** 2) * facing
        for target, value in (
            (source[0], row + down * grow + 0.0 * right),
            (source[1], column + right * grow + 0.0 * down),
            (passed, 1.0 - (1.0 - _RIM_SHARE) * rim * rim * (3.0 - 2.0 * rim)),
            (added, shine * np.minimum(lamp + 0.6 * ring, 1.0)),
            (cover, edge),
        ):
            target[window] = np.where(here, value, target[window])
    scale = np.array([2.0 / size[1], 2.0 / size[0]])
    grid = _map(source[::-1].transpose(1, 2, 0) * scale - 1.0, image.device)[None]
    gain, glow, share_of = (_map(values, image.device) for values in (passed, added, cover))

    def change(linear: Tensor) -> Tensor:
        behind = torch.nn.functional.grid_sample(
            linear.contiguous()[None], grid, padding_mode="border", align_corners=False
        )[0]
        seen = behind * gain + glow
        mixed = linear * (1.0 - share_of) + seen * share_of
        return torch.where((share_of > 0.0) & (inside > 0.0), mixed, linear)

    return in_light(image, change)


def _places(
    key: Key, count: float, size: tuple[int, int], radius: tuple[float, float]
) -> list[tuple[float, float, float, float]]:
    """Row, column, radius and share of bubbles; each avoids earlier ones where it can."""
    tries = 6
    shape = (math.ceil(count), 1 + 2 * tries)
    taken: list[tuple[float, float, float, float]] = []
    for large, *draws in random_fields.uniform(key, "bubbles", shape, "cpu").double().tolist():
        r = radius[0] + (radius[1] - radius[0]) * large**2
        candidates = [
            (y * size[0], x * size[1]) for y, x in zip(draws[::2], draws[1::2], strict=True)
        ]
        row, column = next(
            (
                (row, column)
                for row, column in candidates
                if all(math.hypot(row - y, column - x) > r + other for y, x, other, _ in taken)
            ),
            candidates[0],
        )
        taken.append((row, column, r, min(count - len(taken), 1.0)))
    return taken


def overexpose(image: Tensor, stops: float, bloom: float, sigma: float) -> Tensor:
    """Multiply light by ``2 ** stops``; of what a pixel cannot hold, some spills over.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        stops: At least 0.
        bloom: Share of the light beyond white that reaches the surroundings.
        sigma: Standard deviation in pixels over which it spreads.

    Returns:
        (C, H, W) of the same type; black surround stays black.
    """
    inside = field_of_view(image)

    def change(linear: Tensor) -> Tensor:
        exposed = linear * math.pow(2.0, stops)
        excess = (exposed - 1.0).clamp_(min=0.0)
        spilt = blur.gaussian(excess, sigma).clamp_(min=0.0) * inside
        return exposed + spilt * bloom

    return in_light(image, change)


def interlace(image: Tensor, shift: float, lines: int) -> Tensor:
    """Shift every other line sideways, as when the two fields of a video frame differ in time.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        shift: In pixels, to the right.
        lines: Of the video along the longer side; no more than pixels are used.

    Returns:
        (C, H, W) of the same type. The even lines and a black surround are untouched.
    """
    inside = field_of_view(image)
    rows, columns = image.shape[1:]
    pitch = max(1.0, max(rows, columns) / lines)
    odd = torch.from_numpy(np.floor((np.arange(rows) + 0.5) / pitch) % 2 == 1).to(image.device)
    start = math.floor(shift)
    share = shift - start
    place = torch.arange(columns, device=image.device) - start
    near, far = place.clamp(0, columns - 1), (place - 1).clamp(0, columns - 1)

    def moved(values: Tensor) -> Tensor:
        return values[..., near] * (1.0 - share) + values[..., far] * share

    pixels = light.to_float(image)
    weight = moved(inside)
    late = torch.where(weight > 0.25, moved(pixels * inside) / weight.clamp(min=0.25), pixels)
    out: Tensor = torch.where((inside > 0.0) & odd[:, None], late, pixels)
    return light.to_levels(out) if image.dtype == torch.uint8 else out


def hair(image: Tensor, count: float, kind: strokes.Hair, opacity: float, key: Key) -> Tensor:
    """Lay dark hairs over a picture.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        count: How many; see `strokes.hairs`.
        kind: What they look like.
        opacity: Share of the light from below that they stop.
        key: Whose hairs.

    Returns:
        (C, H, W) of the same type; pixels without hair are untouched.
    """
    size = int(image.shape[1]), int(image.shape[2])
    cover = _map(strokes.hairs(size, count, kind, key) * opacity, image.device)[None]
    return in_light(image, lambda x: airlight(x, 1.0 - cover, _per_channel(_HAIR_LIGHT, x)))


def ink(
    image: Tensor, extent: float, count: int, thick: float, ticks: int, upper: bool, key: Key
) -> Tensor:
    """Draw on the skin with a surgical marker, beside a ruler.

    Ink absorbs: what is below still shows through, by its optical density.

    Args:
        image: (C, H, W) float32 in [0, 1] or uint8.
        extent: Share of lines and ticks that is there, in [0, 1].
        count: Pen lines in all.
        thick: Their width in pixels.
        ticks: Of the ruler, in all.
        upper: Whether the ruler lies at the upper edge.
        key: Whose pen.

    Returns:
        (C, H, W) of the same type; pixels without ink are untouched.
    """
    size = int(image.shape[1]), int(image.shape[2])
    pen = _map(strokes.marks(size, extent, count, thick, key), image.device)[None]
    rule = _map(strokes.ruler(size, extent, ticks, upper), image.device)[None]

    def change(linear: Tensor) -> Tensor:
        for cover, density in ((pen, _INK_DENSITY), (rule, _TICK_DENSITY)):
            # A pixel covered in part mixes inked and bare skin.
            stopped = 1.0 - _per_channel([10.0**-value for value in density], linear)
            linear = linear * (1.0 - cover * stopped)
        return linear

    return in_light(image, change)
