"""What to ask: samples x conditions x purposes, each with the key of its recipe.

The key is the sha256 of everything an answer depends on: the bytes of the source images and how
they are read, the degradation with its parameters and version, the seed, the size shown, the
messages, the candidates, the generation parameters, the model with its revision, the trial. It
needs no pixels, and neither names, paths, batch size nor order change it. Equal recipes are asked
once.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmeval import protocols
from mmeval.benchmarks import Benchmark
from mmeval.config import RunConfig
from mmeval.errors import MmevalError, is_plain
from mmeval.running.render import fingerprint
from mmeval.schema import Condition, ImageRef, Sample, canonical
from mmeval.store import Row

__all__ = ["Plan", "Planned"]

# Words that a place or a side is told with.
_PLACE = re.compile(
    r"\b(left|right|upper|lower|superior|inferior|anterior|posterior|medial|lateral|quadrant|"
    r"where|position|location|located|side)\b",
    re.IGNORECASE,
)
# Rises when loading or rendering would show other pixels for the same recipe.
RECIPE = 1
# Room for the confidence behind an answer.
VERBALIZED_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Planned:
    """One question to be asked.

    Attributes:
        row: Key, benchmark, sample, condition and trial.
        benchmark: Where the images are.
        sample: The question.
        condition: What is done to the images.
        messages: What the model is told.
        candidates: Answers whose probabilities are asked for.
        max_new_tokens: Longest answer.
        temperature: 0 is greedy.
        problem: Why it cannot be asked, None if it can.
    """

    row: Row
    benchmark: Benchmark
    sample: Sample
    condition: Condition
    messages: tuple[Mapping[str, Any], ...]
    candidates: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    problem: str | None = None


class Plan:
    """All questions of a run, made one at a time and always in the same order.

    Questions on the same images under the same condition come together.

    Args:
        config: The run.
        benchmarks: Loaded, in the configuration's order.
        identity: Of the model.

    Attributes:
        skipped: Condition to the number of samples it does not apply to, complete after a pass.
    """

    def __init__(
        self, config: RunConfig, benchmarks: Sequence[Benchmark], identity: Mapping[str, Any]
    ) -> None:
        self.config = config
        self.benchmarks = benchmarks
        self.identity = identity
        self.protocol = protocols.get(config.protocol)
        self.conditions = [Condition(name) for name in config.conditions]
        self._steps = {c.name: _steps(c) for c in self.conditions}
        self.skipped: Counter[str] = Counter()
        self._prints: dict[Path, str | MmevalError] = {}

    def samples(self) -> Iterator[tuple[Benchmark, Sample]]:
        """Yields the samples within the limit, in the benchmarks' order."""
        for benchmark in self.benchmarks:
            for sample in benchmark.samples[: self.config.limit]:
                yield benchmark, sample

    def __iter__(self) -> Iterator[Planned]:
        self.skipped.clear()
        for benchmark in self.benchmarks:
            groups: dict[str, list[Sample]] = {}
            for sample in benchmark.samples[: self.config.limit]:
                groups.setdefault(canonical(sample.to_dict()["images"]), []).append(sample)
            for group in groups.values():
                for condition in self.conditions:
                    for sample in group:
                        if not self._applies(condition, sample):
                            self.skipped[condition.name] += 1
                            continue
                        for purpose, trial in self._asked(sample):
                            yield self._planned(benchmark, sample, condition, purpose, trial)

    def _asked(self, sample: Sample) -> Iterator[tuple[str, int]]:
        """Purposes and trials of a question: the answer, and what its confidence takes."""
        yield "answer", 0
        if "voting" in self.config.confidence and len(sample.candidates) > 1:
            yield from (("vote", trial) for trial in range(self.config.trials))
        if "verbalized" in self.config.confidence:
            yield "verbalized", 0

    def _applies(self, condition: Condition, sample: Sample) -> bool:
        """A degradation is asked only where it makes sense for every image of the sample.

        One that moves anatomy would change the right answer about a place or a side.
        """
        import degradations

        for step in self._steps[condition.name]:
            entry = degradations.get(step["name"])
            if entry.geometric and not self.config.ask_geometric and _about_place(sample):
                return False
            fits = entry.modalities
            if fits is not None and not (
                sample.images and all(image.modality in fits for image in sample.images)
            ):
                return False
        return bool(sample.images or sample.invalid) or condition.spec is None

    def _planned(
        self,
        benchmark: Benchmark,
        sample: Sample,
        condition: Condition,
        purpose: str,
        trial: int,
    ) -> Planned:
        config = self.config
        problem = sample.invalid
        verbalized = purpose == "verbalized"
        messages = self.protocol.messages(sample, verbalized=verbalized)
        candidates = sample.candidates if "option" in config.confidence else ()
        candidates = candidates if purpose == "answer" else ()
        temperature = config.vote_temperature if purpose == "vote" else config.temperature
        longest = config.max_new_tokens + (VERBALIZED_TOKENS if verbalized else 0)
        images = []
        for image in sample.images:
            sha256 = self._fingerprint(benchmark, image)
            if isinstance(sha256, MmevalError):
                problem = problem or str(sha256)
                sha256 = "unreadable"
            images.append([sha256, image.modality, dict(image.choices)])
        steps = self._steps[condition.name]
        recipe = {
            "recipe": RECIPE,
            "images": images,
            "degradation": steps,
            "seed": config.seed if steps or temperature > 0 else None,
            "assume_window": config.assume_window if steps else None,
            "render_size": config.render_size,
            "messages": messages,
            "candidates": candidates,
            "max_new_tokens": longest,
            "temperature": temperature,
            "model": dict(self.identity),
            "trial": trial,
            "invalid": sample.invalid,
        }
        key = hashlib.sha256(canonical(recipe).encode()).hexdigest()
        row = Row(key, benchmark.name, sample.id, condition.name, trial, purpose)
        return Planned(
            row, benchmark, sample, condition, messages, candidates, longest, temperature, problem
        )

    def _fingerprint(self, benchmark: Benchmark, image: ImageRef) -> str | MmevalError:
        path = benchmark.root / image.path
        if path not in self._prints:
            try:
                self._prints[path] = fingerprint(benchmark.locate(image))
            except (ValueError, OSError) as error:
                reason = str(error) if is_plain(error) else type(error).__name__
                self._prints[path] = MmevalError(f"{image.path}: cannot be read: {reason}")
        return self._prints[path]

    def data_fingerprint(self) -> str:
        """Returns a sha256 over all samples and their images' bytes."""
        digest = hashlib.sha256()
        for benchmark, sample in self.samples():
            prints = [str(self._fingerprint(benchmark, image)) for image in sample.images]
            digest.update(canonical([benchmark.name, sample.to_dict(), prints]).encode())
        return digest.hexdigest()


def _about_place(sample: Sample) -> bool:
    """Whether a question asks where something is, so that moved anatomy has another answer."""
    words = " ".join((sample.question, *sample.options))
    return sample.kind == "box" or _PLACE.search(words) is not None


def _steps(condition: Condition) -> list[dict[str, Any]]:
    """Returns the steps of a condition as the numbers they stand for; severity 0 does nothing."""
    import degradations

    found = []
    for step in degradations.parse(condition.spec) if condition.spec else ():
        entry = degradations.get(step.name)
        if step.severity > 0:
            found.append(
                {
                    "name": step.name,
                    "version": entry.version,
                    "parameters": dict(entry.parameters(step.severity, step.profile)),
                }
            )
    return found
