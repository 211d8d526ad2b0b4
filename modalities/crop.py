"""Finding the picture on what was stored: shutters, black surrounds, fields of view.

Every function is a `Step` of a modality: it takes a plane and what the file said, and returns the
plane cut out and where it lay, as `x,y,width,height` in pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modalities.image import ImageError, MedicalImage, RawImage, Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A border may vary by this much of the brightness range: noise, scatter and JPEG's ripples.
FLAT = 0.04
# Brighter than this above the surround belongs to the picture.
DARK = 0.06
# A surround is no brighter than this, video's black level included.
BLACKEST = 0.1
# Less than this share of the image is no picture but a finding gone wrong.
LEAST = 0.1


def cut(image: MedicalImage, box: Region) -> tuple[MedicalImage, str]:
    """The part of a plane, and what to say of it."""
    part = image.pixels[:, box.y : box.y + box.height, box.x : box.x + box.width]
    spacing = box.spacing_mm if image.spacing_mm is None else image.spacing_mm
    return replace(image, pixels=part.contiguous(), spacing_mm=spacing), place(box)


def place(box: Region) -> str:
    """Where a box lies, in words."""
    return f"{box.x},{box.y},{box.width},{box.height}"


def shutter(image: MedicalImage, raw: RawImage) -> tuple[MedicalImage, str]:
    """Take off the flat strips around a radiograph: shutter, collimator, unexposed film.

    A row or column at the edge belongs to the border while the middle nine tenths of its
    brightness lie within `FLAT`. Only borders parallel to the edges are found.

    Raises:
        ImageError: Nothing would be left.
    """
    import numpy as np

    brightness = _brightness(image)
    top, bottom = _inner(_spread(brightness))
    if bottom > top:
        left, right = _inner(_spread(np.ascontiguousarray(brightness[top:bottom].T)))
    if bottom <= top or right <= left or _share(brightness, left, top, right, bottom) < LEAST:
        raise ImageError("the image is flat nearly everywhere; leave the choice out")
    return cut(image, Region(left, top, right - left, bottom - top))


def surround(image: MedicalImage, raw: RawImage) -> tuple[MedicalImage, str]:
    """Cut to the picture on a black screen: its largest connected part that is not dark.

    Writing and icons beside the picture go; what is written into it stays.

    Raises:
        ImageError: No such part takes up a tenth of the image.
    """
    return cut(image, _largest(_brightness(image)))


def field_of_view(image: MedicalImage, raw: RawImage) -> tuple[MedicalImage, str]:
    """Cut a fundus photograph to the square around its circle, the circle's centre in the middle.

    A circle the camera cut off at the top and bottom is centred too: what is missing is black.
    A photograph without a dark surround is returned as it is.

    Raises:
        ImageError: There is no bright circle.
    """
    import torch

    box = _largest(_brightness(image))
    height, width = image.pixels.shape[1:]
    if box.width * box.height >= 0.98 * height * width:
        return image, "whole image, it has no dark surround"
    side = max(box.width, box.height)
    x = box.x - (side - box.width) // 2
    y = box.y - (side - box.height) // 2
    left, top = max(0, -x), max(0, -y)
    right, bottom = max(0, x + side - width), max(0, y + side - height)
    padded = torch.nn.functional.pad(image.pixels, (left, right, top, bottom))
    part = padded[:, y + top : y + top + side, x + left : x + left + side]
    what = place(Region(x, y, side, side))
    return replace(image, pixels=part.contiguous()), what


def region(image: MedicalImage, raw: RawImage) -> tuple[MedicalImage, str]:
    """Cut an ultrasound screen to the picture its file names (SequenceOfUltrasoundRegions).

    Raises:
        ImageError: The file names none.
    """
    if raw.picture is None:
        raise ImageError(
            "the file has no 2-D tissue region (SequenceOfUltrasoundRegions); leave the choice out"
        )
    return cut(image, raw.picture)


def bright(brightness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where there is more than the dark surround, if there is one."""
    import numpy as np

    # The surround is as dark as the image gets; a percentile, since single pixels may be darker.
    surround = min(float(np.percentile(brightness, 0.5)), BLACKEST)
    mask: NDArray[np.bool_] = brightness > surround + DARK
    return mask


def _brightness(image: MedicalImage) -> NDArray[np.float32]:
    """`(H, W)` in [0, 1]; of a colour image its brightest channel."""
    shown: NDArray[np.float32] = image.to_display().pixels.amax(dim=0).cpu().numpy()
    return shown


def _spread(lines: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows are not flat."""
    import numpy as np

    low, high = np.percentile(lines, (5, 95), axis=1)
    varied: NDArray[np.bool_] = high - low > FLAT
    return varied


def _inner(varied: NDArray[np.bool_]) -> tuple[int, int]:
    """First row that is not flat, and the one after the last."""
    import numpy as np

    at = np.flatnonzero(varied)
    return (int(at[0]), int(at[-1]) + 1) if at.size else (0, 0)


def _share(brightness: NDArray[np.float32], left: int, top: int, right: int, bottom: int) -> float:
    return (right - left) * (bottom - top) / brightness.size


def _largest(brightness: NDArray[np.float32]) -> Region:
    import cv2
    import numpy as np

    mask = bright(brightness).astype(np.uint8)
    # Opening cuts thin bridges (frames, rulers) between the picture and what is beside it.
    size = max(3, min(mask.shape) // 100) | 1
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((size, size), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count > 1:
        areas = stats[1:, cv2.CC_STAT_AREA]
        x, y, width, height, area = (int(n) for n in stats[1 + int(np.argmax(areas))])
        if area >= LEAST * mask.size:
            return Region(x, y, width, height)
    raise ImageError("no bright picture on a dark surround was found; leave the choice out")
