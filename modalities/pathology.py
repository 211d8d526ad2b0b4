"""Histology: slides and tiles of slides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalities.image import ImageError, MedicalImage
from modalities.registry import Modality

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("macenko",)

# Macenko et al. 2009: pixels of a lower optical density are glass, and so many per cent of the
# pixels lie beyond each of the two stains.
GLASS = 0.15
BEYOND = 1.0
# Fewer tissue pixels than this say nothing of 1 %.
LEAST = 1000
# Degrees between two stains; haematoxylin and eosin are some 30 apart.
CLOSEST = 5.0


def stain_matrix(
    image: MedicalImage, method: str = "macenko", *, white: float | tuple[float, ...] = 1.0
) -> Tensor:
    """The colours of haematoxylin and eosin in an image, as they absorb light.

    By Beer and Lambert, `-log10(pixel / white)` is the amounts of the stains `(H, W, 2)` times
    this matrix. It is found as M. Macenko et al. (A method for normalizing histology slides for
    quantitative analysis, ISBI 2009) do: the tissue's optical densities lie about a plane, and
    the stains are the directions in it that 1 % of them lie beyond. A pixel is tissue where the
    length of its optical density is at least 0.15. Which direction is which is told by red light,
    of which haematoxylin takes more. Nothing is normalised: the image stays as it is.

    Args:
        image: RGB, of tissue stained with both; a `patch="tissue"` of a slide serves.
        method: `macenko`.
        white: Brightness of clear glass in [0, 1], for all channels or for R, G and B.

    Returns:
        float32 `(2, 3)`: rows haematoxylin and eosin, columns R, G and B, each row of length 1
        and nowhere negative.

    Raises:
        ImageError: The image is grey or a volume, holds too little tissue, or only one stain.
    """
    import torch

    if method not in METHODS:
        raise ImageError(
            f"method: no {method!r} for a stain matrix; valid are {', '.join(METHODS)}"
        )
    if image.pixels.ndim != 3 or image.pixels.shape[0] != 3:
        raise ImageError("stain_matrix: needs a colour image; load the slide or tile in RGB")
    glass = torch.tensor(white, dtype=torch.float64).expand(3)
    if not bool(((glass > 0) & (glass <= 1)).all()):
        raise ImageError(f"white: expected brightness above 0 and up to 1, got {white!r}")
    pixels = image.to_display().pixels.cpu().reshape(3, -1).T.double()
    # Half of one 8-bit level, so that black is not infinitely dense.
    density = -torch.log10(pixels.clamp(min=0.5 / 255) / glass)
    tissue = density[density.norm(dim=1) >= GLASS]
    if len(tissue) < LEAST:
        raise ImageError(
            f"stain_matrix: {len(tissue)} pixels of tissue, at least {LEAST} are needed; "
            "choose a region with more"
        )
    # Directions through the origin, the last one explaining most: a plane of two stains.
    plane = torch.linalg.eigh(tissue.T @ tissue).eigenvectors[:, 1:].flip(1)
    plane = plane * torch.where(plane.sum(dim=0) < 0, -1.0, 1.0)
    along, across = (tissue @ plane).unbind(dim=1)
    angle = torch.atan2(across, along)
    angle = angle.sort().values  # torch.quantile takes 2**24 values at most
    at = round(BEYOND / 100 * (len(angle) - 1))
    ends = torch.stack([angle[at], angle[len(angle) - 1 - at]])
    if float(ends[1] - ends[0]) < CLOSEST * torch.pi / 180:
        raise ImageError("stain_matrix: only one stain was found; choose a region with both")
    stains = torch.stack([ends.cos(), ends.sin()], dim=1) @ plane.T
    stains = torch.nn.functional.normalize(stains.clamp(min=0.0), dim=1)
    redder: Tensor = stains.flip(0) if stains[0, 0] < stains[1, 0] else stains
    return redder.float()


MODALITY = Modality(
    name="pathology",
    description="histology slide or tile, RGB",
)
