"""Reference pictures: real ones that come inside wheels, and synthetic ones with known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pydicom.examples
import pytest
import skimage.data
import skimage.transform
import torch
from torch import Tensor

SIZE = 256


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _display(values: np.ndarray, size: int = SIZE) -> Tensor:
    """(H, W) or (H, W, 3) in [0, 1] to (C, size, size)."""
    small = skimage.transform.resize(values, (size, size), order=1, anti_aliasing=True)
    channels_first = small[None] if small.ndim == 2 else small.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels_first, dtype=np.float32)).clamp(0, 1)


def _disk(size: int, row: float, column: float, radius: float) -> Tensor:
    """Disk of ones; centre and radius as fractions of the side."""
    place = (torch.arange(size * 2) + 0.5) / (size * 2)
    inside = (place[:, None] - row) ** 2 + (place[None] - column) ** 2 < radius**2
    return torch.nn.functional.avg_pool2d(inside.float()[None], 2)[0]


def make_radiograph(size: int) -> Tensor:
    """A chest-like picture: body, two lungs, a nodule, ribs. Analytic, so sharp at any size."""
    body = 0.35 + 0.4 * _disk(size, 0.55, 0.5, 0.42)
    lungs = _disk(size, 0.5, 0.32, 0.14) + _disk(size, 0.5, 0.68, 0.14)
    rows = (torch.arange(size) + 0.5) / size
    ribs = 0.06 * torch.sin(2 * torch.pi * 9 * rows)[:, None]
    return (body - 0.35 * lungs + 0.25 * _disk(size, 0.45, 0.3, 0.04) + ribs).clamp(0, 1)[None]


def make_tissue(size: int = SIZE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Haematoxylin and eosin amounts (2, H, W), and what white light makes of them (3, H, W)."""
    draw = torch.Generator().manual_seed(seed)
    eosin = torch.where(_disk(size, 0.45, 0.5, 0.4) > 0.5, 0.35, 0.0)
    haematoxylin = torch.zeros(size, size)
    for _ in range(40):
        row, column = (0.2 + 0.6 * torch.rand(2, generator=draw)).tolist()
        haematoxylin += 0.5 * _disk(size, row, column, 0.02)
    amounts = torch.stack([haematoxylin.clamp(max=0.8), eosin])
    # Ruifrok and Johnston 2001, Table 1, normalised.
    stains = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    stains = stains / stains.norm(dim=1, keepdim=True)
    return amounts, 10 ** -torch.einsum("shw,sd->dhw", amounts, stains)


def make_head(size: int = SIZE) -> Tensor:
    """Hounsfield units of a head-like slice (1, H, W): skull, brain, a bleed, air around."""
    skull, brain = _disk(size, 0.5, 0.5, 0.42), _disk(size, 0.5, 0.5, 0.38)
    return (-1000 + 1900 * skull - 865 * brain + 35 * _disk(size, 0.42, 0.6, 0.06))[None]


@pytest.fixture(scope="session")
def radiograph() -> Callable[[int], Tensor]:
    return make_radiograph


@pytest.fixture(scope="session")
def tissue() -> tuple[Tensor, Tensor]:
    return make_tissue()


@pytest.fixture(scope="session")
def head() -> Tensor:
    return make_head()


@pytest.fixture(scope="session")
def ct_slice() -> tuple[Tensor, tuple[float, float]]:
    """A real abdominal slice in Hounsfield units, at the 128 pixels it comes in, and spacing."""
    data = pydicom.examples.ct
    hu = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    row_mm, column_mm = (float(mm) for mm in data.PixelSpacing)
    return torch.from_numpy(hu.astype(np.float32))[None], (row_mm, column_mm)


@pytest.fixture(scope="session")
def pictures(ct_slice: tuple[Tensor, tuple[float, float]]) -> dict[str, Tensor]:
    """Display pictures by name, each (C, 256, 256)."""
    mr = pydicom.examples.mr.pixel_array.astype(float)
    return {
        "retina": _display(skimage.data.retina() / 255.0),
        "histology": _display(skimage.data.immunohistochemistry() / 255.0),
        "mr": _display(np.clip(mr / np.percentile(mr, 99.5), 0, 1)),
        "ct": _display(np.clip((ct_slice[0][0].numpy() + 160) / 400, 0, 1)),
        "phantom": _display(skimage.data.shepp_logan_phantom()),
        "radiograph": make_radiograph(SIZE),
        "tissue": make_tissue()[1],
    }
