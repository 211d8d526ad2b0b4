"""Whole-slide images: tiled, pyramidal TIFF in the dialects tiffslide reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from modalities.formats.hush import hushed
from modalities.formats.source import Source
from modalities.formats.tiff import check_segments
from modalities.image import MAX_VALUES, ImageError, RawImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHOICES = ("region", "mpp", "level", "size", "patch")

# Microns per pixel of level 0 above which the file's resolution cannot be that of a slide.
COARSEST_MPP = 20.0

# Pages of a tiled TIFF, levels below them included; opening each costs time.
MAX_PAGES = 2**12

# The longest edge a slide is shown with when nothing was asked.
DEFAULT_SIZE = 2048

# The edge of a patch when no size was asked, and of the thumbnail it is searched on.
PATCH_SIZE = 512
SEARCH_SIZE = 1024

# Optical density by which the tissue of a slide must differ from its background.
LEAST_DENSITY = 0.05

# What `dicom_pixels.single` says of a tile; said of a slide put together it would be wrong.
ONE_TILE = "the frames are tiles of one plane; one tile is shown"

# Patches with as much tissue as the fullest, within this share, are equally good.
AS_FULL = 0.02


def is_slide(file: Source) -> bool:
    """Whether a TIFF is tiled, the layout of slides, rather than a plain picture."""
    import tifffile

    try:
        with hushed(), file.open() as stream, tifffile.TiffFile(stream) as tiff:
            first = tiff.pages[0].aspage()
            # Slides stand upright as they are stored; a turned one is a picture.
            slide = bool(first.is_tiled) and int(first.tags.valueof(274, 1)) == 1
            # What tiffslide reads; other tiled files are pictures too.
            slide = slide and int(first.bitspersample) == 8 and int(first.planarconfig) == 1
            slide = slide and int(first.photometric) in (1, 2, 6)
            if slide:
                left = MAX_PAGES - len(tiff.pages)
                for page in (p.aspage() for p in tiff.pages) if left >= 0 else ():
                    levels = page.pages or ()  # a pyramid may hang below its page
                    left -= len(levels)
                    if left < 0:
                        break
                    for level in (page, *(p.aspage() for p in levels)):
                        check_segments(level, file.size(), file.name)
                if left < 0:
                    raise ImageError(
                        f"{file.name}: IFD: holds more than {MAX_PAGES} tiled pages, which is no "
                        "slide; split the file"
                    )
            return slide
    except ImageError:
        raise
    except Exception as error:  # tifffile raises many classes on damaged files
        raise ImageError(
            f"{file.name}: the TIFF cannot be read ({type(error).__name__}); fetch the file again"
        ) from None


def read(files: Sequence[Source], choices: Mapping[str, object]) -> RawImage:
    """Read a region of a slide, or all of it reduced.

    Args:
        files: One file.
        choices: `region` `(x, y, width, height)` in pixels of level 0; at most one of `mpp`
            (microns per pixel of the result), `level` (of the pyramid, 0 is the finest) and
            `size` (longest edge of the result); `patch` `tissue`: a square full of tissue, `size`
            pixels wide (512 unless asked) at `mpp` or `level` (level 0 unless asked).

    Raises:
        ImageError: The file is damaged, or the choice cannot be met.
    """
    (file,) = files
    with _opened(file) as slide:
        return assemble(file.name, slide, choices)


class Pyramid(Protocol):
    """What `assemble` reads from: a `TiffSlide`, or what behaves like one."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height of level 0."""

    @property
    def level_count(self) -> int:
        """Number of levels."""

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """Width and height of every level."""

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of every level."""

    @property
    def properties(self) -> Mapping[str, Any]:
        """`tiffslide.vendor`, `tiffslide.mpp-x` and `tiffslide.mpp-y`."""

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int], *, as_array: bool
    ) -> Any:  # noqa: ANN401
        """`(H, W, 3)`, or `(H, W, 1)` in grey, of a level, from a place in pixels of level 0.

        uint8, or float32 for values that are shown through a window.
        """


def assemble(name: str, slide: Pyramid, choices: Mapping[str, object]) -> RawImage:
    """Read what was chosen of an opened slide; see `read`."""
    import numpy as np

    width, height = (int(n) for n in slide.dimensions)
    said: dict[str, str] = {}
    notes: list[str] = []
    mpp = _microns(slide)
    if "patch" in choices:
        region, scale = _patch(name, slide, choices, mpp, said)
    else:
        region = _region(name, choices, width, height)
        if "region" in choices:
            said["region"] = f"{','.join(map(str, region))} (asked)"
        scale = _scale(name, choices, region, mpp, slide, said, notes)
    shown = (max(1, round(region[2] / scale)), max(1, round(region[3] / scale)))
    pixels, level = _pixels(name, slide, region, shown, scale)
    said.setdefault("level", f"{level} (default)")
    provenance = {
        "format": "slide",
        "vendor": str(slide.properties.get("tiffslide.vendor") or "generic"),
        "slide_size": [width, height],
        "levels": [[int(w), int(h)] for w, h in slide.level_dimensions],
        "mpp": list(mpp) if mpp else None,
    }
    spacing = None
    if mpp is not None:
        spacing = (
            mpp[1] * region[3] / shown[1] / 1000.0,
            mpp[0] * region[2] / shown[0] / 1000.0,
        )
    return RawImage(
        values=np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32),
        file=name,
        provenance=provenance,
        display_range=(0.0, 255.0),
        spacing_mm=spacing,
        kind="pathology",
        choices=said,
        warnings=notes,
    )


@contextlib.contextmanager
def _opened(file: Source) -> Iterator[Pyramid]:
    from tiffslide import TiffSlide

    with file.open() as stream:
        try:
            with hushed():
                slide = TiffSlide(cast("Any", stream))
                _ = slide.dimensions, slide.level_dimensions
        except Exception as error:  # tiffslide and tifffile raise many classes
            raise ImageError(
                f"{file.name}: the slide cannot be opened ({type(error).__name__}); "
                "convert it to a tiled pyramidal TIFF"
            ) from None
        with slide, hushed():
            yield cast("Pyramid", slide)


def _region(
    name: str, choices: Mapping[str, object], width: int, height: int
) -> tuple[int, int, int, int]:
    if "region" not in choices:
        return 0, 0, width, height
    asked = choices["region"]
    numbers = list(asked) if isinstance(asked, list | tuple) else []
    if len(numbers) != 4 or not all(type(n) is int for n in numbers):
        raise ImageError(f"{name}: region: expected four integers x, y, width, height")
    x, y, w, h = numbers
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
        raise ImageError(
            f"{name}: region: {x},{y},{w},{h} does not lie within the slide of {width}x{height}"
        )
    return x, y, w, h


def _patch(
    name: str,
    slide: Pyramid,
    choices: Mapping[str, object],
    mpp: tuple[float, float] | None,
    said: dict[str, str],
) -> tuple[tuple[int, int, int, int], float]:
    """The most typical of the squares that hold the most tissue, and their scale."""
    import numpy as np

    if choices["patch"] != "tissue":
        raise ImageError(f"{name}: patch: no {choices['patch']!r}; valid is tissue")
    if "region" in choices:
        raise ImageError(f"{name}: patch and region: both choose the place; give one")
    side = int(_positive(name, "size", choices.get("size", PATCH_SIZE)))
    said["size"] = f"{side} ({'asked' if 'size' in choices else 'default'})"
    width, height = (int(n) for n in slide.dimensions)
    whole = (0, 0, width, height)
    asked = {key: choices[key] for key in ("mpp", "level") if key in choices}
    scale = _scale(name, asked, whole, mpp, slide, said, []) if asked else 1.0
    span = max(1, round(side * scale))
    if side < 1 or span > min(width, height):
        raise ImageError(
            f"{name}: size: a patch of {side} pixels is {span} at level 0, the slide is "
            f"{width}x{height}; choose a smaller size="
        )
    step = max(1.0, max(width, height) / SEARCH_SIZE)
    thumbnail = (max(1, round(width / step)), max(1, round(height / step)))
    density, mask = tissue(_pixels(name, slide, whole, thumbnail, step)[0])
    if not mask.any():
        raise ImageError(f"{name}: patch: no tissue was found; choose a region=")
    edge = min(max(1, round(span / step)), *mask.shape)
    area = _sums(mask.astype(np.float64), edge)
    # Of the full ones the one that is stained like the rest: no fold, no pale edge.
    typical = float(np.median(density[mask]))
    odd = np.abs(_sums(np.where(mask, density, 0.0), edge) / np.maximum(area, 1) - typical)
    odd[area < area.max() * (1 - AS_FULL)] = np.inf
    row, column = (int(n) for n in np.unravel_index(int(np.argmin(odd)), odd.shape))
    x, y = min(round(column * step), width - span), min(round(row * step), height - span)
    share = area[row, column] / edge**2
    said["patch"] = f"tissue: {x},{y},{span},{span}, {share:.0%} tissue (asked)"
    return (x, y, span, span), span / side


def tissue(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean optical density of every pixel, and whether it is tissue.

    The threshold is Otsu's on the density (IEEE Trans. Syst. Man Cybern. 9(1), 1979). Black is
    where nothing was scanned, and no tissue. Ink of a pen is taken for tissue.

    Args:
        rgb: uint8 `(H, W, 3)`.

    Returns:
        Float32 `(H, W)`, 0 for clear glass, and a mask `(H, W)`; empty where nothing stands out.
    """
    import cv2
    import numpy as np

    scanned = rgb.max(axis=2) > 30
    density = -np.log10((rgb.astype(np.float32) + 1) / 256).mean(axis=2)
    none = np.zeros(scanned.shape, bool)
    if not scanned.any():
        return density, none
    values = density[scanned]
    low, high = float(values.min()), float(values.max())
    if high - low < LEAST_DENSITY:
        return density, none
    levels = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
    at, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return density, scanned & (density > low + (at + 0.5) / 255 * (high - low))


def _sums(values: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    """The sum over every square of this edge, by its first row and column."""
    import cv2
    import numpy as np

    total = np.asarray(cv2.integral(values), np.float64)
    sums: NDArray[np.float64] = (
        total[edge:, edge:] - total[:-edge, edge:] - total[edge:, :-edge] + total[:-edge, :-edge]
    )
    return sums


def _scale(
    name: str,
    choices: Mapping[str, object],
    region: tuple[int, int, int, int],
    mpp: tuple[float, float] | None,
    slide: Pyramid,
    said: dict[str, str],
    notes: list[str],
) -> float:
    """Level-0 pixels per pixel of the result."""
    given = [key for key in ("mpp", "level", "size") if key in choices]
    if len(given) > 1:
        raise ImageError(f"{name}: {' and '.join(given)}: both set the scale; give one")
    longest = max(region[2:])
    if given == ["mpp"]:
        if mpp is None:
            raise ImageError(
                f"{name}: mpp: the slide does not say its microns per pixel; use size= or level="
            )
        wanted = _positive(name, "mpp", choices["mpp"])
        if wanted < 0.999 * min(mpp):
            raise ImageError(
                f"{name}: mpp: {wanted:g} is finer than the slide's {min(mpp):g} microns per pixel"
            )
        said["mpp"] = f"{wanted:g} (asked)"
        return wanted / ((mpp[0] + mpp[1]) / 2)
    if given == ["level"]:
        level = choices["level"]
        count = int(slide.level_count)
        if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level < count:
            raise ImageError(f"{name}: level: expected 0..{count - 1}, got {level!r}")
        said["level"] = f"{level} (asked)"
        return float(slide.level_downsamples[level])
    if given == ["size"]:
        size = int(_positive(name, "size", choices["size"]))
        said["size"] = f"{size} (asked)"
        return max(1.0, longest / max(1, size))
    if longest > DEFAULT_SIZE:
        said["size"] = f"{DEFAULT_SIZE} (default)"
        notes.append(
            f"{region[2]}x{region[3]} pixels are shown reduced to {DEFAULT_SIZE}; "
            "choose with region=, mpp=, level= or size="
        )
        return longest / DEFAULT_SIZE
    return 1.0


def _pixels(
    name: str,
    slide: Pyramid,
    region: tuple[int, int, int, int],
    shown: tuple[int, int],
    scale: float,
) -> tuple[NDArray[Any], int]:
    """`(H, W, C)` read from the coarsest level that is fine enough, and that level."""
    import numpy as np
    from PIL import Image

    downsamples = [float(factor) for factor in slide.level_downsamples]
    level = max(i for i, factor in enumerate(downsamples) if factor <= scale * 1.001 or i == 0)
    factor = downsamples[level]
    across, down = (max(1, round(n / factor)) for n in region[2:])
    # The levels' sizes are rounded: do not read beyond the edge of this one.
    level_width, level_height = slide.level_dimensions[level]
    across, down = min(across, int(level_width)), min(down, int(level_height))
    if across * down * 3 > MAX_VALUES or shown[0] * shown[1] * 3 > MAX_VALUES:
        # Without a coarser level everything has to be read, however small it is shown.
        coarser = ", a coarser mpp=, or size=" if level < len(downsamples) - 1 else ""
        raise ImageError(
            f"{name}: {across}x{down} pixels at level {level} are more than one image may hold "
            f"({MAX_VALUES // 3}); give a smaller region={coarser}"
        )
    try:
        array = np.asarray(slide.read_region(region[:2], level, (across, down), as_array=True))
    except ImageError:
        raise
    except Exception as error:  # codecs raise many classes on damaged tiles
        raise ImageError(
            f"{name}: tiles of level {level} cannot be decoded ({type(error).__name__}); "
            "fetch the file again"
        ) from None
    if array.dtype == np.float32 and array.ndim == 3:
        bands = [Image.fromarray(np.ascontiguousarray(band)) for band in array.transpose(2, 0, 1)]
    elif array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise ImageError(
            f"{name}: {array.dtype} pixels; of a TIFF only 8-bit slides are read, reduce it to "
            "8 bits or save it untiled"
        )
    else:
        if array.ndim == 2 or array.shape[2] == 1:
            array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
        bands = [Image.fromarray(array[:, :, :3])]
    if bands[0].size != shown:
        # Area averaging: what a pixel of this size would have collected.
        bands = [band.resize(shown, Image.Resampling.BOX) for band in bands]
    pixels = [np.asarray(band) for band in bands]
    return (pixels[0] if pixels[0].ndim == 3 else np.stack(pixels, axis=2)), level


def _microns(slide: Pyramid) -> tuple[float, float] | None:
    import math

    try:
        x, y = (float(slide.properties[f"tiffslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, TypeError, ValueError):
        return None
    # Coarser than any slide: the resolution tag holds a page's dots per inch.
    good = all(math.isfinite(axis) and 0 < axis <= COARSEST_MPP for axis in (x, y))
    return (x, y) if good else None


def _positive(name: str, field: str, value: object) -> float:
    import math

    number = float(value) if isinstance(value, int | float) else math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number <= 0:
        raise ImageError(f"{name}: {field}: expected a number above 0, got {value!r}")
    return number
