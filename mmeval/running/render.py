"""From an image file to the pixels that a model is shown, under a condition."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmeval.errors import MmevalError
from mmeval.privacy import Guard
from mmeval.schema import Condition, ImageRef, canonical

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modalities import MedicalImage

__all__ = ["Renderer", "degrade", "fingerprint", "image_id", "load"]

Key = TypeVar("Key")
Value = TypeVar("Value")


def fingerprint(path: Path) -> str:
    """Returns the sha256 that identifies an image's bytes, wherever the file lies."""
    import modalities

    return modalities.fingerprint(path)


def load(path: Path, image: ImageRef) -> MedicalImage:
    """Loads an image as its reference says."""
    import modalities

    return modalities.load(path, image.modality, **image.choices)


def image_id(sha256: str, image: ImageRef) -> str:
    """Returns what the random fields of an image are keyed by: its bytes and how they are read."""
    return f"{sha256}{canonical(dict(image.choices))}" if image.choices else sha256


def degrade(
    image: MedicalImage,
    spec: str,
    *,
    id: str,
    seed: int,
    assume_window: tuple[float, float] | None = None,
) -> MedicalImage:
    """Applies a degradation in the domain where it is right.

    Steps that need the image's own physical domain come first, then the image is windowed for
    display, then come the steps on display pixels.

    Args:
        image: A single plane.
        spec: Steps joined by ``+``.
        id: Same id and seed, same result.
        seed: Any integer.
        assume_window: (centre, width) in HU that a CT picture without HU was windowed with.

    Raises:
        MmevalError: The order of the steps would need going back from display to physical pixels.
        degradations.DegradationError: A step does not fit the image.
    """
    import degradations

    steps = [step for step in degradations.parse(spec) if step.severity > 0]
    physical = [
        step
        for step in steps
        if image.domain != "display" and degradations.get(step.name).domain == image.domain
    ]
    if steps[: len(physical)] != physical:
        raise MmevalError(
            f"{spec}: {physical[-1].name} works on {image.domain} pixels and cannot follow a step "
            f"on display pixels; write {'+'.join(map(str, physical))} first"
        )
    for chain in (physical, steps[len(physical) :]):
        if chain is not physical:
            image = image.to_display()
        if chain:
            spacing = image.spacing_mm
            pixels = degradations.apply(
                image.pixels[None],
                "+".join(map(str, chain)),
                domain=image.domain,
                ids=[id],
                seed=seed,
                spacing_mm=None if spacing is None else (spacing[-2], spacing[-1]),
                modality=image.modality,
                assume_window=assume_window if image.domain == "display" else None,
            )
            image = image.with_pixels(pixels[0])
    return image


class Renderer:
    """Renders images under conditions, and keeps the last few.

    Args:
        seed: Of the degradations.
        size: Longest edge, None for the image's own.
        assume_window: See `degrade`.
        clean: Nothing will be degraded: plain pictures are shown without torch.
    """

    def __init__(
        self,
        seed: int = 0,
        size: int | None = None,
        assume_window: tuple[float, float] | None = None,
        *,
        clean: bool = False,
    ) -> None:
        self.clean = clean
        self.seed = seed
        self.size = size
        self.assume_window = assume_window
        self._loaded: OrderedDict[Any, MedicalImage] = OrderedDict()
        self._rendered: OrderedDict[Any, npt.NDArray[np.uint8]] = OrderedDict()
        self._objections: dict[Any, str | None] = {}
        self._means: dict[Any, npt.NDArray[np.uint8]] = {}

    def check(self, path: Path, image: ImageRef, guard: Guard) -> None:
        """Lets a guard look at an image, once, before it is rendered for a model.

        Args:
            path: The image's file or folder.
            image: How it is read.
            guard: See `mmeval.privacy.guard`.

        Raises:
            MmevalError: The guard objects.
        """
        key = _key(path, image)
        if key not in self._objections:
            self._objections[key] = guard(self._load(key, path, image))
        reason = self._objections[key]
        if reason is not None:
            raise MmevalError(reason)

    def render(
        self,
        path: Path,
        image: ImageRef,
        condition: Condition | str = "clean",
        pool: Sequence[tuple[Path, ImageRef]] = (),
    ) -> npt.NDArray[np.uint8]:
        """Returns uint8 RGB of shape (H, W, 3), as a model is shown it.

        Args:
            path: The image's file or folder.
            image: How it is read.
            condition: What is done to it: degradations, or the control ``blank`` or ``mean``.
            pool: What the control ``mean`` is the mean of.
        """
        if isinstance(condition, str):
            condition = Condition(condition)
        key = _key(path, image)
        shown = _recall(self._rendered, (key, condition.name))
        if shown is not None:
            return shown
        if condition.control is not None:
            shown = self._control(condition.control, path, image, pool)
            _keep(self._rendered, (key, condition.name), shown, 8)
            return shown
        shown = self._picture(key, path, image) if self.clean else None
        if shown is not None:
            _keep(self._rendered, (key, condition.name), shown, 8)
            return shown
        found = self._load(key, path, image)
        if condition.spec is not None:
            found = degrade(
                found,
                condition.spec,
                id=image_id(str(found.provenance["sha256"]), image),
                seed=self.seed,
                assume_window=self.assume_window,
            )
        shown = found.render(self.size)
        _keep(self._rendered, (key, condition.name), shown, 8)
        return shown

    def _picture(
        self, key: tuple[object, ...], path: Path, image: ImageRef
    ) -> npt.NDArray[np.uint8] | None:
        """What a plain picture shows; None where something has to be computed."""
        import modalities

        if key in self._loaded:
            return None
        shown = modalities.picture(path, image.modality, **image.choices)
        fits = self.size is None or shown is None or max(shown.shape[:2]) <= self.size
        return shown if fits else None

    def _control(
        self, control: str, path: Path, image: ImageRef, pool: Sequence[tuple[Path, ImageRef]]
    ) -> npt.NDArray[np.uint8]:
        """A picture of the image's size that shows nothing of it."""
        from mmeval import probing

        clean = self.render(path, image)
        if control == "blank":
            return probing.blank(clean)
        key = tuple(_key(*each) for each in pool)
        if key not in self._means:
            pictures = (self._load(_key(*each), *each).render(self.size) for each in pool)
            self._means[key] = probing.mean_image(pictures)
        import cv2

        height, width = clean.shape[:2]
        resized: npt.NDArray[np.uint8] = cv2.resize(
            self._means[key], (width, height), interpolation=cv2.INTER_AREA
        ).astype(clean.dtype)
        return resized

    def _load(self, key: tuple[object, ...], path: Path, image: ImageRef) -> MedicalImage:
        found = _recall(self._loaded, key)
        if found is None:
            found = load(path, image)
            _keep(self._loaded, key, found, 4)
        return found


def _key(path: Path, image: ImageRef) -> tuple[object, ...]:
    return (path, *image.key[1:])


def _recall(cache: OrderedDict[Key, Value], key: Key) -> Value | None:
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    return None


def _keep(cache: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)
