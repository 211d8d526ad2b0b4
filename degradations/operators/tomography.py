"""Parallel-beam computed tomography of one slice: projection and filtered backprojection."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from degradations import random_fields
from degradations.keys import Key
from degradations.operators.sizes import fast_length

#: Linear attenuation of water at 70 keV, in 1/mm (NIST: 0.1929 cm^2/g).
WATER_PER_MM = 0.0193


@dataclass(frozen=True)
class Geometry:
    """Where rays run through a slice.

    Attributes:
        height: Rows of the slice.
        width: Columns of the slice.
        row_mm: Distance between rows.
        column_mm: Distance between columns.
        views: Number of directions, spread evenly over 180 degrees.
    """

    height: int
    width: int
    row_mm: float
    column_mm: float
    views: int

    @property
    def pitch_mm(self) -> float:
        """Distance between neighbouring rays."""
        return min(self.row_mm, self.column_mm)

    @property
    def rays(self) -> int:
        """Rays per view: an odd number that covers the diagonal."""
        diagonal = math.hypot(self.height * self.row_mm, self.width * self.column_mm)
        return 2 * math.ceil(diagonal / 2.0 / self.pitch_mm) + 1

    def angles(self) -> list[float]:
        """Direction of each view's detector axis, in radians from the x axis."""
        return [math.pi * view / self.views for view in range(self.views)]


def project(mu: Tensor, geometry: Geometry) -> Tensor:
    """Line integrals by Joseph's method (IEEE Trans. Med. Imaging 1982).

    Args:
        mu: (H, W) attenuation in 1/mm; zero outside.
        geometry: Where the rays run.

    Returns:
        (views, rays), dimensionless.
    """
    steep = _Lines(mu, geometry.row_mm, geometry.column_mm, geometry)
    flat = _Lines(mu.t(), geometry.column_mm, geometry.row_mm, geometry)
    sinogram = torch.empty(geometry.views, geometry.rays, device=mu.device)
    for view, angle in enumerate(geometry.angles()):
        cosine, sine = math.cos(angle), math.sin(angle)
        # A ray is x cos + y sin = t. Step along the axis that it follows more closely.
        if abs(cosine) >= abs(sine):
            sinogram[view] = steep.integrate(cosine, sine)
        else:
            sinogram[view] = flat.integrate(sine, cosine)
    return sinogram


class _Lines:
    """An image as lines that rays cross; holds the buffers that all views share."""

    def __init__(self, image: Tensor, step: float, spacing: float, geometry: Geometry) -> None:
        count, width = image.shape
        device = image.device
        # A zero before each line and two behind: rays that miss it read zeros.
        padded = torch.nn.functional.pad(image, (1, 2))
        self._values = padded.reshape(-1)
        self._rises = torch.nn.functional.pad(padded.diff(dim=1), (0, 1)).reshape(-1)
        self._starts = (width + 3) * torch.arange(count, dtype=torch.int32, device=device)[:, None]
        self._last = width + 1.0
        self._middle = (width - 1) / 2.0 + 1.0
        self._lines = _centred(count, step, device)[:, None]
        self._rays = _centred(geometry.rays, geometry.pitch_mm, device)[None]
        self._step, self._spacing = step, spacing
        shape = (count, geometry.rays)
        self._x = torch.empty(shape, device=device)
        self._index = torch.empty(shape, dtype=torch.int32, device=device)
        self._rise = torch.empty(count * geometry.rays, device=device)
        self._value = torch.empty(count * geometry.rays, device=device)

    def integrate(self, across: float, along: float) -> Tensor:
        """Integrals of all rays of one view: where each crosses a line, interpolate and sum."""
        scale = 1.0 / (across * self._spacing)
        x = torch.sub(self._rays * scale + self._middle, self._lines * (along * scale), out=self._x)
        x.clamp_(0.0, self._last)
        self._index.copy_(x)
        x.sub_(self._index)
        index = self._index.add_(self._starts).view(-1)
        torch.index_select(self._rises, 0, index, out=self._rise)
        torch.index_select(self._values, 0, index, out=self._value)
        value = self._value.addcmul_(self._rise, x.view(-1)).view(x.shape)
        return value.sum(dim=0).mul_(self._step / abs(across))


def backproject(sinogram: Tensor, geometry: Geometry) -> Tensor:
    """Filtered backprojection with the band-limited ramp filter (Kak and Slaney 1988, ch. 3).

    Args:
        sinogram: (views, rays).
        geometry: As for `project`.

    Returns:
        (H, W) in 1/mm.
    """
    device = sinogram.device
    rays, pitch = geometry.rays, geometry.pitch_mm
    length = fast_length(2 * rays)
    spectrum = torch.fft.rfft(sinogram, n=length) * _ramp(length, device)
    # The constant gathers the width of a view, pi / views, and the spacing of the ramp.
    filtered = torch.fft.irfft(spectrum, n=length)[:, :rays] * (math.pi / geometry.views / pitch)
    rises = torch.nn.functional.pad(filtered.diff(dim=1), (0, 1))
    y = _centred(geometry.height, geometry.row_mm, device)[:, None] / pitch
    x = _centred(geometry.width, geometry.column_mm, device)[None] / pitch
    place = torch.empty(geometry.height, geometry.width, device=device)
    index = torch.empty(place.shape, dtype=torch.int32, device=device)
    value, rise = torch.empty_like(place).view(-1), torch.empty_like(place).view(-1)
    total = torch.zeros_like(value)
    for view, angle in enumerate(geometry.angles()):
        torch.add(x * math.cos(angle) + (rays - 1) / 2.0, y * math.sin(angle), out=place)
        index.copy_(place)
        place.sub_(index)
        torch.index_select(filtered[view], 0, index.view(-1), out=value)
        torch.index_select(rises[view], 0, index.view(-1), out=rise)
        total.add_(value).addcmul_(rise, place.view(-1))
    return total.view(place.shape)


def low_dose(hu: Tensor, geometry: Geometry, photons: float, electronic: float, key: Key) -> Tensor:
    """Add the noise of a scan with few photons.

    The slice is projected; counts are Poisson about ``photons * exp(-p)`` plus normal electronic
    noise; what the logarithm makes of them, less ``p``, is reconstructed and added. As
    reconstruction is linear this is ``x + FBP(noisy) - FBP(clean)``: the slice keeps the
    sharpness that it came with.

    Args:
        hu: (1, H, W) in Hounsfield units.
        geometry: Where the rays run.
        photons: Photons per ray without an object.
        electronic: Standard deviation of the electronic noise, in photons.
        key: Whose noise.

    Returns:
        (1, H, W) in Hounsfield units, not clamped.
    """
    mu = (hu[0] / 1000.0 + 1.0).mul_(WATER_PER_MM).clamp_(min=0.0)
    integrals = project(mu, geometry).double()
    counts = random_fields.poisson(key, "quanta", photons * torch.exp(-integrals))
    readout = random_fields.normal(key, "electronics", integrals.shape, hu.device)
    counts += electronic * readout
    # A ray that counts nothing has no logarithm; it is given one photon, as scanners do.
    error = -torch.log(counts.clamp_(min=1.0) / photons) - integrals
    residual = backproject(error.float(), geometry)
    return hu + residual[None] * (1000.0 / WATER_PER_MM)


def _centred(count: int, spacing: float, device: torch.device) -> Tensor:
    """Positions of ``count`` samples about zero."""
    places = torch.arange(count, dtype=torch.float32, device=device)
    return (places - (count - 1) / 2.0) * spacing


@functools.lru_cache(maxsize=16)
def _ramp(length: int, device: torch.device) -> Tensor:
    """Transfer function of the ramp, from its band-limited impulse response at unit spacing."""
    n = torch.fft.fftfreq(length, 1.0 / length, dtype=torch.float64).round()
    response = torch.where(n.remainder(2) == 1, -1.0 / (math.pi * n).square(), 0.0)
    response[0] = 0.25
    transfer: Tensor = torch.fft.rfft(response).real
    return transfer.float().to(device)
