"""What to ask: samples x conditions x purposes, each with the key of its recipe.

The key is the sha256 of everything an answer depends on: the bytes of the source images and how
they are read, the degradation with its parameters and version, the seed, the size shown, the
messages, the candidates, the generation parameters, the model with its revision, the trial. It
needs no pixels, and neither names, paths, batch size nor order change it. Equal recipes are asked
once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeval import protocols
from mmeval.benchmarks import Benchmark
from mmeval.config import RunConfig
from mmeval.errors import MmevalError, is_plain
from mmeval.running.render import fingerprint
from mmeval.schema import Condition, ImageRef, Response, Sample, canonical
from mmeval.store import Row

if TYPE_CHECKING:
    from mmeval.probing import Donors

__all__ = ["Plan", "Planned", "about_place"]

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
# Images that a mean image is made of.
POOL = 64


#: Messages of first turns, by sample and whether a confidence is asked for.
_Said = dict[tuple[str, bool], tuple[Mapping[str, Any], ...]]


@dataclass(frozen=True, slots=True)
class Planned:
    """One question to be asked.

    Attributes:
        row: Key, benchmark, sample, condition and trial.
        benchmark: Where the images are.
        sample: The question.
        condition: What is done before asking.
        looks: What is done to each image of the sample.
        messages: What the model is told.
        candidates: Answers whose probabilities are asked for.
        max_new_tokens: Longest answer.
        temperature: 0 is greedy.
        problem: Why it cannot be asked, None if it can.
        pool: Images, with their files, that a mean image is made of.
    """

    row: Row
    benchmark: Benchmark
    sample: Sample
    condition: Condition
    looks: tuple[Condition, ...]
    messages: tuple[Mapping[str, Any], ...]
    candidates: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    problem: str | None = None
    pool: tuple[tuple[Path, ImageRef], ...] = ()


class Plan:
    """All questions of a run, made one at a time and always in the same order.

    Questions on the same images under the same condition come together. The answer to a question of
    two turns can be planned once the first turn is answered: see `first`.

    Args:
        config: The run.
        benchmarks: Loaded, in the configuration's order.
        identity: Of the model.

    Attributes:
        skipped: Condition to the number of samples it does not apply to, complete after a pass.
        refusals: Condition and reason to the number of samples that cannot be turned so.
        first: Answers of first turns by benchmark, sample and condition.
        waiting: Questions whose first turn is not answered yet, complete after a pass.
    """

    def __init__(
        self, config: RunConfig, benchmarks: Sequence[Benchmark], identity: Mapping[str, Any]
    ) -> None:
        self.config = config
        self.benchmarks = benchmarks
        self.identity = identity
        self.protocols = {
            benchmark.name: protocols.get(
                config.protocol or str(benchmark.spec.get("protocol") or "direct")
            )
            for benchmark in benchmarks
        }
        self.first: Mapping[tuple[str, str, str], Response] = {}
        self.waiting = 0
        self.conditions = [Condition(name) for name in config.conditions]
        self._steps = {c.name: _steps(c) for c in self.conditions}
        self.skipped: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self._prints: dict[tuple[Path, str], str | MmevalError] = {}
        self._donors: dict[str, Donors] = {}
        self._pools: dict[tuple[str, str | None], tuple[tuple[Path, ImageRef], ...]] = {}

    def samples(self) -> Iterator[tuple[Benchmark, Sample]]:
        """Yields the samples within the limit, in the benchmarks' order."""
        for benchmark in self.benchmarks:
            for sample in benchmark.samples[: self.config.limit]:
                yield benchmark, sample

    def __iter__(self) -> Iterator[Planned]:
        self.skipped.clear()
        self.refusals.clear()
        self.waiting = 0
        for benchmark in self.benchmarks:
            groups: dict[tuple[object, ...], list[Sample]] = {}
            for sample in benchmark.samples[: self.config.limit]:
                groups.setdefault(tuple(i.key for i in sample.images), []).append(sample)
            for group in groups.values():
                said: _Said = {}
                for condition in self.conditions:
                    for sample in group:
                        turned = self._turned(benchmark, sample, condition)
                        if turned is None or not self._applies(condition, turned):
                            self.skipped[condition.name] += 1
                            continue
                        # Most conditions leave the question as it is.
                        same = said if turned is sample else {}
                        yield from self._questions(benchmark, turned, condition, same)

    def one(self, benchmark: Benchmark, sample: Sample, condition: Condition) -> Planned | None:
        """Returns the question behind an answer; None where the condition leaves it out.

        Of two turns it is the second once the first is known (see `first`).
        """
        turned = self._turned(benchmark, sample, condition)
        if turned is None or not self._applies(condition, turned):
            return None
        two = self.protocols[benchmark.name].follow_up is not None
        known = (benchmark.name, sample.id, condition.name) in self.first
        return self._planned(
            benchmark, turned, condition, "turn" if two and not known else "answer", 0, {}
        )

    def _turned(self, benchmark: Benchmark, sample: Sample, condition: Condition) -> Sample | None:
        """The sample with its question or its images changed; None where that cannot be done."""
        if sample.invalid is not None or not (condition.variant or condition.control):
            return sample
        from mmeval import probing

        seed = self.config.seed
        turned: Sample | probing.Refused = sample
        if condition.variant is not None:
            turned = probing.apply_variant(sample, condition.variant, seed)
        if isinstance(turned, probing.Refused):
            return self._refused(condition, turned.reason)
        if condition.control is None:
            return turned
        if not turned.images:
            return self._refused(condition, "the question has no image")
        if condition.control == "no_image":
            return dataclasses.replace(turned, images=())
        if condition.control == "swapped":
            if benchmark.name not in self._donors:
                self._donors[benchmark.name] = probing.Donors(benchmark.samples)
            other = probing.swapped(turned, self._donors[benchmark.name], seed)
            if isinstance(other, probing.Refused):
                return self._refused(condition, other.reason)
            return other
        if condition.control == "shuffled":
            if len(turned.images) < 2:
                return self._refused(condition, "the question has one image only")
            order = probing.shuffled(len(turned.images), seed, turned.id)
            return dataclasses.replace(turned, images=tuple(turned.images[i] for i in order))
        return turned

    def _refused(self, condition: Condition, reason: str) -> Sample | None:
        self.refusals[condition.name, reason] += 1
        return None

    def _questions(
        self, benchmark: Benchmark, sample: Sample, condition: Condition, said: _Said
    ) -> Iterator[Planned]:
        """Everything that is asked of a sample: the answer, and what its confidence takes."""
        protocol = self.protocols[benchmark.name]
        if protocol.follow_up is not None:
            yield self._planned(benchmark, sample, condition, "turn", 0, said)
            if (benchmark.name, sample.id, condition.name) in self.first:
                yield self._planned(benchmark, sample, condition, "answer", 0, said)
            else:
                self.waiting += 1
            return
        yield self._planned(benchmark, sample, condition, "answer", 0, said)
        if "voting" in self.config.confidence and len(sample.candidates) > 1:
            for trial in range(self.config.trials):
                yield self._planned(benchmark, sample, condition, "vote", trial, said)
        if "verbalized" in self.config.confidence:
            yield self._planned(benchmark, sample, condition, "verbalized", 0, said)

    def _applies(self, condition: Condition, sample: Sample) -> bool:
        """A degradation is asked only where it makes sense for every image it is done to.

        One that moves anatomy would change the right answer about a place or a side.
        """
        if sample.invalid is not None or not condition.degradations:
            return True
        import degradations

        for number, step in enumerate(self._steps[condition.name]):
            if step["parameters"] is None:
                continue
            entry = degradations.get(step["name"])
            if entry.geometric and not self.config.ask_geometric and about_place(sample):
                return False
            images = [sample.images[i] for i in self._chosen(condition, number, sample)]
            if not images:
                return False
            fits = entry.modalities
            if fits is not None and not all(image.modality in fits for image in images):
                return False
        return True

    def _chosen(self, condition: Condition, number: int, sample: Sample) -> tuple[int, ...]:
        """Positions of the images that a step of the condition is done to."""
        selector, n = condition.degradations[number][1], len(sample.images)
        if selector == "all":
            return tuple(range(n))
        if n == 0 or (selector.isdecimal() and int(selector) > n):
            return ()
        from mmeval.probing import choose_images

        return choose_images(selector, n, self.config.seed, sample.id)

    def _looks(self, condition: Condition, sample: Sample) -> tuple[Condition, ...]:
        """What is done to each image."""
        if condition.name == "clean":
            return (condition,) * len(sample.images)
        parts: list[list[str]] = [[] for _ in sample.images]
        for number, (text, _) in enumerate(condition.degradations):
            for position in self._chosen(condition, number, sample):
                parts[position].append(text)
        if condition.control in ("blank", "mean"):
            parts = [[f"control/{condition.control}"] for _ in parts]
        return tuple(Condition("+".join(names) or "clean") for names in parts)

    def _pool(
        self, benchmark: Benchmark, sample: Sample, condition: Condition
    ) -> tuple[tuple[Path, ImageRef], ...]:
        """Up to `POOL` images of the benchmark, of the sample's modality, for a mean image."""
        if condition.control != "mean" or not sample.images:
            return ()
        modality = sample.images[0].modality
        key = (benchmark.name, modality)
        if key not in self._pools:
            found: dict[object, tuple[Path, ImageRef]] = {}
            for other in benchmark.samples:
                for image in other.images:
                    if len(found) < POOL and image.modality == modality:
                        readable = isinstance(self._fingerprint(benchmark, image), str)
                        if readable and other.invalid is None:
                            found.setdefault(image.key, (benchmark.locate(image), image))
            self._pools[key] = tuple(found.values())
        return self._pools[key]

    def _planned(
        self,
        benchmark: Benchmark,
        sample: Sample,
        condition: Condition,
        purpose: str,
        trial: int,
        said: _Said,
    ) -> Planned:
        config = self.config
        protocol = self.protocols[benchmark.name]
        problem = sample.invalid
        verbalized = purpose == "verbalized"
        first: Response | None = None
        if protocol.follow_up is not None and purpose == "answer":
            first = self.first[benchmark.name, sample.id, condition.name]
            if first.status != "ok":
                problem = problem or f"its first turn has no answer ({first.error or first.status})"
        known = (sample.id, verbalized)
        messages = said.get(known, ()) if first is None else ()
        if sample.invalid is None and not messages:
            messages = protocol.messages(
                sample,
                verbalized=verbalized,
                label=config.image_labels,
                first=None if first is None else first.text,
            )
            if first is None:
                said[known] = messages
        candidates = sample.candidates if "option" in config.confidence else ()
        candidates = candidates if purpose == "answer" else ()
        temperature = config.vote_temperature if purpose == "vote" else config.temperature
        longest = config.max_new_tokens or protocol.max_new_tokens
        longest += VERBALIZED_TOKENS if verbalized else 0
        images = []
        for image in sample.images:
            sha256 = self._fingerprint(benchmark, image)
            if isinstance(sha256, MmevalError):
                problem = problem or str(sha256)
                sha256 = f"unreadable {image.path}"  # each has a reason of its own
            images.append([sha256, image.modality, dict(image.choices)])
        pool = self._pool(benchmark, sample, condition) if problem is None else ()
        steps = self._recipe_steps(condition, sample) if problem is None else []
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
        if condition.control in ("blank", "mean"):
            recipe["control"] = condition.control
            recipe["pool"] = [self._fingerprint(benchmark, image) for _, image in pool]
        key = hashlib.sha256(canonical(recipe).encode()).hexdigest()
        row = Row(key, benchmark.name, sample.id, condition.name, trial, purpose)
        return Planned(
            row,
            benchmark,
            sample,
            condition,
            self._looks(condition, sample) if problem is None else (),
            messages,
            candidates,
            longest,
            temperature,
            problem,
            pool,
        )

    def _recipe_steps(self, condition: Condition, sample: Sample) -> list[dict[str, Any]]:
        """The steps as the numbers they stand for, and where not all images get them, which do."""
        found = []
        for number, step in enumerate(self._steps[condition.name]):
            chosen = self._chosen(condition, number, sample)
            some = len(chosen) < len(sample.images)
            found.append({**step, "images": list(chosen)} if some else step)
        return [step for step in found if step["parameters"] is not None]

    def _fingerprint(self, benchmark: Benchmark, image: ImageRef) -> str | MmevalError:
        key = benchmark.root, image.path
        if key not in self._prints:
            try:
                self._prints[key] = fingerprint(benchmark.locate(image))
            except (ValueError, OSError) as error:
                reason = str(error) if is_plain(error) else type(error).__name__
                reason = reason.removeprefix(f"{getattr(error, 'file', None)}: ")
                self._prints[key] = MmevalError(f"{image.path}: cannot be read: {reason}")
        return self._prints[key]

    def data_fingerprint(self, samples: Path) -> str:
        """Returns a sha256 over all samples and their images' bytes.

        Args:
            samples: The ``samples.jsonl`` with this plan's samples.
        """
        with samples.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        for benchmark, sample in self.samples():
            for image in sample.images:
                digest.update(f"{self._fingerprint(benchmark, image)}\n".encode())
        return digest.hexdigest()


def about_place(sample: Sample) -> bool:
    """Whether a question asks where something is, so that moved anatomy has another answer."""
    words = " ".join((sample.question, *sample.options))
    return sample.kind == "box" or _PLACE.search(words) is not None


def _steps(condition: Condition) -> list[dict[str, Any]]:
    """Returns the steps of a condition as the numbers they stand for; severity 0 does nothing."""
    if not condition.degradations:
        return []
    import degradations

    found = []
    for text, _ in condition.degradations:
        (step,) = degradations.parse(text)
        entry = degradations.get(step.name)
        parameters = dict(entry.parameters(step.severity, step.profile)) if step.severity else None
        found.append({"name": step.name, "version": entry.version, "parameters": parameters})
    return found
