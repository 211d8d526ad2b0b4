"""Stains as dyes that absorb light (Beer-Lambert)."""

from __future__ import annotations

import torch
from torch import Tensor

#: Optical density of haematoxylin and eosin in R, G, B (Ruifrok and Johnston 2001, Table 1).
HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
#: A pixel this dark (half of one 8-bit level) counts as opaque.
_DARKEST = 0.5 / 255.0


def basis() -> Tensor:
    """Unit stain vectors as rows: haematoxylin, eosin, and their normal. float64 (3, 3)."""
    stains = torch.tensor([HAEMATOXYLIN, EOSIN], dtype=torch.float64)
    stains = stains / stains.norm(dim=1, keepdim=True)
    normal = torch.linalg.cross(stains[0], stains[1])
    return torch.cat([stains, (normal / normal.norm())[None]])


def concentrations(image: Tensor) -> Tensor:
    """Amounts of haematoxylin, eosin and remainder. (3, H, W) RGB in [0, 1] to (3, H, W)."""
    density = -torch.log10(image.clamp(min=_DARKEST))
    unmix = torch.linalg.inv(basis()).float().to(image.device)
    return torch.einsum("dhw,ds->shw", density, unmix)


def restain(
    image: Tensor, scale: tuple[float, float], shift: tuple[float, float], tissue_density: float
) -> Tensor:
    """Scale and shift the amount of each stain where there is tissue: ``C' = scale C + shift``.

    The shift is weighted by ``1 - exp(-A / tissue_density)``, where A is the stain already
    there: glass takes no stain, so white stays white. The remainder of the optical density,
    which neither stain explains, is kept.

    Args:
        image: (3, H, W) RGB in [0, 1], 1 being the unattenuated light.
        scale: For haematoxylin and eosin.
        shift: For haematoxylin and eosin, in optical density.
        tissue_density: Optical density over which the shift fades out towards glass.

    Returns:
        (3, H, W), not clamped.
    """
    stains = concentrations(image)[:2]
    tissue = 1.0 - torch.exp(-stains.clamp(min=0.0).sum(dim=0) / tissue_density)
    factor = torch.tensor(scale, device=image.device)[:, None, None]
    offset = torch.tensor(shift, device=image.device)[:, None, None]
    change = (factor - 1.0) * stains + offset * tissue
    density = torch.einsum("shw,sd->dhw", change, basis()[:2].float().to(image.device))
    return image * torch.pow(10.0, -density)
