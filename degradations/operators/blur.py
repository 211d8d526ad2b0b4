"""Linear shift-invariant blur, by multiplication in the frequency domain.

The cost does not depend on the width of the kernel. Images are continued by mirroring about
their edges (half-sample symmetric), so blur neither darkens the border nor moves the mean of a
uniform image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from degradations.operators.sizes import fast_length


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian: the transfer function is exactly exp(-2 pi^2 sigma^2 f^2).

    Args:
        image: (C, H, W).
        sigma: Standard deviation in pixels, at least 0.

    Returns:
        (C, H, W).
    """
    margin = math.ceil(5.0 * sigma) + 1
    padded = _mirror(image, margin)
    height, width = padded.shape[-2:]
    device = image.device
    rows = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    columns = torch.fft.rfftfreq(width, dtype=torch.float64, device=device)
    scale = -2.0 * math.pi**2 * sigma**2
    transfer = torch.exp(scale * rows.square())[:, None] * torch.exp(scale * columns.square())
    return _filter(padded, transfer.float(), margin, image.shape)


def motion(image: Tensor, length: float, angle_deg: float) -> Tensor:
    """Average along a straight line centred on each pixel.

    Args:
        image: (C, H, W).
        length: Length of the line in pixels, at least 0.
        angle_deg: Direction, counter-clockwise from the image's x axis.

    Returns:
        (C, H, W).
    """
    kernel = line_kernel(length, angle_deg)
    radius = kernel.shape[0] // 2
    padded = _mirror(image, radius)
    origin = torch.zeros(padded.shape[-2:], dtype=torch.float32)
    origin[: 2 * radius + 1, : 2 * radius + 1] = torch.from_numpy(kernel).float()
    origin = torch.roll(origin, (-radius, -radius), dims=(0, 1)).to(image.device)
    return _filter(padded, torch.fft.rfft2(origin), radius, image.shape)


def line_kernel(
    length: float, angle_deg: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Antialiased kernel of uniform motion along a line.

    The continuous line is spread over the four pixels around each of its points (bilinear), at
    16 points per pixel. The second moment along the line is ``length**2 / 12`` and zero across
    it, each plus at most 1/6 pixel**2 of antialiasing.

    Returns:
        Square float64 array of odd size, non-negative, summing to 1.
    """
    count = max(1, math.ceil(length * 16.0))
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    angle = math.radians(angle_deg)
    x = along * math.cos(angle)
    y = -along * math.sin(angle)
    radius = math.ceil(length / 2.0) + 1
    size = 2 * radius + 1
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, down = x - column, y - row
    kernel = np.zeros(size * size, dtype=np.float64)
    corners = (
        (0, 0, (1.0 - down) * (1.0 - right)),
        (0, 1, (1.0 - down) * right),
        (1, 0, down * (1.0 - right)),
        (1, 1, down * right),
    )
    for below, beside, weight in corners:
        position = (row + below + radius) * size + column + beside + radius
        kernel += np.bincount(position, weight, minlength=size * size)
    kernel /= kernel.sum()
    return kernel.reshape(size, size)


def _mirror(image: Tensor, margin: int) -> Tensor:
    """Continue an image by reflection, by ``margin`` or a little more to a size quick to FFT."""
    rows = _mirrored_index(image.shape[-2], margin, image.device)
    columns = _mirrored_index(image.shape[-1], margin, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def _mirrored_index(size: int, margin: int, device: torch.device) -> Tensor:
    total = fast_length(size + 2 * margin)
    index = torch.arange(-margin, total - margin, device=device).remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def _filter(padded: Tensor, transfer: Tensor, margin: int, shape: torch.Size) -> Tensor:
    spectrum = torch.fft.rfft2(padded).mul_(transfer)
    result: Tensor = torch.fft.irfft2(spectrum, s=padded.shape[-2:])
    return result[..., margin : margin + shape[-2], margin : margin + shape[-1]].contiguous()
