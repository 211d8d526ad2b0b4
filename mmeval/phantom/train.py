"""Trains the demonstration model: ``python -m mmeval.phantom.train OUT``.

Two CPU cores need about an hour; an accelerator is used when there is one. A vision transformer
learns small findings slowly from answers alone, so it is first supervised on what the simulator
knows (where the finding is, which, how many, which side), then frozen while the language model
learns to answer from its features. (Training both together at the end was tried and gained
nothing; neither did teaching it to find an option's letter when options are shuffled, so the
phantoms' options stand in a fixed order.)

Training patients come from seeds of 900,000,000 and above, which no evaluation uses, and are
never degraded: how the model behaves on damaged images is what mmeval is there to measure.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeval.phantom import architecture, questions
from mmeval.phantom.anatomy import FINDINGS, SCENES, Patient, generator
from mmeval.phantom.architecture import IMAGE_SIZE, PATCH_SIZE
from mmeval.phantom.files import display
from mmeval.phantom.questions import Benchmark, Case
from mmeval.protocols import get
from mmeval.schema import Sample

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

log = logging.getLogger("mmeval.phantom.train")

FIRST_TRAINING_SEED = 900_000_000
GRID = IMAGE_SIZE // PATCH_SIZE
BINS = 51
"""Box edges are learnt as one of these places across the image."""
IGNORE = -100
SCENE_NAMES, FINDING_NAMES = tuple(SCENES), (None, *FINDINGS)


# --- images and what is on them ---------------------------------------------------------------


@dataclass(slots=True)
class Pool:
    """Training images with their patients and with the targets of the vision stage."""

    cases: list[Case]
    pixels: npt.NDArray[np.uint8]
    coverage: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def make_pool(units: int, seed: int) -> Pool:
    """Simulate the patients of ``units`` benchmark units (about eight images each)."""
    cases = questions.build(seed, units * len(questions.TASKS)).cases
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        done = list(workers.map(_example, cases, chunksize=64))
    pixels, coverage, labels = (np.stack(parts) for parts in zip(*done, strict=True))
    return Pool(cases, pixels, coverage, labels)


def _example(
    case: Case,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    from PIL import Image

    shown = Image.fromarray(display(case.patient))
    small = shown.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    return np.asarray(small), _coverage(case.patient), _labels(case.patient)


def _coverage(patient: Patient) -> npt.NDArray[np.float32]:
    """Fraction of each patch that the finding covers, shape (patches,)."""
    axis = (np.arange(IMAGE_SIZE) + 0.5) / IMAGE_SIZE * 2 - 1
    x, y = axis[None, :], axis[:, None]
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    if patient.finding == "effusion":
        left, top, right, bottom = (edge / 50 - 1 for edge in patient.box())
        mask = (x > left) & (x < right) & (y > top) & (y < bottom)
    else:
        for lesion in patient.lesions:
            mask |= np.hypot(x - lesion.x, y - lesion.y) < lesion.radius
    tiles = mask.reshape(GRID, PATCH_SIZE, GRID, PATCH_SIZE)
    return np.asarray(tiles.mean((1, 3)).reshape(-1), np.float32)


def _labels(patient: Patient) -> npt.NDArray[np.int64]:
    """Scene, finding, count, side, eye and box edges as class numbers; IGNORE where undefined."""
    single = len(patient.lesions) == 1
    side = ("left", "right").index(patient.side) if patient.side else IGNORE
    eye = ("left", "right").index(patient.eye) if patient.scene == "retina" else IGNORE
    edges = [round(edge / 100 * (BINS - 1)) for edge in patient.box()] if single else [IGNORE] * 4
    return np.array(
        [
            SCENE_NAMES.index(patient.scene),
            FINDING_NAMES.index(patient.finding),
            len(patient.lesions),
            side,
            eye,
            *edges,
        ]
    )


HEADS = (len(SCENE_NAMES), len(FINDING_NAMES), 5, 2, 2, BINS, BINS, BINS, BINS)


# --- stage 1: the vision tower learns what the simulator knows --------------------------------


class VisionHeads(nn.Module):
    """Throw-away heads. Each patch tells its own coverage and the facts of the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.coverage = nn.Linear(width, 1)
        self.facts = nn.Linear(width, sum(HEADS))

    def forward(self, features: Tensor, coverage: Tensor, labels: Tensor) -> Tensor:
        """Loss for features (N, patches, width), coverage (N, patches), labels (N, 9)."""
        local = F.binary_cross_entropy_with_logits(self.coverage(features)[..., 0], coverage)
        facts = self.facts(features).split(HEADS, dim=-1)
        total = 8.0 * local
        for logits, target, classes in zip(facts, labels.unbind(1), HEADS, strict=True):
            known = target != IGNORE
            if known.any():
                kept = logits[known]
                weights = _soft_target(target[known], classes)
                weights = weights[:, None, :].expand_as(kept)
                total = total + F.cross_entropy(kept.flatten(0, 1), weights.flatten(0, 1))
        return total


def _soft_target(target: Tensor, classes: int) -> Tensor:
    """One-hot targets; neighbouring places of a box edge count as nearly right."""
    if classes != BINS:
        return F.one_hot(target, classes).float()
    places = torch.arange(classes, device=target.device)
    return torch.softmax(-((places[None] - target[:, None]) ** 2) / 2.0, dim=1)


def _normalised(pixels: npt.NDArray[np.uint8], device: str, jitter: bool = False) -> Tensor:
    """Pixels as the image processor gives them: (N, 3, size, size) in [-1, 1]."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if jitter:
        # Display settings differ from site to site; contrast and brightness within a few percent.
        shape = (len(images), 1, 1, 1)
        gain = 1 + 0.05 * torch.randn(shape, device=device)
        images = (images * gain + 0.03 * torch.randn(shape, device=device)).clamp(-1, 1)
    return images


def _see(model: Idefics3ForConditionalGeneration, images: Tensor) -> Tensor:
    """Features of shape (N, patches, width)."""
    features: Tensor = model.model.vision_model(pixel_values=images).last_hidden_state
    return features


def train_vision(
    model: Idefics3ForConditionalGeneration, pool: Pool, *, steps: int, device: str
) -> None:
    """Stage 1."""
    heads = VisionHeads(architecture.VISION["hidden_size"]).to(device)
    tower = model.model.vision_model
    parameters = [*tower.parameters(), *heads.parameters()]
    rng = np.random.default_rng(0)
    batch = 96
    for step, optimizer in _schedule(parameters, steps, 1.5e-3):
        rows = rng.integers(len(pool.cases), size=batch)
        features = _see(model, _normalised(pool.pixels[rows], device, jitter=True))
        loss = heads(
            features,
            torch.from_numpy(pool.coverage[rows]).to(device),
            torch.from_numpy(pool.labels[rows]).to(device),
        )
        _descend(loss, parameters, optimizer)
        if step % 100 == 0 or step == steps - 1:
            log.info(
                "vision %5d/%d loss %.3f %s",
                step,
                steps,
                loss.item(),
                _right(heads, features, pool.labels[rows]),
            )


@torch.no_grad()
def _right(heads: VisionHeads, features: Tensor, labels: npt.NDArray[np.int64]) -> str:
    """Share of right facts on a batch, averaged over the patches' votes."""
    names = ("scene", "finding", "count", "side", "eye", "x1", "y1", "x2", "y2")
    facts = heads.facts(features).mean(1).split(HEADS, dim=-1)
    shown = []
    for name, logits, target in zip(names, facts, labels.T, strict=True):
        known = target != IGNORE
        if known.any():
            off = np.abs(logits.argmax(-1).cpu().numpy()[known] - target[known])
            shown.append(f"{name} {np.mean(off <= (1 if len(name) == 2 else 0)):.2f}")
    return " ".join(shown)


# --- stage 2: questions ----------------------------------------------------------------


MIX = {
    "modality": 0.6,
    "organ": 0.6,
    "probe": 0.8,
    "side": 1.4,
    "count": 1.4,
    "change": 1.6,
    "which": 1.4,
    "box": 1.4,
}
"""How often each task is drawn; a probe is three questions."""


class Asker:
    """Draws fresh questions about pool images, of every task in equal numbers."""

    def __init__(self, pool: Pool, parts: Idefics3Processor, seed: int) -> None:
        self.pool, self.parts = pool, parts
        self.rng = generator(seed, 7)
        self.protocol = get("direct")
        every = range(len(pool.cases))
        patients = [case.patient for case in pool.cases]
        self.single = [i for i in every if len(patients[i].lesions) == 1]
        self.sided = [i for i in self.single if patients[i].scene != "retina"]
        self.sided += [i for i in every if patients[i].scene == "retina"]
        self.counted = [i for i in every if patients[i].finding not in (None, "effusion")]
        self.by_count = [
            [i for i in self.counted if len(patients[i].lesions) == c] for c in range(1, 5)
        ]
        self.first_visits = [i for i in every if pool.cases[i].id.endswith("visit1")]
        self.healthy = {
            scene: [i for i in every if patients[i].scene == scene and not patients[i].lesions]
            for scene in SCENES
        }
        self.found = [i for i in self.single if patients[i].finding != "effusion"]

    def _pick(self, rows: Sequence[int]) -> int:
        return rows[int(self.rng.integers(len(rows)))]

    def draw(self, task: str) -> tuple[list[int], list[Sample]]:
        """Rows of the pool and questions about them, in one or several wordings."""
        out, rng, cases = Benchmark(), self.rng, self.pool.cases
        rows = [self._pick(range(len(cases)))]
        if task == "probe":
            questions.ask_probe(out, rng, cases[rows[0]])
        elif task in ("modality", "organ"):
            questions.ask_named(out, rng, cases[rows[0]], task)
        elif task == "side":
            rows = [self._pick(self.sided)]
            case = cases[rows[0]]
            if case.patient.finding is None:
                case = replace(case, patient=replace(case.patient, finding="exudate"))
            questions.ask_side(out, case)
        elif task == "count":
            rows = [self._pick(self.by_count[int(rng.integers(4))])]
            questions.ask_count(out, cases[rows[0]])
        elif task == "change":
            first = self._pick(self.first_visits)
            rows = [first, first + 1]
            if rng.random() < 0.5:
                rows.reverse()
            radii = [cases[row].patient.lesions[0].radius for row in rows]
            change = "unchanged" if radii[0] == radii[1] else "larger"
            questions.ask_change(
                out,
                [cases[row] for row in rows],
                change if radii[0] <= radii[1] else "smaller",
            )
        elif task == "which":
            shown, row = int(rng.integers(3)), self._pick(self.found)
            patient = cases[row].patient
            rows = [self._pick(self.healthy[patient.scene]) for _ in range(3)]
            rows[shown] = row
            questions.ask_which(out, [cases[r] for r in rows], str(patient.finding), shown)
        else:
            rows = [self._pick(self.single)]
            finding = FINDINGS[str(cases[rows[0]].patient.finding)]
            questions.ask(
                out,
                "box",
                [cases[rows[0]]],
                questions.box_question(finding),
                kind="box",
                answer=questions.box_answer(cases[rows[0]].patient),
                chance=0.0,
            )
        samples = out.samples
        if samples[0].kind == "choice" and rng.random() < 0.3:
            # The same in words, so that seeing and naming is learnt apart from lettering.
            text = samples[0].options["ABCDE".index(samples[0].answer)]
            samples = [replace(samples[0], kind="open", options=(), answer=text)]
        return rows, samples

    def batches(self, size: int) -> Iterator[tuple[list[list[int]], Tensor, Tensor]]:
        """Endless batches of about ``size`` questions of similar length."""
        while True:
            drawn = sorted(self._questions(6 * size), key=lambda q: len(q[1]) + len(q[2]))
            starts = np.arange(0, len(drawn) - size // 2, size)
            for start in self.rng.permutation(starts):
                yield self._padded(drawn[start : start + size])

    def _questions(self, size: int) -> list[tuple[list[int], list[int], list[int]]]:
        """Rows of the shown images, token ids of the question, token ids of the answer."""
        tasks, weights = tuple(MIX), np.array(list(MIX.values()))
        rows: list[list[int]] = []
        texts: list[str] = []
        answers: list[str] = []
        while len(rows) < size:
            task = tasks[int(self.rng.choice(len(tasks), p=weights / weights.sum()))]
            shown, samples = self.draw(task)
            for sample in samples:
                rows.append(shown)
                images = IMAGE_TEXT * len(shown)
                texts.append(
                    f"{architecture.USER}{images}{self.protocol.prompt(sample)}{architecture.END}{architecture.ASSISTANT}"
                )
                answers.append(sample.answer + architecture.END)
        words: Any = self.parts.tokenizer
        asked = words(texts, add_special_tokens=False)["input_ids"]
        told = words(answers, add_special_tokens=False)["input_ids"]
        return list(zip(rows, asked, told, strict=True))

    def _padded(
        self, drawn: list[tuple[list[int], list[int], list[int]]]
    ) -> tuple[list[list[int]], Tensor, Tensor]:
        """Token ids (N, L) padded on the right, with targets only on the answers."""
        length = max(len(question) + len(answer) for _, question, answer in drawn)
        words: Any = self.parts.tokenizer
        ids = torch.full((len(drawn), length), words.pad_token_id)
        targets = torch.full((len(drawn), length), IGNORE)
        for i, (_, question, answer) in enumerate(drawn):
            ids[i, : len(question) + len(answer)] = torch.tensor(question + answer)
            # Position t predicts token t + 1.
            start = len(question) - 1
            targets[i, start : start + len(answer)] = torch.tensor(answer)
        return [shown for shown, _, _ in drawn], ids, targets


IMAGE_TEXT = (
    "<fake_token_around_image><global-img>"
    + "<image>" * architecture.IMAGE_TOKENS
    + "<fake_token_around_image>"
)
"""What the processor writes for one image."""


def _loss(
    model: Idefics3ForConditionalGeneration, features: Tensor, ids: Tensor, targets: Tensor
) -> tuple[Tensor, float]:
    """Cross-entropy and accuracy on the answers, given vision features of the shown images."""
    inner = model.model
    embedded = inner.get_input_embeddings()(ids)
    merged = embedded
    if len(features):
        merged = inner.inputs_merger(ids, embedded, inner.connector(features).flatten(0, 1))
    # Padding is on the right and attention causal, so that no mask is needed.
    hidden = inner.text_model(inputs_embeds=merged, use_cache=False).last_hidden_state
    known = targets != IGNORE
    logits = model.lm_head(hidden[known])
    loss = F.cross_entropy(logits, targets[known])
    return loss, float((logits.argmax(-1) == targets[known]).float().mean())


def train_language(
    model: Idefics3ForConditionalGeneration,
    pool: Pool,
    parts: Idefics3Processor,
    *,
    steps: int,
    device: str,
) -> None:
    """Stage 2: connector and language model on frozen vision features."""
    with torch.no_grad():
        features = torch.cat(
            [
                _see(model, _normalised(pool.pixels[i : i + 256], device)).half()
                for i in range(0, len(pool.cases), 256)
            ]
        )
    trained = [*model.model.connector.parameters(), *model.model.text_model.parameters()]
    batches = Asker(pool, parts, seed=1).batches(64)
    for step, optimizer in _schedule(trained, steps, 2e-3):
        rows, ids, targets = next(batches)
        shown = torch.tensor([row for many in rows for row in many], dtype=torch.long)
        loss, right = _loss(model, features[shown].float(), ids.to(device), targets.to(device))
        _descend(loss, trained, optimizer)
        if step % 50 == 0 or step == steps - 1:
            log.info(
                "language %5d/%d loss %.3f answer tokens right %.3f",
                step,
                steps,
                loss.item(),
                right,
            )


# --- machinery --------------------------------------------------------------------------------


def _schedule(
    parameters: list[nn.Parameter], steps: int, peak: float
) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """AdamW with a short linear warm-up and a cosine decay to zero."""
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.02, betas=(0.9, 0.98))
    warm = max(steps // 20, 1)
    for step in range(steps):
        decay = 0.5 * (1 + math.cos(math.pi * max(step - warm, 0) / max(steps - warm, 1)))
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / warm) * decay
        yield step, optimizer


def _descend(
    loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mmeval.phantom.train", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument(
        "--units", type=int, default=3000, help="training patients, in units of 8 images"
    )
    parser.add_argument("--vision-cycles", type=int, default=2, help="warm restarts of stage 1")
    parser.add_argument("--vision-steps", type=int, default=1300, help="steps of each cycle")
    parser.add_argument("--language-steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    start = time.monotonic()
    torch.manual_seed(asked.seed)
    parts = architecture.processor()
    model = architecture.model(parts).to(asked.device)
    log.info("%d parameters", sum(p.numel() for p in model.parameters()))
    pool = make_pool(asked.units, FIRST_TRAINING_SEED)
    log.info("%d training images", len(pool.cases))
    for _ in range(asked.vision_cycles):
        train_vision(model, pool, steps=asked.vision_steps, device=asked.device)
    train_language(model, pool, parts, steps=asked.language_steps, device=asked.device)
    architecture.save(model.cpu(), parts, asked.out)
    log.info("saved to %s after %.0f minutes", asked.out, (time.monotonic() - start) / 60)


if __name__ == "__main__":
    main()
