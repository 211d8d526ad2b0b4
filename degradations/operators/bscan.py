"""B-scans of optical coherence tomography: columns are A-scans, depth runs down the rows.

A display value x in [0, 1] stands for the intensity ``10 ** (RANGE_DB (x - 1) / 10)``: the scan is
shown in decibels, and its noise floor is near black. Speckle is a factor on that intensity and adds
to x; shadows and sensitivity are factors on what exceeds the noise floor, which the receiver makes.

Lengths without a unit are fractions of the longer side of the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators import blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Decibels from black to white: the usual range of display.
RANGE_DB = 40.0
#: Display value that a factor e of intensity takes.
_PER_NEPER = 10.0 / (RANGE_DB * math.log(10.0))
#: Least intensity that is told from none, a hundredth of what is shown black.
_LEAST = 10.0 ** (-RANGE_DB / 10.0 - 2.0)
#: Noise floor of the receiver, as a display value.
FLOOR = 0.1
#: Share of the depth over which a vessel takes its light, and of the scan over which an eye drifts.
_VESSEL, _DRIFT = 0.04, 0.12
#: Loss behind a closed lid: nothing of the brightest echo is left above the floor.
_LID_DB = 60.0
#: Jumps of the eye within a scan.
_SACCADES = 3


def to_intensity(image: Tensor) -> Tensor:
    """Intensity, from 1e-4 to 1, of display values in [0, 1]."""
    return image.contiguous().sub(1.0).mul_(1.0 / _PER_NEPER).exp_()


def to_display(intensity: Tensor) -> Tensor:
    """Display values of an intensity; the inverse of `to_intensity`, not clamped to [0, 1]."""
    return intensity.contiguous().clamp(min=_LEAST).log_().mul_(_PER_NEPER).add_(1.0)


def speckle(image: Tensor, contrast: float, grain: float, key: Key) -> Tensor:
    """Multiply the intensity by speckle, partly developed.

    The field is a steady part and a circular complex normal one that has the share m of the
    intensity, so its mean intensity is 1 and its contrast ``sqrt(m (2 - m))`` (Goodman 2007). Fully
    developed, m = 1, the amplitude is Rayleigh and the intensity exponential, that is Gamma of
    shape 1.

    Args:
        image: (C, H, W) float32 display values.
        contrast: Standard deviation of the speckle's intensity over its mean, 0 to 1.
        grain: Distance at which the field's correlation falls to 1/e.
        key: Whose speckle.

    Returns:
        Same shape, float32.
    """
    rows, columns = image.shape[1:]
    field = random_fields.smooth(key, "field", (2, rows, columns), grain, image.device)
    share = 1.0 - math.sqrt(max(0.0, 1.0 - contrast * contrast))
    real, imaginary = field * math.sqrt(share / 2.0)
    power = (real + math.sqrt(1.0 - share)).square() + imaginary.square()
    added: Tensor = power.clamp(min=_LEAST).log_().mul_(_PER_NEPER)
    return image + added


def shadow(image: Tensor, loss_db: float, count: int, key: Key) -> Tensor:
    """Darken what lies behind vessels and opacities, column by column.

    The loss grows through the depth of the vessel and stays below it. Places, widths and depths
    are drawn per image; where shadows meet their losses add.

    Args:
        image: (C, H, W) float32 display values.
        loss_db: Two-way loss behind the middle of a vessel.
        count: Number of vessels.
        key: Whose vessels.

    Returns:
        Same shape, float32; never brighter, and never less dark with depth.
    """
    rows, columns = image.shape[1:]
    y, x = _depth(rows), (np.arange(columns) + 0.5) / max(rows, columns)
    loss = np.zeros((rows, columns))
    draws = random_fields.uniform(key, "vessels", (count, 3), "cpu").double().numpy()
    for place, size, start in draws:
        half = 0.008 + 0.022 * size
        away = np.abs(x - place * columns / max(rows, columns)) / half
        across = np.where(away < 1.0, 0.5 + 0.5 * np.cos(np.pi * np.minimum(away, 1.0)), 0.0)
        # Half of them are in the retina, half are opacities of vitreous and lens, above all.
        top = max(0.0, start - 0.5) * 0.9
        down = np.clip((y - top) / _VESSEL, 0.0, 1.0) if top > 0.0 else np.ones(rows)
        loss += down[:, None] * across
    return _darken(image, loss * loss_db)


def roll_off(image: Tensor, loss_db: float) -> Tensor:
    """Lose signal with depth z as ``exp(-z / z0)``, told in decibels at the lower border."""
    share = _depth(image.shape[1])[:, None]
    return _darken(image, np.broadcast_to(share * loss_db, tuple(image.shape[1:])))


def shift_columns(image: Tensor, amplitude: float, key: Key) -> Tensor:
    """Move A-scans up and down as the eye moves during the scan: drift and jumps.

    Args:
        image: (C, H, W) float32 display values.
        amplitude: Standard deviation of the displacement in pixels.
        key: Whose motion.

    Returns:
        Same shape, float32, interpolated along depth; black from outside.
    """
    rows = image.shape[1]
    moved = displacement(image.shape[2], key) * amplitude
    whole = np.floor(moved)
    share = torch.from_numpy((moved - whole).astype(np.float32)).to(image.device)
    source = torch.arange(rows, device=image.device)[:, None]
    source = source - torch.from_numpy(whole.astype(np.int64)).to(image.device)
    # One black row above and two below: what lies further outside is as black.
    padded = torch.nn.functional.pad(image.contiguous(), (0, 0, 2, 1))
    below = (source + 2).clamp(0, rows + 2).expand(len(image), -1, -1)
    above = (source + 1).clamp(0, rows + 2).expand(len(image), -1, -1)
    return padded.gather(1, below) * (1.0 - share) + padded.gather(1, above) * share


def displacement(columns: int, key: Key) -> NDArray[np.float64]:
    """(W,) displacement of A-scans, of variance 1 over images: smooth drift and sudden jumps."""
    drift = random_fields.smooth(key, "drift", (1, columns), _DRIFT, "cpu")[0].double().numpy()
    at = random_fields.uniform(key, "when", (_SACCADES,), "cpu").double().numpy()
    jump = random_fields.normal(key, "jumps", (_SACCADES,), "cpu").double().numpy()
    time = (np.arange(columns) + 0.5) / columns
    after = (time[None] >= at[:, None]) - 0.5
    jumps = (jump[:, None] * after).sum(axis=0) / (0.5 * math.sqrt(_SACCADES))
    return np.asarray((drift + jumps) / math.sqrt(2.0))


def blink(image: Tensor, fraction: float, edge: float, key: Key) -> Tensor:
    """Lose neighbouring A-scans to a lid: no light comes back, only the noise floor is left.

    Args:
        image: (C, H, W) float32 display values.
        fraction: Of the A-scans; a larger one keeps those of a smaller one.
        edge: Fraction of the A-scans over which the lid comes and goes.
        key: When the blink is.

    Returns:
        Same shape, float32.
    """
    columns = image.shape[2]
    time = (np.arange(columns) + 0.5) / columns
    # It starts anywhere, and lasts longer to both sides, as far as there is room.
    start = key.uniform("start") * (1.0 - fraction)
    inside = np.minimum(time - start, start + fraction - time) / edge + 0.5
    # The lid closes to the degree that it has time to.
    closed = np.clip(inside, 0.0, 1.0) * min(1.0, fraction / edge)
    return _darken(image, np.broadcast_to(closed * _LID_DB, tuple(image.shape[1:])))


def mirror(image: Tensor, residual: float, key: Key) -> Tensor:
    """Add the complex conjugate image: ``I(z) + residual I(2 z0 - z)`` about the zero delay z0.

    Args:
        image: (C, H, W) float32 display values.
        residual: Intensity of the mirror image as a fraction of the image's.
        key: Where the zero delay is, from 0.3 to 0.45 of the depth.

    Returns:
        Same shape, float32.
    """
    rows = image.shape[1]
    intensity = to_intensity(image)
    fold = 2.0 * (0.3 + 0.15 * key.uniform("zero delay")) * rows
    source = fold - 1.0 - np.arange(rows)
    below = np.floor(source).astype(np.int64)
    share = torch.from_numpy((source - below).astype(np.float32))[:, None].to(image.device)
    padded = torch.nn.functional.pad(intensity, (0, 0, 2, 2))
    index = torch.from_numpy(np.clip(below, -2, rows) + 2).to(image.device)
    flipped = padded.index_select(1, index) * (1.0 - share)
    flipped += padded.index_select(1, index + 1) * share
    return to_display(intensity.add_(flipped, alpha=residual))


def defocus(image: Tensor, sigma: float) -> Tensor:
    """Widen the beam: a Gaussian along the columns' sequence, in intensity.

    Args:
        image: (C, H, W) float32 display values.
        sigma: Standard deviation in pixels.

    Returns:
        Same shape, float32. The axial resolution, which the light source sets, is kept.
    """
    reach = max(1, math.ceil(4.0 * sigma))
    place = np.arange(-reach, reach + 1)
    edges = np.array([math.erf((p - 0.5) / max(sigma, 1e-6) / math.sqrt(2.0)) for p in place])
    ends = np.array([math.erf((p + 0.5) / max(sigma, 1e-6) / math.sqrt(2.0)) for p in place])
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    kernel[reach] = (ends - edges) / (ends - edges).sum()
    return to_display(blur.convolve(to_intensity(image), kernel))


def _depth(rows: int) -> NDArray[np.float64]:
    """(H,) depth of pixel centres as a share of the whole."""
    return np.asarray((np.arange(rows) + 0.5) / rows)


def _darken(image: Tensor, loss_db: NDArray[np.float64]) -> Tensor:
    """Take decibels (H, W) off the signal; pixels that lose none, or have none, keep their bits."""
    kept = torch.from_numpy(10.0 ** (-0.1 * loss_db)).float().to(image.device)
    intensity = to_intensity(image)
    signal = intensity - 10.0 ** (0.1 * RANGE_DB * (FLOOR - 1.0))
    dark = to_display(intensity - signal * (1.0 - kept))
    return torch.where((signal > 0.0) & (kept < 1.0), torch.minimum(dark, image), image)
