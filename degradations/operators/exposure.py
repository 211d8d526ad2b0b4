"""Radiographs as what they are: the exposure that reached a detector, shown logarithmically.

A display value x in [0, 1] stands for the exposure ``10 ** (-DECADES x)``, bright for more
attenuation, as bone is shown; 0 is the open field. Photons, scatter, grids, motion and gain act on
that exposure. Attenuation ``p`` (its negative natural logarithm) of an object in the beam, and the
logarithm of any gain, add to x.

Lengths without a unit are fractions of the longer side of the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators import blur, geometry, jpeg, tone

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Decades of exposure from black to white: what a chest radiograph spans behind the patient.
DECADES = 2.0
#: Display value that one unit of attenuation (a factor e) takes.
PER_NEPER = 1.0 / (DECADES * math.log(10.0))
#: Least exposure that is told from none: a hundredth of what is shown white.
_LEAST = 10.0 ** -(DECADES + 2.0)
#: Attenuation per mm at 60 keV (NIST XCOM, times density): copper, iron, and the radiopaque
#: plastic of a tube, which is an assumption.
_COPPER, _IRON, _TUBE = 1.43, 0.95, 0.08


def to_exposure(image: Tensor) -> Tensor:
    """Exposure, from 1 in the open field to 0.01, of display values in [0, 1]."""
    return image.contiguous().mul(-DECADES * math.log(10.0)).exp_()


def to_display(exposure: Tensor) -> Tensor:
    """Display values of an exposure; the inverse of `to_exposure`, not clamped to [0, 1]."""
    return exposure.contiguous().clamp(min=_LEAST).log_().mul_(-PER_NEPER)


def quantum_noise(image: Tensor, dose: float, quanta: float, mtf_sigma: float, key: Key) -> Tensor:
    """Add the photon noise by which a scan of less dose exceeds one of full dose.

    Photons fall by chance and the detector then spreads each of them: white noise of variance
    ``I (1 / dose - 1) / quanta`` is convolved with the detector's Gaussian point spread, so that
    its power spectrum has the shape of the squared MTF. The picture itself keeps its sharpness.

    Args:
        image: (C, H, W) float32 display values.
        dose: Fraction of the full dose, above 0 to 1.
        quanta: Photons that a pixel of the open field detects at full dose.
        mtf_sigma: Standard deviation of the point spread in pixels; the MTF is
            ``exp(-2 pi^2 sigma^2 f^2)``.
        key: Whose noise.

    Returns:
        Same shape, float32.
    """
    exposure = to_exposure(image)
    grain = random_fields.normal(key, "quanta", image.shape, image.device)
    noise = exposure.mul((1.0 / dose - 1.0) / quanta).sqrt_().mul_(grain)
    # In the frequency domain, for the point spread may be much narrower than a pixel.
    rows, columns = image.shape[1:]
    across = torch.fft.rfftfreq(columns, dtype=torch.float64)
    down = torch.fft.fftfreq(rows, dtype=torch.float64)[:, None]
    spread = -2.0 * math.pi**2 * mtf_sigma**2
    mtf = torch.exp(spread * (across.square() + down.square())).float().to(image.device)
    spectrum = torch.fft.rfft2(noise).mul_(mtf)
    return to_display(exposure.add_(torch.fft.irfft2(spectrum, s=(rows, columns))))


def scatter(image: Tensor, ratio: float, sigma: float) -> Tensor:
    """Add a veil of scattered photons: ``(I + ratio (I * K)) / (1 + ratio)``.

    The total exposure is kept, as automatic exposure control does; contrast that is finer than
    the kernel falls by ``1 / (1 + ratio)``.

    Args:
        image: (C, H, W) float32 display values.
        ratio: Of scattered to primary exposure.
        sigma: Standard deviation of the Gaussian kernel K in pixels.

    Returns:
        Same shape, float32.
    """
    exposure = to_exposure(image)
    veil = blur.gaussian(exposure, sigma)
    return to_display(exposure.add_(veil, alpha=ratio).div_(1.0 + ratio))


def grid_lines(image: Tensor, depth: float, lines: float, key: Key) -> Tensor:
    """Modulate the exposure by the image of a grid, or by what sampling makes of it.

    ``I (1 + depth cos(2 pi f u + phase))``, averaged over each pixel. Along which side the grid
    lies, how far it is turned, and the phase are drawn per image.

    Args:
        image: (C, H, W) float32 display values.
        depth: Of the modulation, 0 to below 1.
        lines: Periods per longer side.
        key: Whose grid.

    Returns:
        Same shape, float32.
    """
    y, x = _places(image)
    turn = math.radians(4.0 * key.uniform("turn") - 2.0)
    if key.uniform("side") < 0.5:
        y, x = x, y
    # cos(a + b) of a row's and a column's share of the phase.
    a = 2.0 * np.pi * (lines * math.cos(turn) * x + key.uniform("phase"))
    b = 2.0 * np.pi * lines * math.sin(turn) * y
    wave = np.cos(a) * np.cos(b) - np.sin(a) * np.sin(b)
    aperture = float(np.sinc(lines / max(image.shape[1:])))
    return _attenuate(image, -np.log1p(depth * aperture * wave))


def grid_cutoff(image: Tensor, loss: float, key: Key) -> Tensor:
    """Lose primary photons in a grid off its focus: in proportion to the way from one side.

    Args:
        image: (C, H, W) float32 display values.
        loss: Fraction of the exposure that is lost at the far side, below 1.
        key: Which side, left or right.

    Returns:
        Same shape, float32.
    """
    share = (np.arange(image.shape[2]) + 0.5) / image.shape[2]
    if key.uniform("side") < 0.5:
        share = share[::-1]
    return _attenuate(image, -np.log1p(-loss * np.broadcast_to(share, tuple(image.shape[1:]))))


def motion(image: Tensor, length: float, angle_deg: float) -> Tensor:
    """Average the exposure along a straight line of this many pixels; see `blur.motion`."""
    return to_display(blur.motion(to_exposure(image), length, angle_deg))


def film(values: Tensor, stops: float) -> Tensor:
    """Change the exposure under a characteristic curve with toe and shoulder.

    The density of film is close to a logistic function of log exposure. Its slope in the middle is
    taken to be that of the display, one range over `DECADES`; then a factor on the exposure is a
    shift of the logit of every value.

    Args:
        values: Display values in [0, 1], float32 or float64, of any shape.
        stops: Exposure by ``2 ** stops``; more is darker.

    Returns:
        The same shape and type. 0 and 1 stay.
    """
    odds = math.exp(4.0 / DECADES * math.log10(2.0) * stops)
    return values / (values + (1.0 - values) * odds)


def expose(image: Tensor, stops: float) -> Tensor:
    """`film` on a picture: (C, H, W), float32 in [0, 1] or uint8."""
    return tone.curve(image, film, stops)


def collimate(image: Tensor, closed: float, penumbra: float, leak: float, key: Key) -> Tensor:
    """Close the four blades of a collimator that is turned a little: ``I (leak + (1 - leak) M)``.

    How far each blade goes, and the turn, are drawn per image; those of a higher value cover all
    that those of a lower one do.

    Args:
        image: (C, H, W) float32 display values.
        closed: How far the blade that goes furthest is closed; 1 is the centre.
        penumbra: Width of the edge.
        leak: Fraction of the exposure that passes a blade.
        key: Whose blades.

    Returns:
        Same shape, float32; what is covered is white, as an unexposed detector.
    """
    y, x = _places(image)
    height, width = (side / max(image.shape[1:]) for side in image.shape[1:])
    y, x = y - height / 2.0, x - width / 2.0
    turn = math.radians(16.0 * key.uniform("turn") - 8.0)
    ways = _draws(key, "blades", 4)
    furthest = max(ways)
    open_share = np.ones((image.shape[1], image.shape[2]))
    for blade, way in enumerate(ways):
        angle = turn + blade * math.pi / 2.0
        along = x * math.cos(angle) + y * math.sin(angle)
        corner = (width * abs(math.cos(angle)) + height * abs(math.sin(angle))) / 2.0
        edge = corner * (1.0 - closed * (0.3 + 0.7 * way / furthest)) + penumbra / 2.0
        open_share *= np.clip((edge - along) / penumbra + 0.5, 0.0, 1.0)
    return _attenuate(image, -np.log(leak + (1.0 - leak) * open_share))


def dead_lines(image: Tensor, count: float, elements: int, key: Key) -> Tensor:
    """Lose detector rows and columns from a break to the border.

    A line that is not read shows no exposure, white; one that leaks shows saturation, black. A
    larger count keeps the lines of a smaller one; the last is blended in by the fraction.

    Args:
        image: (C, H, W) float32 display values.
        count: Number of lines.
        elements: Of the detector along the longer side.
        key: Whose detector.

    Returns:
        Same shape, float32. Other pixels are untouched.
    """
    out = image.clone()
    longer = max(image.shape[1:])
    draws = _draws(key, "lines", 5 * math.ceil(count))
    for line in reversed(range(math.ceil(count))):
        upright, place, broken, end, kind = draws[5 * line : 5 * line + 5]
        planes = out.transpose(1, 2) if upright < 0.5 else out
        rows, columns = planes.shape[1:]
        many = max(1, round(min(1.0, elements / longer) * rows))
        row = int(place * many)
        # Most lines are whole; the driver's end of a broken one still works.
        stop = columns if broken < 0.5 else round(columns * (0.3 + 0.7 * (2.0 * broken - 1.0)))
        part = planes[:, -(-row * rows // many) : -(-(row + 1) * rows // many)]
        part = part[..., :stop] if end < 0.5 else part[..., columns - stop :]
        value = torch.tensor(1.0 if kind < 0.7 else 0.0, device=image.device)
        share = min(count - line, 1.0)
        part.copy_(value if share == 1.0 else part.lerp(value, share))
    return out


def gain_map(image: Tensor, sigma: float, elements: int, bands: int, key: Key) -> Tensor:
    """Leave errors of the flat-field correction: a gain for each column, amplifier and region.

    Args:
        image: (C, H, W) float32 display values.
        sigma: Standard deviation of the logarithm of the gain.
        elements: Detector columns along the longer side.
        bands: Readout amplifiers along the longer side, each with a band of columns.
        key: Whose detector.

    Returns:
        Same shape, float32. The gain's geometric mean over many detectors is 1.
    """
    longer = max(image.shape[1:])
    place = np.arange(image.shape[2])
    columns = random_fields.normal(key, "columns", (elements,), "cpu").double().numpy()
    amplifiers = random_fields.normal(key, "amplifiers", (bands,), "cpu").double().numpy()
    gain = columns[place * elements // longer] + amplifiers[place * bands // longer]
    region = random_fields.smooth(key, "region", tuple(image.shape[1:]), 0.15, "cpu")
    field = (gain[None] + region.double().numpy()) * (sigma / math.sqrt(3.0))
    return _attenuate(image, -field)


def foreign_objects(image: Tensor, count: float, mm_per_px: float, key: Key) -> Tensor:
    """Put coins, nails and tubes in the beam: attenuation ``p += mu t`` (Beer and Lambert).

    A larger count keeps the objects of a smaller one; the last is as thick as the fraction.

    Args:
        image: (C, H, W) float32 display values.
        count: Number of objects.
        mm_per_px: Size of a pixel.
        key: Whose objects.

    Returns:
        Same shape, float32. Other pixels are untouched.
    """
    total = math.ceil(count)
    attenuation = np.zeros((image.shape[1], image.shape[2]))
    for number in range(total):
        draws = _draws(key, f"object {number}", 6)
        attenuation += min(count - number, 1.0) * _object(draws, image, mm_per_px)
    return _attenuate(image, attenuation)


def _object(draws: list[float], image: Tensor, mm_per_px: float) -> NDArray[np.float64]:
    """(H, W) attenuation of one object; its kind and place are drawn."""
    kind, across, down, angle, size, bend = draws
    rows, columns = image.shape[1:]
    y = ((np.arange(rows) + 0.5) - rows * (0.15 + 0.7 * down))[:, None] * mm_per_px
    x = ((np.arange(columns) + 0.5) - columns * (0.15 + 0.7 * across)) * mm_per_px
    turn = 2.0 * math.pi * angle
    if kind < 1.0 / 3.0:
        inside = 0.5 + (8.0 + 5.0 * size - np.hypot(y, x)) / mm_per_px
        return np.asarray(_COPPER * 1.75 * np.clip(inside, 0.0, 1.0))
    if kind < 2.0 / 3.0:
        along = x * math.cos(turn) + y * math.sin(turn)
        beyond = np.maximum(np.abs(along) - (15.0 + 20.0 * size), 0.0)
        distance = np.hypot(y * math.cos(turn) - x * math.sin(turn), beyond)
        return _IRON * chord(distance, 1.5, mm_per_px)
    # A tube crosses the whole picture in a wide bend.
    radius = 150.0 + 400.0 * bend
    distance = np.abs(np.hypot(x - radius * math.cos(turn), y - radius * math.sin(turn)) - radius)
    outer = 2.0 + 2.0 * size
    wall = chord(distance, outer, mm_per_px) - chord(distance, 0.65 * outer, mm_per_px)
    return _TUBE * wall


def chord(distance: NDArray[np.float64], radius: float, width: float) -> NDArray[np.float64]:
    """Length of a ray through a cylinder across its axis, averaged over a pixel.

    Args:
        distance: Of the centre of the pixel from the axis.
        radius: Of the cylinder.
        width: Of the pixel.

    Returns:
        ``2 sqrt(radius^2 - distance^2)`` for a narrow pixel, in the same unit.
    """

    def area(upto: NDArray[np.float64]) -> NDArray[np.float64]:
        s = np.clip(upto / radius, -1.0, 1.0)
        return np.asarray(radius**2 * (s * np.sqrt(1.0 - s * s) + np.arcsin(s)))

    # Most pixels are beside the cylinder.
    found = np.zeros_like(distance)
    near = np.abs(distance) < radius + width / 2.0
    some = distance[near]
    found[near] = (area(some + width / 2.0) - area(some - width / 2.0)) / width
    return found


def tilt(image: Tensor, angle_deg: float, field: float, axis_deg: float) -> Tensor:
    """Project onto a film that is tilted about its centre, under a source at a finite distance.

    A point (u, v) of the film, v across the axis, lies on the ray that met the upright film at
    ``(u, v cos a) / (1 + v sin a / distance)``: one side is magnified, the other shrinks.

    Args:
        image: (C, H, W) float32 display values; black outside.
        angle_deg: Tilt ``a``.
        field: Longer side of the film over the distance of the source.
        axis_deg: Direction of the axis of the tilt, counter-clockwise from the x axis.

    Returns:
        Same shape, float32.
    """
    rows, columns = image.shape[1:]
    longer = max(rows, columns)
    tilted, axis = math.radians(angle_deg), math.radians(axis_deg)
    y = (((np.arange(rows) + 0.5) - rows / 2.0) / longer)[:, None]
    x = ((np.arange(columns) + 0.5) - columns / 2.0) / longer
    u = x * math.cos(axis) - y * math.sin(axis)
    v = x * math.sin(axis) + y * math.cos(axis)
    nearer = 1.0 / (1.0 + v * field * math.sin(tilted))
    u, v = u * nearer, v * nearer * math.cos(tilted)
    source_x = (u * math.cos(axis) + v * math.sin(axis)) * (2.0 * longer / columns)
    source_y = (v * math.cos(axis) - u * math.sin(axis)) * (2.0 * longer / rows)
    grid = torch.from_numpy(np.stack([source_x, source_y], axis=-1)[None]).float()
    moved = torch.nn.functional.grid_sample(
        image.contiguous()[None], grid.to(image.device), mode="bilinear", align_corners=False
    )
    return moved[0]


def rotate(image: Tensor, angle_deg: float, pixel_aspect: float) -> Tensor:
    """Turn the film in its plane; see `geometry.rotate`."""
    return geometry.rotate(image, angle_deg, pixel_aspect)


def archive(image: Tensor, matrix: int, levels: int, quality: int, share: float) -> Tensor:
    """Keep a picture as small archives do: fewer pixels, fewer gray levels, then JPEG.

    Args:
        image: (C, H, W) float32 display values.
        matrix: Longer side that is kept, in pixels; a smaller picture keeps its own.
        levels: Gray levels that are kept.
        quality: libjpeg quality.
        share: Of the result; the rest is the picture as it was.

    Returns:
        Same shape, float32, enlarged bilinearly.
    """
    size = (image.shape[1], image.shape[2])
    scale = min(1.0, matrix / max(size))
    small_size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    small = image.contiguous()[None]
    if small_size != size:
        small = torch.nn.functional.interpolate(small, size=small_size, mode="area")
    stored = jpeg.jpeg(tone.quantise(small[0], levels), quality)
    if small_size != size:
        stored = torch.nn.functional.interpolate(
            stored.contiguous()[None], size=size, mode="bilinear", align_corners=False
        )[0]
    return stored if share == 1.0 else image + (stored - image) * share


def _attenuate(image: Tensor, attenuation: NDArray[Any]) -> Tensor:
    """Add an attenuation (H, W) to a picture."""
    added = torch.from_numpy(attenuation * PER_NEPER).float()
    return image + added.to(image.device)


def _places(image: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(H, 1) and (1, W) places of pixel centres, from the top left."""
    rows, columns = image.shape[1:]
    longer = max(rows, columns)
    return (np.arange(rows)[:, None] + 0.5) / longer, (np.arange(columns)[None] + 0.5) / longer


def _draws(key: Key, stream: str, count: int) -> list[float]:
    values = random_fields.uniform(key, stream, (count,), "cpu")
    return [float(value) for value in values.tolist()]
