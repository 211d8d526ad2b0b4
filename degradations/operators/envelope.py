"""Ultrasound in the envelope of the echo, before log compression.

Display values are taken to be the envelope in decibels, `DYNAMIC_RANGE_DB` from black to white,
above a floor that is black: ``envelope = 10**((x - 1) R / 20) - floor``. The floor is 0.001 of
white, so that it matters for the darkest levels only, where it keeps black black: no echo stays
no echo under any gain.

Beams run down the columns and depth down the rows, as under a linear probe. In the sector of a
curved probe the beams to the sides are inclined; they are taken to be vertical there too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key

#: Between black and white, in decibels.
DYNAMIC_RANGE_DB = 60.0
#: Envelope that is shown black, as a fraction of that shown white.
FLOOR = 10.0 ** (-DYNAMIC_RANGE_DB / 20.0)
#: Display value from which a pixel belongs to the picture rather than to the black around it.
_ECHO = 0.02
#: Sliders of the time gain compensation.
SLIDERS = 8
#: Grain of haze and of reverberation lines, and of the cloud that haze is, as fractions of the
#: longer side; and the spread of the logarithm of the cloud.
_CLUTTER_GRAIN, _LINE_GRAIN, _CLOUD, _CLOUD_SPREAD = 0.012, 0.03, 0.08, 0.5


def to_envelope(image: Tensor) -> Tensor:
    """Envelope of display values, white being 1 and black 0; a new tensor."""
    image = image.contiguous()
    return (image - 1.0).mul_(DYNAMIC_RANGE_DB / 20.0 * math.log(10.0)).exp_().sub_(FLOOR)


def to_display(envelope: Tensor) -> Tensor:
    """Display values of an envelope, in place; the inverse of `to_envelope`, not clamped."""
    return envelope.clamp_(min=0.0).add_(FLOOR).log10_().mul_(20.0 / DYNAMIC_RANGE_DB).add_(1.0)


def amplify(image: Tensor, gain_db: float) -> Tensor:
    """Scale the envelope of every pixel.

    Args:
        image: Display values of any float type and shape.
        gain_db: Positive is brighter.

    Returns:
        Likewise, not clamped.
    """
    return to_display(to_envelope(image).mul_(10.0 ** (gain_db / 20.0)))


def attenuate(image: Tensor, loss_db: float) -> Tensor:
    """Lose echo in proportion to depth: ``loss_db`` at the lower edge, nothing at the upper.

    Args:
        image: (C, H, W) float32 in [0, 1].
        loss_db: In decibels.

    Returns:
        (C, H, W).
    """
    return _along_beams(image, _depth(image).mul_(-loss_db))


def misadjust(image: Tensor, error_db: float, key: Key) -> Tensor:
    """Set the sliders of time gain compensation wrong, each by its own share.

    Args:
        image: (C, H, W) float32 in [0, 1].
        error_db: Of the slider that is furthest off.
        key: Whose sliders.

    Returns:
        (C, H, W).
    """
    draws = random_fields.uniform(key, "sliders", (SLIDERS,), "cpu").double() * 2.0 - 1.0
    draws = (draws - draws.mean()) / (draws - draws.mean()).abs().max()
    # Sliders are spread over the depth, with a gain that is linear between them.
    at = _depth(image).double().cpu() * (SLIDERS - 1)
    below = at.floor().clamp_(0, SLIDERS - 2)
    share = at - below
    index = below.long()
    error = draws[index] * (1.0 - share) + draws[index + 1] * share
    return _along_beams(image, error.float().to(image.device).mul_(error_db))


def speckle(image: Tensor, amount: float, grain: float, key: Key) -> Tensor:
    """Multiply the envelope by speckle: the magnitude of a constant and a random phasor.

    ``m = |sqrt(1 - a^2) + a z|`` with z complex normal of mean square 1. The mean square of m is
    1 at any amount. At 1 speckle is fully developed (Rayleigh, mean 1.91 times its standard
    deviation; 5.57 dB after log compression), below it is Rician.

    Args:
        image: (C, H, W) float32 in [0, 1].
        amount: From 0 for none to 1.
        grain: Correlation length of z, as a fraction of the longer side.
        key: Whose speckle.

    Returns:
        (C, H, W).
    """
    size = (image.shape[1], image.shape[2])
    real, imaginary = random_fields.smooth(key, "speckle", (2, *size), grain, image.device).mul_(
        amount * math.sqrt(0.5)
    )
    real.add_(math.sqrt(max(0.0, 1.0 - amount**2)))
    factor = real.square_().add_(imaginary.square_()).sqrt_()
    return to_display(to_envelope(image).mul_(factor))


def shadow(
    image: Tensor, loss_db: float, left: float, right: float, top: float, edge: float
) -> Tensor:
    """Shade what lies behind something that reflects or absorbs: below it along the beams.

    Args:
        image: (C, H, W) float32 in [0, 1].
        loss_db: In the middle of the shadow. It is reached a tenth of the depth below the top,
            and nothing comes back further down.
        left: Edge of the shadow, in pixels.
        right: Likewise.
        top: Where it begins, in pixels.
        edge: Width over which its sides fade, in pixels; at most its own width.

    Returns:
        (C, H, W).
    """
    rows, columns = image.shape[1:]
    x = torch.arange(columns, device=image.device, dtype=torch.float32)
    y = torch.arange(rows, device=image.device, dtype=torch.float32)[:, None]
    # A pixel is the least width that an edge can have.
    edge = max(edge, 1.0)
    sides = torch.minimum(x - left, right - x).div_(edge).add_(0.5).clamp_(0.0, 1.0)
    onset = ((y - top) / (0.1 * rows)).clamp_(0.0, 1.0)
    return _along_beams(image, (sides * onset).mul_(-loss_db))


def drop_elements(
    image: Tensor, fraction: float, elements: int, loss_db: float, key: Key
) -> Tensor:
    """Lose the echo of some elements of the probe, and with it the beams under them.

    Args:
        image: (C, H, W) float32 in [0, 1].
        fraction: Of elements. A larger one keeps those of a smaller one; the last is blended in.
        elements: Of the probe.
        loss_db: Under a lost element; those beside it lose a third of that.
        key: Whose probe.

    Returns:
        (C, H, W).
    """
    count = fraction * elements
    order = random_fields.positions(key, "elements", elements, elements, "cpu").tolist()
    loss = torch.zeros(elements + 2)
    for place, element in enumerate(order[: math.ceil(count)]):
        share = min(count - place, 1.0)
        loss[element : element + 3] += torch.tensor([1.0 / 3.0, 1.0, 1.0 / 3.0]) * share
    columns = image.shape[2]
    beam = (torch.arange(columns) + 0.5) / columns * elements + 0.5
    below = beam.floor()
    beyond = beam - below
    index = below.long()
    lost = loss[index] * (1.0 - beyond) + loss[(index + 1).clamp_(max=elements + 1)] * beyond
    return _along_beams(image, lost.clamp_(max=1.5).mul_(-loss_db)[None].to(image.device))


def reverberate(
    image: Tensor,
    amplitude: float,
    distance: float,
    thickness: float,
    decay: float,
    middle: float,
    width: float,
    key: Key,
) -> Tensor:
    """Add echoes that went to and fro between the probe and a reflector: lines at its multiples.

    Args:
        image: (C, H, W) float32 in [0, 1].
        amplitude: Envelope of the first line, as a fraction of white.
        distance: Depth of the reflector in rows; lines lie at 1, 2, 3, ... times this.
        thickness: Standard deviation of a line across, in rows.
        decay: Envelope of each line over that of the line above.
        middle: Of the lines, in columns.
        width: Of the lines, in columns, at half their height.
        key: For the unevenness of the lines.

    Returns:
        (C, H, W): ``E' = E + A sum_k r^k line(z - k d)`` where there is a picture.
    """
    rows, columns = image.shape[1:]
    y = torch.arange(rows, device=image.device, dtype=torch.float32)[:, None] + 0.5
    x = torch.arange(columns, device=image.device, dtype=torch.float32)
    # A line thinner than a pixel is as bright in sum.
    spread = max(thickness, 0.4)
    lines = torch.zeros(rows, 1, device=image.device)
    for echo in range(1, math.ceil(rows / distance) + 1):
        strength = decay ** (echo - 1) * thickness / spread
        lines += torch.exp(((y - echo * distance) / spread).square_().mul_(-0.5)).mul_(strength)
    lateral = torch.exp(((x - middle) / (0.5 * width)).square_().square_().mul_(-math.log(2.0)))
    film = (lines * lateral).mul_(_rayleigh(image, _LINE_GRAIN, key)).mul_(amplitude)
    return _add_echo(image, film)


def haze(image: Tensor, amplitude: float, middle: float, spread: float, key: Key) -> Tensor:
    """Add clutter of the near field: a band of echo at some depth, a cloud made of speckle.

    Args:
        image: (C, H, W) float32 in [0, 1].
        amplitude: Envelope in the middle of the band, as a fraction of white.
        middle: Depth of the band, in rows.
        spread: Standard deviation across, in rows.
        key: For its unevenness.

    Returns:
        (C, H, W): ``E' = E + A u(p) exp(-(z - z0)^2 / 2 s^2)`` where there is a picture.
    """
    y = torch.arange(image.shape[1], device=image.device, dtype=torch.float32)[:, None] + 0.5
    band = torch.exp(((y - middle) / spread).square_().mul_(-0.5))
    size = (image.shape[1], image.shape[2])
    cloud = random_fields.smooth(key, "cloud", size, _CLOUD, image.device)
    # A lognormal of mean 1.
    cloud = cloud.mul_(_CLOUD_SPREAD).sub_(0.5 * _CLOUD_SPREAD**2).exp_().mul_(band)
    return _add_echo(image, _rayleigh(image, _CLUTTER_GRAIN, key).mul_(cloud).mul_(amplitude))


def thermal_noise(
    image: Tensor, amplitude: float, rise_db: float, grain: float, key: Key
) -> Tensor:
    """Add noise of the receiver, which time gain compensation raises with depth.

    Args:
        image: (C, H, W) float32 in [0, 1].
        amplitude: Root mean square envelope of the noise at the lower edge, as a fraction of
            white.
        rise_db: By how much it is weaker at the upper edge.
        grain: Correlation length, as a fraction of the longer side.
        key: Whose noise.

    Returns:
        (C, H, W): ``E' = |E + a(z) (n1 + i n2)|`` where there is a picture.
    """
    size = (image.shape[1], image.shape[2])
    rise = torch.pow(10.0, (_depth(image) - 1.0).mul_(rise_db / 20.0))
    scale = rise.mul_(amplitude * math.sqrt(0.5))[:, None]
    real, imaginary = random_fields.smooth(key, "noise", (2, *size), grain, image.device)
    real, imaginary = real * scale, imaginary * scale
    seen = insonified(image)
    envelope = to_envelope(image)
    noisy = (envelope + real).square_().add_(imaginary.square_()).sqrt_()
    return torch.where(seen, to_display(noisy), image.contiguous())


def insonified(image: Tensor) -> Tensor:
    """Where there is a picture, not the black around a sector: (1, H, W) bool.

    A pixel is inside if its row has echo on both sides of it and its column above and below.
    Writing beside the sector widens this; black at the border of the sector narrows it.
    """
    echo = (image > _ECHO).any(dim=0).to(torch.uint8)
    inside = torch.ones_like(echo, dtype=torch.bool)
    for axis in (0, 1):
        before = echo.cummax(dim=axis).values
        after = echo.flip(axis).cummax(dim=axis).values.flip(axis)
        inside &= (before > 0) & (after > 0)
    return inside[None]


def _add_echo(image: Tensor, film: Tensor) -> Tensor:
    seen = insonified(image)
    return torch.where(seen, to_display(to_envelope(image).add_(film)), image.contiguous())


def _along_beams(image: Tensor, gain_db: Tensor) -> Tensor:
    """Multiply the envelope by a gain for every row, or every pixel, in decibels."""
    gain = torch.pow(10.0, gain_db / 20.0)
    return to_display(to_envelope(image).mul_(gain[:, None] if gain.ndim == 1 else gain))


def _depth(image: Tensor) -> Tensor:
    """(H,) depth of the rows, from 0 at the upper edge of the picture to 1 at the lower."""
    rows = image.shape[1]
    return (torch.arange(rows, device=image.device, dtype=torch.float32) + 0.5) / rows


def _rayleigh(image: Tensor, grain: float, key: Key) -> Tensor:
    """(H, W) field of Rayleigh values of mean 1."""
    size = (image.shape[1], image.shape[2])
    real, imaginary = random_fields.smooth(key, "rayleigh", (2, *size), grain, image.device)
    field: Tensor = real.square().add_(imaginary.square()).sqrt_()
    return field.mul_(math.sqrt(2.0 / math.pi))
