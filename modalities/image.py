"""A medical image: pixels in physical units, how they are shown, and where they came from."""

from __future__ import annotations

import dataclasses
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Domain = Literal["display", "linear", "hu", "projection", "kspace", "od", "envelope"]
Plane = Literal["axial", "coronal", "sagittal"]
WindowFunction = Literal["linear", "linear_exact", "sigmoid", "log10"]
SliceChoice = int | float | str

# Values (channels x voxels) one image may hold: a CT of 512 slices.
# 2**27 float32 are 512 MiB, so that a load with its intermediate copies stays below 1.5 GB.
MAX_VALUES = 2**27

# Control characters, ends of lines and paragraphs, and the bytes of a name that are no UTF-8.
_UNSHOWN = ("Cc", "Zl", "Zp", "Cs")

# Values one plane may hold, less since decoders and windows hold several copies of it at a time.
MAX_PLANE = 3 * 2**25


def one_line(text: str) -> str:
    r"""The text with control characters and line ends escaped: names of files may hold any.

    >>> print(one_line("two" + chr(10) + "lines, naïve"))
    two\nlines, naïve
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSHOWN else c
        for c in text
    )


class ImageError(ValueError):
    """An image that cannot be used.

    The message reads `file: cause; mend`, on one line whatever the file is called, and quotes
    nothing of what the file says about a patient.

    Attributes:
        file: The file or folder as it was given to `load`; None when the fault is not a file's.

    >>> error = ImageError("a.dcm: Rows: is missing; repair the header", file="a.dcm")
    >>> error.file, error.cause, error.mend
    ('a.dcm', 'Rows: is missing', 'repair the header')
    """

    def __init__(self, message: str, *, file: str | None = None) -> None:
        super().__init__(one_line(message))
        self.file = file

    @property
    def cause(self) -> str:
        """What is wrong, without the file and the mend."""
        return self._parts()[0]

    @property
    def mend(self) -> str:
        """What to do about it; empty when the cause says so itself."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        text = str(self).removeprefix(f"{one_line(str(self.file))}: ")
        cause, found, mend = text.rpartition("; ")
        return (cause, mend) if found else (text, "")


class ImageWarning(UserWarning):
    """An image that was used although something about it had to be assumed or repaired."""


@dataclass(frozen=True)
class Window:
    """A grey-scale transformation from stored units to brightness in [0, 1].

    The first three functions are those of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3. With `lut` the
    window is a VOI LUT instead (PS3.3 C.11.2) and centre, width and function are not used.

    Attributes:
        center: Window centre, in the units of the pixels.
        width: Window width, same units, > 0 (>= 1 for `linear`).
        function: `linear` (the DICOM default, with its half-unit offset), `linear_exact`,
            `sigmoid`, or `log10`: `linear_exact` on the decimal logarithm of the pixels, whose
            units centre and width then have.
        name: What the window is called, e.g. `brain`.
        inverted: Low values are bright (DICOM MONOCHROME1).
        lut: Brightness in [0, 1] per input value, or None.
        lut_first: The input value of `lut[0]`.

    >>> Window(40, 80, name="brain").describe()
    'brain 40/80'
    """

    center: float
    width: float
    function: WindowFunction = "linear"
    name: str = ""
    inverted: bool = False
    lut: tuple[float, ...] | None = None
    lut_first: int = 0

    def __post_init__(self) -> None:
        if self.lut is not None:
            return
        least = 1.0 if self.function == "linear" else 0.0
        ok = self.width >= least and self.width > 0 and abs(self.center) < float("inf")
        if not ok or self.width == float("inf"):
            raise ValueError(
                f"window {self.center:g}/{self.width:g}: a {self.function} window needs a finite "
                f"centre and a finite width {'>= 1' if least else '> 0'}"
            )

    def describe(self) -> str:
        """The window in a few words, e.g. `brain 40/80`."""
        if self.lut is not None:
            text = f"VOI LUT, {len(self.lut)} entries"
        else:
            text = f"{self.center:g}/{self.width:g}"
            if self.function != "linear":
                text += f" {self.function}"
        if self.inverted:
            text += " inverted"
        return f"{self.name} {text}".strip()

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """Brightness in [0, 1], same shape as `pixels`."""
        import torch

        if not pixels.is_floating_point():
            pixels = pixels.float()
        if self.lut is not None:
            table = torch.tensor(self.lut, dtype=torch.float32, device=pixels.device)
            index = (pixels.round() - self.lut_first).clamp(0, len(self.lut) - 1)
            shown = table[index.long()]
        elif self.function == "sigmoid":
            shown = torch.sigmoid(4.0 * (pixels - self.center) / self.width)
        elif self.function == "log10":
            least = torch.finfo(pixels.dtype).tiny
            decades = pixels.clamp_min(least).log10()
            shown = ((decades - self.center) / self.width + 0.5).clamp(0.0, 1.0)
        elif self.function == "linear_exact":
            shown = (pixels - self.center).div_(self.width).add_(0.5).clamp_(0.0, 1.0)
        elif self.width == 1:
            shown = (pixels > self.center - 0.5).to(pixels.dtype)
        else:
            shown = pixels - (self.center - 0.5)
            shown = shown.div_(self.width - 1.0).add_(0.5).clamp_(0.0, 1.0)
        return shown.neg_().add_(1.0) if self.inverted else shown


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels, and their spacing `(row, column)` in mm where it is known."""

    x: int
    y: int
    width: int
    height: int
    spacing_mm: tuple[float, float] | None = None


@dataclass
class RawImage:
    """What a file holds, before a modality says what it means. Made by the format readers.

    Attributes:
        values: `(C, H, W)` or `(C, D, H, W)`; volumes have D running from inferior to superior,
            H from anterior to posterior and W from patient right to left. Readers may leave
            planes of bytes as uint8; a modality's functions always get float32.
        file: The file's name, for messages.
        provenance: Facts for `MedicalImage.provenance`; no patient data.
        display_range: Values shown as black and white when the file says so (8-bit grey, colour);
            None where a window is needed.
        physical: The values are measurements (HU, signal), not brightness.
        hounsfield: The values are Hounsfield units, as far as the file says.
        spacing_mm: `(row, column)` or `(slice, row, column)`, or None when unknown.
        windows: The file's own windows, best first.
        inverted: Low values are bright (MONOCHROME1).
        padding: True where a pixel carries no image, same shape as `values`, or None.
        kind: The modality the file declares, or None.
        picked: `values` is this one slice (index, of so many) of a volume, already chosen.
        overlay: True where the file's overlays draw, same shape as `values`, or None.
        picture: Where the file says the picture lies on the screen that was stored, or None.
        intensity: How stored values relate to beam intensity as far as the file says: `linear`.
        choices: Every choice made, e.g. `{"slice": "12 of 35 (asked)"}`.
        warnings: What had to be assumed or repaired.
    """

    values: NDArray[Any]
    file: str
    provenance: dict[str, Any]
    display_range: tuple[float, float] | None = None
    physical: bool = False
    hounsfield: bool = False
    spacing_mm: tuple[float, ...] | None = None
    windows: tuple[Window, ...] = ()
    inverted: bool = False
    padding: NDArray[np.bool_] | None = None
    kind: str | None = None
    picked: tuple[int, int] | None = None
    overlay: NDArray[np.bool_] | None = None
    picture: Region | None = None
    intensity: Literal["linear"] | None = None
    choices: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class MedicalImage:
    """An image ready to be degraded or shown.

    Attributes:
        pixels: float32 `(C, H, W)` with C 1 or 3, or `(C, D, H, W)` for a volume. In the domain
            `display` the range is [0, 1], in `hu` Hounsfield units, in `linear` intensity.
            A volume's D runs from inferior to superior, H from anterior to posterior, W from
            patient right to patient left.
        domain: The space the pixels are in.
        modality: How the image was made, e.g. `ct`.
        spacing_mm: Pixel spacing `(row, column)`, or `(slice, row, column)`, or None.
        window: How the pixels are shown; in the domain `display` how they were.
        provenance: `sha256` of the source bytes, `format`, `choices` (every choice that was made
            and by whom), `warnings`, and facts of the format. JSON-able, without patient data.
    """

    pixels: torch.Tensor
    domain: Domain
    modality: str
    spacing_mm: tuple[float, ...] | None = None
    window: Window | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        pixels = self.pixels
        if pixels.dtype != torch.float32 or pixels.ndim not in (3, 4):
            raise ValueError(
                "pixels: expected float32 (C, H, W) or (C, D, H, W), "
                f"got {pixels.dtype} {tuple(pixels.shape)}"
            )
        if pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
            raise ValueError(f"pixels: expected 1 or 3 channels, got {tuple(pixels.shape)}")
        if self.spacing_mm is not None and len(self.spacing_mm) != pixels.ndim - 1:
            raise ValueError(
                f"spacing_mm: expected {pixels.ndim - 1} numbers, got {self.spacing_mm}"
            )
        if self.domain != "display" and self.window is None:
            raise ValueError(f"window: pixels in the domain {self.domain!r} need a window")

    def with_pixels(self, pixels: torch.Tensor) -> MedicalImage:
        """The same image with other pixels of the same layout."""
        if pixels.ndim != self.pixels.ndim:
            raise ValueError(
                f"pixels: expected {self.pixels.ndim} dimensions, got {tuple(pixels.shape)}"
            )
        return dataclasses.replace(self, pixels=pixels)

    def to_display(self) -> MedicalImage:
        """The image as brightness in [0, 1], window and inversion resolved."""
        if self.domain == "display":
            return self
        if self.window is None:
            raise ValueError("window: none to show the pixels with")
        return dataclasses.replace(self, pixels=self.window.apply(self.pixels), domain="display")

    def to_slice(self, choice: SliceChoice = "middle", plane: Plane = "axial") -> MedicalImage:
        """One plane of a volume, in radiological convention.

        Axial: patient right at image left, anterior on top, counted from inferior to superior.
        Coronal: patient right at image left, superior on top, counted from anterior to posterior.
        Sagittal: anterior at image left, superior on top, counted from patient right to left.

        Args:
            choice: Index from 0, a fraction in [0, 1] (float), or `middle`.
            plane: `axial`, `coronal` or `sagittal`.

        Raises:
            ImageError: The image is no volume, or there is no such slice.
        """
        if self.pixels.ndim != 4:
            raise ImageError("slice: the image is a single plane; leave the choice out")
        planes = ("axial", "coronal", "sagittal")
        if plane not in planes:
            raise ImageError(f"plane: expected one of {', '.join(planes)}, got {plane!r}")
        axis = planes.index(plane) + 1
        depth = self.pixels.shape[axis]
        index = slice_index(choice, depth)
        pixels = self.pixels.select(axis, index)
        if plane != "axial":
            # Rows of the volume's other planes run from inferior: superior goes on top.
            pixels = pixels.flip(1)
        spacing = self.spacing_mm
        if spacing is not None:
            spacing = spacing[: axis - 1] + spacing[axis:]
        choices = dict(self.provenance.get("choices", {}))
        choices["slice"] = f"{index} of {depth} ({choice!r})"
        choices["plane"] = plane
        return dataclasses.replace(
            self,
            pixels=pixels.contiguous(),
            spacing_mm=spacing,
            provenance={**self.provenance, "choices": choices},
        )

    def render(self, size: int | None = None) -> NDArray[np.uint8]:
        """What a model sees: uint8 `(H, W, 3)`, values rounded, grey repeated over the channels.

        Args:
            size: Longest edge in pixels. A larger image is reduced to it (antialiased, aspect
                kept); a smaller one stays as it is, since enlarging adds nothing.

        Raises:
            ImageError: The image is a volume: choose a slice.
        """
        import cv2
        import numpy as np
        import torch

        image = self
        if image.pixels.ndim == 4:
            raise ImageError(
                f"slice: this is a volume of {image.pixels.shape[1]} slices and no slice was "
                "chosen; pass slice=12, slice='middle' or slice=0.4 (or call to_slice)"
            )
        pixels = image.to_display().pixels.clamp(0.0, 1.0)
        height, width = pixels.shape[1:]
        if size is not None and size < 1:
            raise ImageError(f"size: expected at least 1 pixel, got {size}")
        if size is not None and max(height, width) > size:
            scale = size / max(height, width)
            shape = [max(1, round(height * scale)), max(1, round(width * scale))]
            pixels = torch.nn.functional.interpolate(
                pixels[None], size=shape, mode="bilinear", antialias=True, align_corners=False
            )[0].clamp(0.0, 1.0)
        rounded = pixels.mul_(255.0).round_().to(torch.uint8).cpu()
        together = rounded.permute(1, 2, 0)
        array: NDArray[np.uint8]
        if len(rounded) == 3 and together.is_contiguous():
            array = together.numpy()
        else:  # OpenCV lays planes side by side in a tenth of torch's time
            planes = list(rounded.contiguous().numpy())
            array = np.asarray(cv2.merge(planes * 3 if len(planes) == 1 else planes), np.uint8)
        return array


def slice_index(choice: object, depth: int, field_name: str = "slice") -> int:
    """The index a slice (or frame, or volume) choice means among `depth` of them.

    >>> slice_index("middle", 35), slice_index(0.5, 35), slice_index(0, 35)
    (17, 17, 0)
    """
    if choice == "middle":
        return depth // 2
    if isinstance(choice, int) and not isinstance(choice, bool):
        if 0 <= choice < depth:
            return choice
        raise ImageError(f"{field_name}: {choice} is outside 0..{depth - 1}")
    if isinstance(choice, float):
        if 0.0 <= choice <= 1.0:
            return round(choice * (depth - 1))
        raise ImageError(f"{field_name}: the fraction {choice:g} is outside 0..1")
    raise ImageError(
        f"{field_name}: expected an index 0..{depth - 1}, a fraction such as 0.5, or 'middle', "
        f"got {choice!r}"
    )


def warn(message: str) -> None:
    """Say something about an image that was used all the same."""
    warnings.warn(one_line(message), ImageWarning, stacklevel=2)
