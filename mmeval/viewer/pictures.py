"""The pictures of a question, rendered anew as the model was shown them."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeval import benchmarks, config, store
from mmeval.benchmarks import Benchmark
from mmeval.config import RunConfig
from mmeval.errors import MmevalError, is_plain
from mmeval.running.plan import Plan, Planned
from mmeval.running.render import Renderer
from mmeval.schema import Condition, ImageRef, Response, Sample
from mmeval.viewer.index import Index

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["GAIN", "SIDES", "Pictures", "Shown"]

SIDES = ("clean", "shown", "difference")
#: What differences are multiplied with, so that small ones can be seen.
GAIN = 4
_EDGE = 1024
_KEPT = 48


@dataclass(frozen=True)
class Shown:
    """What there is to be seen of a question under a condition.

    Attributes:
        n_clean: Images of the question.
        n_shown: Images that the model was shown.
        compared: Whether the two can be laid over each other: the same images in the same order.
        problem: Why there is nothing to be seen; None if there is.
        same: Whether the answer is that to exactly this recipe: image bytes, degradation, prompt.
            None where that cannot be told.
        asked: The question as the condition turns it; None where that cannot be told.
    """

    n_clean: int = 0
    n_shown: int = 0
    compared: bool = False
    problem: str | None = None
    same: bool | None = None
    asked: Sample | None = None


class Pictures:
    """Renders the pictures of a run; one at a time, as they take memory.

    Args:
        run: The run directory; its ``config.yaml`` says where images lie and how they are shown.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._samples: dict[str, tuple[Sample, ...]] = {}
        self._ready: tuple[RunConfig, dict[str, Benchmark], Renderer] | None = None
        self._identity: dict[str, Any] | None = None

    def shown(
        self, index: Index, benchmark: str, sample: Sample, condition: str, key: str | None
    ) -> Shown:
        """Says what there is to be seen.

        Args:
            index: Of the run.
            benchmark: Name of the benchmark.
            sample: The question.
            condition: Under which it was asked.
            key: Of the request that was answered.
        """
        try:
            with self._lock:
                planned = self._planned(index, benchmark, sample, condition)
        except (ValueError, OSError) as error:
            return Shown(problem=_plain(error))
        asked = planned.sample
        if planned.problem is not None:
            return Shown(problem=planned.problem, asked=asked)
        n = len(planned.sample.images)
        found = Condition(condition)
        compared = n == len(sample.images) and found.control not in ("swapped", "shuffled")
        same = None if key is None or self._identity is None else planned.row.key == key
        if same is False and found.control in ("swapped", "mean"):
            return Shown(
                asked=asked,
                problem="which other images were used is not known any more; a run with a limit, "
                "or one whose images have changed, holds too little to tell",
            )
        compared = compared and condition != "clean"
        return Shown(len(sample.images), n, compared, None, same, asked)

    def png(
        self,
        index: Index,
        benchmark: str,
        sample: Sample,
        condition: str,
        side: str,
        number: int,
        *,
        full: bool = False,
    ) -> bytes:
        """Renders one picture.

        Args:
            index: Of the run.
            benchmark: Name of the benchmark.
            sample: The question.
            condition: Under which it was asked.
            side: Of `SIDES`.
            number: Which image of the question, from 0.
            full: Every pixel the model is shown, instead of at most 1,024 along the longest edge.

        Returns:
            A PNG file.

        Raises:
            MmevalError: There is no such picture, or it cannot be rendered.
        """
        key = (benchmark, sample.id, condition, side, number, full)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            pixels = self._pixels(index, benchmark, sample, condition, side, number)
            self._kept[key] = encoded = _encoded(pixels, None if full else _EDGE)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return encoded

    def _pixels(
        self, index: Index, benchmark: str, sample: Sample, condition: str, side: str, number: int
    ) -> npt.NDArray[np.uint8]:
        try:
            planned = self._planned(index, benchmark, sample, condition)
            _, _, renderer = self._opened()
            if planned.problem is not None:
                raise MmevalError(planned.problem)
            clean = [(image, Condition("clean")) for image in sample.images]
            shown = list(zip(planned.sample.images, planned.looks, strict=True))
            sides = {"clean": (clean,), "shown": (shown,), "difference": (clean, shown)}
            if side not in sides or not all(0 <= number < len(each) for each in sides[side]):
                raise MmevalError("there is no such picture")

            def render(image: ImageRef, look: Condition) -> npt.NDArray[np.uint8]:
                path = planned.benchmark.locate(image)
                return renderer.render(path, image, look, planned.pool)

            found = [render(*each[number]) for each in sides[side]]
        except (ValueError, OSError) as error:
            raise MmevalError(_plain(error)) from None
        return found[0] if len(found) == 1 else _difference(*found)

    def _planned(self, index: Index, benchmark: str, sample: Sample, condition: str) -> Planned:
        run_config, located, _ = self._opened()
        if benchmark not in located:
            raise MmevalError(f"config.yaml lists no benchmark {benchmark!r}")
        found = Condition(condition)
        whole = located[benchmark]
        if found.control in ("swapped", "mean"):  # pictures of other questions
            if benchmark not in self._samples:
                self._samples[benchmark] = index.samples(benchmark)
            whole = dataclasses.replace(whole, samples=self._samples[benchmark])
        plan = Plan(
            dataclasses.replace(run_config, conditions=(condition,)),
            [whole],
            self._identity or {},
        )
        for row in index.asked(benchmark, sample.id, condition):
            if row["purpose"] == "turn":
                turn = Response(
                    row["key"], benchmark, sample.id, condition, 0, row["status"], row["text"]
                )
                plan.first = {(benchmark, sample.id, condition): turn}
        planned = plan.one(whole, sample, found)
        if planned is None:
            raise MmevalError("this version of mmeval would not ask this question so")
        return planned

    def _opened(self) -> tuple[RunConfig, dict[str, Benchmark], Renderer]:
        if self._ready is None:
            path = self._run / "config.yaml"
            if not path.is_file():
                raise MmevalError("the run has no config.yaml, which says where the images lie")
            run_config = config.load(path, out=self._run)
            located = {
                found.name: found
                for spec in run_config.benchmarks
                for found in (
                    benchmarks.located(
                        spec, self._run / "data" / str(spec.get("name") or "benchmark")
                    ),
                )
            }
            renderer = Renderer(run_config.seed, run_config.render_size, run_config.assume_window)
            self._ready = (run_config, located, renderer)
            if (self._run / "environment.json").is_file():
                self._identity = store.read_json(self._run, "environment.json").get("model")
        return self._ready


def _plain(error: BaseException) -> str:
    """The reason, if it was written for people: any other may quote a file with a name in it."""
    return str(error) if is_plain(error) else f"it cannot be rendered ({type(error).__name__})"


def _difference(
    clean: npt.NDArray[np.uint8], shown: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    import cv2
    import numpy as np

    if clean.shape != shown.shape:
        size = (clean.shape[1], clean.shape[0])
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    apart = np.abs(clean.astype(np.int16) - shown.astype(np.int16)) * GAIN
    found: npt.NDArray[np.uint8] = np.minimum(apart, 255).astype(np.uint8)
    return found


def _encoded(pixels: npt.NDArray[np.uint8], edge: int | None) -> bytes:
    import cv2
    import numpy as np

    longest = max(pixels.shape[:2])
    if edge is not None and longest > edge:
        height, width = (max(1, round(side * edge / longest)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
    if not done:
        raise MmevalError("it cannot be rendered as PNG")
    return data.tobytes()
