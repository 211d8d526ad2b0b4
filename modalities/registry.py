"""Modalities by name, and `load`."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modalities import volume
from modalities.image import (
    Domain,
    ImageError,
    MedicalImage,
    RawImage,
    Window,
    one_line,
    warn,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from modalities.formats.source import Source

Prepare = Callable[[RawImage], RawImage]
# Changes a plane as a modality's reader would; returns what to say of it in the provenance.
Step = Callable[[MedicalImage, RawImage], tuple[MedicalImage, str]]
_P = TypeVar("_P", bound=Prepare)

_BUILT_IN = (
    "xray",
    "ct",
    "mri",
    "fundus",
    "oct",
    "pathology",
    "ultrasound",
    "endoscopy",
    "dermoscopy",
    "photo",
)
# Enough voxels for a percentile; more would only cost time.
_SAMPLE = 1 << 20
# Values changed at a time: what several passes go over should stay in the processor's cache, and
# torch starts no threads for as few.
_BLOCK = 1 << 15


@dataclass(frozen=True)
class Modality:
    """What is particular about one way of making images.

    Attributes:
        name: As in `load(path, name)`.
        description: One line for lists.
        domain: The domain of measured pixels (DICOM, NIfTI); pictures are always `display`.
        windows: Presets by name.
        default_window: Used when neither the caller nor the file gives one: a preset, `minmax`
            or `percentile` (0.5 to 99.5).
        prepare: Called with what the file holds before it becomes an image, or None.
        steps: What else may be asked of it, in the order it is done: choice to value to function,
            e.g. `{"crop": {"border": ...}}`. Nothing is done that is not asked.
    """

    name: str
    description: str
    domain: Domain = "display"
    windows: Mapping[str, Window] = field(default_factory=dict)
    default_window: str = "minmax"
    prepare: Prepare | None = None
    steps: Mapping[str, Mapping[str, Step]] = field(default_factory=dict)

    def image(
        self, raw: RawImage, choices: Mapping[str, object], sha256: str | Callable[[], str]
    ) -> MedicalImage:
        """Turn what a file holds into an image: window, domain, slice, the modality's steps.

        Args:
            raw: What the file holds. Its values may be overwritten.
            choices: As in `load`.
            sha256: Of the source in hex, or what gives it, asked once all else is computed.

        Raises:
            ImageError: A choice cannot be met.
        """
        import torch

        if self.prepare is not None:
            raw.values = _floats(raw.values)
            raw = self.prepare(raw)
        said = {"modality": self.name, **raw.choices}
        window = None
        scaled = raw.display_range is not None and "window" not in choices
        if not scaled:
            raw.values = _floats(raw.values)
            window, origin = self._window(raw, choices.get("window"))
            said["window"] = f"{window.describe()} ({origin})"
        domain: Domain = self.domain if raw.physical and window is not None else "display"
        if domain == "hu" and not raw.hounsfield:
            domain = "linear"
        if scaled and raw.display_range is not None:
            raw.values = _brightness(raw.values, raw.display_range, raw.inverted)
            pixels = torch.from_numpy(raw.values)
        elif window is not None and domain == "display":
            # A step may want the values beside what is shown of them.
            stepped = any(choices.get(key, "none") != "none" for key in self.steps)
            pixels = torch.from_numpy(_windowed(raw.values, window, in_place=not stepped))
        else:
            pixels = torch.from_numpy(raw.values)
        if raw.padding is not None and domain == "display":
            # PS3.3 C.7.5.1.1.2: padding is not part of the image and shown as background.
            pixels.masked_fill_(torch.from_numpy(raw.padding), 0.0)
        if raw.overlay is not None:
            drawn = torch.from_numpy(raw.overlay)
            if window is not None and domain != "display":
                pixels, domain = window.apply(pixels), "display"
            pixels = pixels.masked_fill(drawn, 1.0)
        provenance = {
            "sha256": sha256 if isinstance(sha256, str) else sha256(),
            **raw.provenance,
            "choices": said,
            "warnings": list(raw.warnings),
        }
        image = MedicalImage(pixels, domain, self.name, raw.spacing_mm, window, provenance)
        if pixels.ndim == 4:
            image = self._from_volume(image, raw, choices)
        else:
            for key in volume.CHOICES:
                if key in choices:
                    raise ImageError(
                        f"{raw.file}: {key}: this is a single plane; leave the choice out"
                    )
        return self._stepped(image, raw, choices)

    def _from_volume(
        self, image: MedicalImage, raw: RawImage, choices: Mapping[str, object]
    ) -> MedicalImage:
        if raw.picked is None:
            return volume.choose(image, choices, raw.file)
        index, depth = raw.picked
        return volume.said(image.to_slice(0), slice=f"{index} of {depth} (asked)")

    def _stepped(
        self, image: MedicalImage, raw: RawImage, choices: Mapping[str, object]
    ) -> MedicalImage:
        for key, offered in self.steps.items():
            asked = choices.get(key, "none")
            if asked == "none":
                origin = "asked" if key in choices else "default"
                image = volume.said(image, **{key: f"none ({origin})"})
                continue
            step = offered.get(asked) if isinstance(asked, str) else None
            if step is None:
                raise ImageError(
                    f"{raw.file}: {key}: no {asked!r} for {self.name}; valid are "
                    f"{', '.join(('none', *offered))}"
                )
            if image.pixels.ndim == 4:
                raise ImageError(f"{raw.file}: {key}: is for one plane; choose slice= too")
            try:
                image, what = step(image, raw)
            except ImageError as error:
                raise ImageError(f"{raw.file}: {key}: {error}") from None
            image = volume.said(image, **{key: f"{asked}: {what} (asked)"})
        return image

    def _window(self, raw: RawImage, asked: object) -> tuple[Window, str]:
        """The window to show with, and who chose it: asked, file or default."""
        origin = "asked"
        if raw.values.shape[0] == 3:
            raise ImageError(f"{raw.file}: window: a colour image has none; leave the choice out")
        if asked is None and raw.windows:
            window, origin = raw.windows[0], "file"
            if len(raw.windows) > 1:
                origin = f"file, first of {len(raw.windows)}"
        elif asked is None:
            name = self.default_window
            if self.domain == "hu" and not raw.hounsfield:
                name = "minmax"
            window, origin = self._named(raw, name), "default"
        elif isinstance(asked, str):
            window = self._named(raw, asked.strip().lower())
        elif isinstance(asked, int) and not isinstance(asked, bool):
            if not 0 <= asked < len(raw.windows):
                raise ImageError(
                    f"{raw.file}: window: the file has {len(raw.windows)} windows, got {asked}"
                )
            window = raw.windows[asked]
        else:
            window = _pair(raw.file, asked)
        return replace(window, inverted=raw.inverted), origin

    def _named(self, raw: RawImage, name: str) -> Window:
        if name in self.windows:
            return self.windows[name]
        if name in ("minmax", "percentile"):
            return _measured(raw, name)
        own = {window.name: window for window in reversed(raw.windows) if window.name}
        if name == "file" and raw.windows:
            return raw.windows[0]
        if name in own:
            return own[name]
        if "/" in name:
            return _pair(raw.file, name.split("/"))
        known = [*self.windows, "minmax", "percentile", *(["file"] if raw.windows else []), *own]
        raise ImageError(
            f"{raw.file}: window: no window {name!r} for {self.name}; known are "
            f"{', '.join(dict.fromkeys(known))}, or (center, width)"
        )


_registry: dict[str, Modality] = {}


def register(
    modality: Modality | str,
    /,
    *,
    description: str = "",
    domain: Domain = "display",
    windows: Mapping[str, Window] | None = None,
    default_window: str = "minmax",
    steps: Mapping[str, Mapping[str, Step]] | None = None,
) -> Callable[[_P], _P]:
    """Add a modality: a `Modality`, or as a decorator of its `prepare` function.

    >>> @register(
    ...     "thermography",
    ...     description="infrared skin temperature, degrees Celsius",
    ...     domain="linear",
    ...     windows={"fever": Window(37, 6, "linear_exact", "fever")},
    ... )
    ... def thermography(raw: RawImage) -> RawImage:
    ...     raw.values = raw.values / 100.0
    ...     return raw
    >>> get("thermography").domain
    'linear'
    >>> unregister("thermography")

    Raises:
        ValueError: The name is taken or not lower case.
    """
    if isinstance(modality, Modality):
        _add(modality)
        return lambda prepare: prepare
    name = modality

    def decorate(prepare: _P) -> _P:
        text = description or (prepare.__doc__ or "").strip().split("\n")[0]
        _add(Modality(name, text, domain, windows or {}, default_window, prepare, steps or {}))
        return prepare

    return decorate


def _add(modality: Modality) -> None:
    _load_built_in()
    if not modality.name.isidentifier() or modality.name != modality.name.lower():
        raise ValueError(f"modality name {modality.name!r}: expected a lower-case word")
    if modality.name in _registry:
        raise ValueError(f"modality {modality.name!r} is already registered")
    _registry[modality.name] = modality


def unregister(name: str) -> None:
    """Take a modality out again."""
    del _registry[get(name).name]


def names() -> dict[str, str]:
    """Every modality and its one-line description."""
    _load_built_in()
    return {name: modality.description for name, modality in _registry.items()}


def get(name: str) -> Modality:
    """The modality of this name.

    Raises:
        ImageError: There is none; the message suggests the nearest.
    """
    _load_built_in()
    if name in _registry:
        return _registry[name]
    near = difflib.get_close_matches(str(name), _registry, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ImageError(f"modality {name!r}: unknown; {hint}known are {', '.join(_registry)}")


def _load_built_in() -> None:
    if not _registry:
        for name in _BUILT_IN:
            modality = importlib.import_module(f"modalities.{name}").MODALITY
            _registry[modality.name] = modality


def fingerprint(source: object, *, root: str | Path | None = None) -> str:
    """sha256 of the source bytes in hex, without decoding; equals `provenance["sha256"]`.

    One file: what `sha256sum` prints. A series: the digest of the sorted digests of its files, so
    that neither the order nor the names of the files matter.

    Args:
        source: As in `load`.
        root: As in `load`.

    Raises:
        ImageError: The source cannot be read.
    """
    from modalities.formats.source import digest, resolve

    with _naming(source):
        files, _ = resolve(source, root)
        return digest(files)


@contextlib.contextmanager
def _naming(source: object) -> Iterator[None]:
    """Say in an error's `file` which of the files in `source` its message is about."""
    try:
        yield
    except ImageError as error:
        items = source if isinstance(source, list | tuple) else [source]
        paths = [Path(item) for item in items if isinstance(item, str | Path)]
        names = {"<bytes>", "<data URI>", "<base64>", *map(str, items), *map(str, paths)}
        for path in paths:
            names.add(str(path.parent))  # how the messages call a series given as a list
            if os.path.isdir(path):  # unlike Path's, never an error: names may be too long
                names.update(map(str, path.iterdir()))
            elif path.suffix.lower() in (".hdr", ".img"):
                names.update(str(path.with_suffix(suffix)) for suffix in (".hdr", ".img"))
        found = [name for name in names if str(error).startswith(f"{one_line(name)}: ")]
        error.file = max(found, key=len, default=None)
        raise


def load(
    source: object,
    modality: str | None = None,
    *,
    root: str | Path | None = None,
    **choices: object,
) -> MedicalImage:
    """Open an image file.

    Args:
        source: A path, the bytes of a file, a base64 data URI (`data:image/png;base64,...`) or
            the base64 of a file alone (64 characters or more, no path that exists, and what a
            file of a known format begins with), or a list of paths or a folder (one DICOM
            series, or the levels of one DICOM slide).
        modality: A name from `names()`; None takes what the file says.
        root: A folder the files must lie in, symbolic links followed, for paths that come from
            elsewhere; `..` is refused. None allows any path.
        **choices: `window` (preset name, file's window by index or name, `minmax`, `percentile`,
            `(center, width)`); `slice`, `slices`, `montage`, `mip`, `mask` and `plane` of a
            volume (see `modalities.volume.choose`); `frame` of a multi-frame file; `volume` of a
            4-D NIfTI or multi-frame DICOM; `bits` of a 16-bit picture; `overlay` of a DICOM
            file; what the modality itself offers, e.g. `crop` (`Modality.steps`); `region`,
            `mpp`, `level`, `size` and `patch` of a slide.

    Returns:
        The image. A volume unless one picture of it was chosen or there is one slice only.

    Raises:
        ImageError: The file or a choice cannot be used. The message names the file, the field
            and the mend.
    """
    with _naming(source):
        return _load(source, modality, root, choices)


def picture(
    source: object,
    modality: str | None = None,
    *,
    root: str | Path | None = None,
    **choices: object,
) -> NDArray[np.uint8] | None:
    """What `load(...).render()` shows of a plain picture: its own bytes, and so without torch.

    Args:
        source: As in `load`.
        modality: As in `load`.
        root: As in `load`.
        **choices: As in `load`.

    Returns:
        uint8 `(H, W, 3)`; None where a window, a step, an inversion, padding or more than 8 bits
        leave something to be computed.

    Raises:
        ImageError: As of `load`.
    """
    with _naming(source):
        raw, asked, _ = _opened(source, modality, root, choices)
    plain = (
        raw.values.dtype.itemsize == 1
        and raw.values.ndim == 3
        and raw.display_range == (0.0, 255.0)
        and asked.prepare is None
        and not (raw.inverted or choices.keys() & {"window", *asked.steps, *volume.CHOICES})
        and raw.padding is None
        and raw.overlay is None
    )
    if not plain:
        return None
    import cv2
    import numpy as np

    for message in raw.warnings:
        warn(f"{raw.file}: {message}")
    values: NDArray[np.uint8] = raw.values
    if len(values) == 3:
        return np.ascontiguousarray(values.transpose(1, 2, 0))
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(values[0]), cv2.COLOR_GRAY2RGB), np.uint8)


def _load(
    source: object, modality: str | None, root: object, choices: Mapping[str, object]
) -> MedicalImage:
    from modalities.formats.source import digest

    raw, asked, files = _opened(source, modality, root, choices)
    image = asked.image(raw, choices, lambda: digest(files))
    for message in image.provenance["warnings"]:
        warn(f"{raw.file}: {message}")
    return image


def _opened(
    source: object, modality: str | None, root: object, choices: Mapping[str, object]
) -> tuple[RawImage, Modality, Sequence[Source]]:
    """What the files hold, and what it is taken for."""
    from modalities.formats.source import resolve

    files, series = resolve(source, root)
    asked = get(modality) if modality is not None else None
    _load_built_in()
    # Whose steps are valid is known only once the file has said what it is.
    known = _registry.values() if choices else ()
    steps = tuple(dict.fromkeys(key for modality in known for key in modality.steps))
    raw, fallback = _read(files, series, asked.name if asked else None, choices, steps)
    if asked is None:
        name = raw.kind or fallback
        asked = get(name)
        if raw.kind is None:
            raw.warnings.append(f"taken as {name}, the file does not say; choose with modality=")
    elif raw.provenance["format"] == "dicom" and raw.kind not in (None, asked.name):
        raw.warnings.append(f"read as {asked.name} (asked) although the file says {raw.kind}")
    for key in steps:
        if key in choices and key not in asked.steps:
            having = [known.name for known in _registry.values() if key in known.steps]
            raise ImageError(
                f"{raw.file}: {key}: no such choice for {asked.name}, only for "
                f"{', '.join(having)}; choose the modality with modality="
            )
    return raw, asked, files


def _read(
    files: Sequence[Source],
    series: bool,
    asked: str | None,
    choices: Mapping[str, object],
    steps: Sequence[str],
) -> tuple[RawImage, str]:
    """What the files hold, and the modality to take it for where they do not say."""
    from modalities.formats.source import detect

    kinds = {detect(file) for file in files} if series else {detect(files[0], keep=True)}
    if series and len(files) > 1 and kinds != {"dicom"}:
        raise ImageError(
            f"{files[0].name}: a list of files is a DICOM series, but it holds "
            f"{', '.join(sorted(kinds))}; give these one by one"
        )
    kind = kinds.pop()
    if kind == "dicom":
        from modalities.formats import dicom
        from modalities.formats.hush import hushed

        _check_choices(files, choices, "DICOM", (*dicom.CHOICES, *volume.CHOICES, "window"), steps)
        with hushed():  # once for all that the reader hushes itself: each time costs a little
            return dicom.read(files, choices, asked), "photo"
    if kind == "nifti":
        from modalities.formats import nifti

        _check_choices(files, choices, "NIfTI", (*nifti.CHOICES, *volume.CHOICES, "window"), steps)
        return nifti.read(files, choices), "mri"
    if kind == "tiff":
        from modalities.formats import slide

        if slide.is_slide(files[0]):
            _check_choices(files, choices, "slide", slide.CHOICES, steps)
            return slide.read(files, choices), "pathology"
    from modalities.formats import raster

    _check_choices(files, choices, "picture", (*raster.CHOICES, "window"), steps)
    return raster.read(files, choices), "photo"


def _check_choices(
    files: Sequence[Source],
    choices: Mapping[str, object],
    what: str,
    valid: Sequence[str],
    steps: Sequence[str],
) -> None:
    for key in choices:
        if key not in (*valid, *steps):
            raise ImageError(
                f"{files[0].name}: {key}: no such choice for a {what}; valid are {', '.join(valid)}"
            )


def _pair(file: str, asked: object) -> Window:
    try:
        if not isinstance(asked, Sequence):
            raise TypeError
        center, width = (float(number) for number in asked)
        return Window(center, width)
    except (TypeError, ValueError):
        raise ImageError(
            f"{file}: window: expected a name, an index or (center, width) with a width >= 1, "
            f"got {asked!r}"
        ) from None


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    """Bytes as float32; anything else as it is."""
    import numpy as np

    if values.dtype != np.uint8:
        return values
    return np.ascontiguousarray(values, dtype=np.float32)


def _brightness(
    values: NDArray[Any], shown: tuple[float, float], inverted: bool
) -> NDArray[np.float32]:
    """Values between those shown as black and white, as [0, 1]; in place, but for bytes."""
    import numpy as np
    import torch

    black, white = shown

    def scale(part: torch.Tensor) -> None:
        if black:
            part.sub_(black)
        part.div_(white - black).clamp_(0.0, 1.0)
        if inverted:
            part.neg_().add_(1.0)

    if values.dtype == np.uint8:
        table = np.arange(256, dtype=np.float32)
        scale(torch.from_numpy(table))
        return _looked_up(values, table)
    # In place: a copy of the largest image is half a gigabyte.
    values = np.ascontiguousarray(values)
    for part in torch.split(torch.from_numpy(values).view(-1), _BLOCK):
        scale(part)
    return values


def _looked_up(planes: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """`table[planes]`, contiguous, for `(C, H, W)` in any order in memory."""
    import cv2
    import numpy as np

    found = np.empty(planes.shape, np.float32)
    step = max(1, 4 * _BLOCK // planes.shape[2])
    for top in range(0, planes.shape[1], step):
        rows = planes[:, top : top + step]
        interleaved = rows.transpose(1, 2, 0)
        together = len(rows) > 1 and interleaved.flags.c_contiguous
        for plane, part in zip(
            cv2.split(interleaved) if together else rows, found[:, top : top + step], strict=True
        ):
            cv2.LUT(np.ascontiguousarray(plane), table, dst=part)
    return found


def _windowed(
    values: NDArray[np.float32], window: Window, *, in_place: bool
) -> NDArray[np.float32]:
    """`window.apply`, a block at a time."""
    import numpy as np
    import torch

    values = np.ascontiguousarray(values)
    # Not torch.empty: numpy takes large arrays in huge pages, which the system clears far sooner.
    shown = values if in_place else np.empty_like(values)
    blocks = (torch.split(torch.from_numpy(array).view(-1), _BLOCK) for array in (values, shown))
    for part, out in zip(*blocks, strict=True):
        out.copy_(window.apply(part))
    return shown


def _percentiles(values: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """`np.percentile(values, (low, high))`, bit for bit, in a tenth of its time.

    numpy selects one rank with vector instructions, but several at a time without.
    """
    import numpy as np

    part = values.copy()
    found = []
    for percent in (low, high):
        rank = (part.size - 1) * (percent / 100)
        below = int(rank)
        part.partition(below)
        a, above = part[below], part[below + 1 :]
        b = above.min() if above.size else a
        if not math.isfinite(b) or not math.isfinite(above.max(initial=a)):
            edges = np.percentile(values, (low, high))
            return float(edges[0]), float(edges[1])
        # As numpy does it: from the nearer end, for the sake of rounding.
        weight, step = rank - below, float(b - a)
        near = float(a) + step * weight if weight < 0.5 else float(b) - step * (1 - weight)
        found.append(near)
    return found[0], found[1]


def _measured(raw: RawImage, name: str) -> Window:
    """A window from the pixels themselves, padding left out."""
    values: NDArray[np.float32] = raw.values
    if raw.padding is not None and not raw.padding.all():
        values = values[~raw.padding]
    low = high = 0.0
    if name == "percentile":
        flat = values.reshape(-1)
        low, high = _percentiles(flat[:: math.ceil(flat.size / _SAMPLE)], 0.5, 99.5)
    if not low < high:
        low, high = float(values.min()), float(values.max())
    if low == high:  # a constant image is black, not a division by zero
        return Window(low + 0.5, 1.0, "linear_exact", name)
    return Window((low + high) / 2, high - low, "linear_exact", name)
