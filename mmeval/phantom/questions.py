"""Questions with known answers about simulated patients.

Ten tasks, in equal numbers: ``modality``, ``organ``, ``presence`` with its negated wording
(``presence_negated``) and its hallucinated twin (``hallucination``: a finding that is not there),
``side``, ``count``, ``change`` between two visits, ``which`` of three images, and ``box``.
Answers are balanced by construction, so that a model that does not look scores at chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmeval.phantom.anatomy import (
    FINDINGS,
    SCENES,
    SLIDE_MPP,
    Finding,
    Patient,
    follow_up,
    generator,
    make_patient,
)
from mmeval.schema import ImageRef, Sample

TASKS = (
    "modality",
    "organ",
    "presence",
    "presence_negated",
    "hallucination",
    "side",
    "count",
    "change",
    "which",
    "box",
)

MODALITY_NAMES = {
    "xray": "X-ray",
    "ct": "CT",
    "mri": "MRI",
    "fundus": "fundus photograph",
    "pathology": "microscopy of stained tissue",
}
_MODALITIES = tuple(MODALITY_NAMES)
ORGANS = ("chest", "brain", "abdomen", "eye", "colon")
IMAGE_NAMES = ("the first image", "the second image", "the third image")
CHANGES = ("larger", "smaller", "unchanged")
COUNTS = ("1", "2", "3", "4")
SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Case:
    """A simulated image: who is on it, and the file it is written to."""

    id: str
    patient: Patient

    @property
    def image(self) -> ImageRef:
        """Where the image lies and how it is to be read."""
        scene = SCENES[self.patient.scene]
        choices: dict[str, object] = {}
        if scene.modality in ("ct", "mri"):
            choices["slice"] = self.patient.slice_index
        if scene.modality == "ct":
            choices["window"] = scene.organ
        if scene.modality == "pathology":
            choices["mpp"] = SLIDE_MPP
        path = f"images/{self.id}{self.suffix}"
        return ImageRef(path=path, modality=scene.modality, choices=choices)

    @property
    def suffix(self) -> str:
        """File name ending; a CT is a DICOM series (a folder) or NIfTI, half of them each."""
        if self.patient.scene in ("head CT", "abdominal CT"):
            return "" if self.patient.noise_key % 2 else ".nii.gz"
        return {
            "chest film": ".dcm",
            "brain MRI": ".nii.gz",
            "retina": ".jpg",
            "tissue": ".tif",
        }[self.patient.scene]


@dataclass(slots=True)
class Benchmark:
    """Cases and samples under construction; samples refer to cases by their image."""

    cases: list[Case] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def build(seed: int, n: int) -> Benchmark:
    """Make ``n`` questions about simulated patients.

    Args:
        seed: Any non-negative integer; the same seed gives the same benchmark, and a smaller
            ``n`` gives its beginning.
        n: Number of questions. Every ten hold each of :data:`TASKS` once.
    """
    benchmark = Benchmark()
    unit = 0
    while len(benchmark.samples) < n:
        _unit(benchmark, seed, unit)
        unit += 1
    del benchmark.samples[n:]
    used = {image.path for sample in benchmark.samples for image in sample.images}
    benchmark.cases = [case for case in benchmark.cases if case.image.path in used]
    return benchmark


def _unit(out: Benchmark, seed: int, unit: int) -> None:
    """Ten questions, one of each task, about eight images of six patients."""
    rng = generator(seed, unit, 100)
    name = f"p{unit:05d}"

    def case(label: str, patient: Patient) -> Case:
        made = Case(f"{name}{label}", patient)
        out.cases.append(made)
        return made

    def scene(turn: int) -> str:
        """The modalities take turns, so that each task meets each of them equally often."""
        return _scene(rng, "modality", _MODALITIES[(unit + turn) % len(_MODALITIES)])

    single = case("a", _single(rng, scene(0)))
    healthy = case("b", make_patient(rng, scene=_scene(rng, "organ", ORGANS[unit % len(ORGANS)])))
    ask_named(out, rng, single, "modality")
    ask_named(out, rng, healthy, "organ")
    ask_probe(out, rng, single if unit % 2 == 0 else healthy)
    ask_box(out, rng, single)

    ask_side(out, case("c", _single(rng, scene(1))))

    place = scene(2)
    count = 1 + int(rng.integers(len(COUNTS)))
    many = make_patient(rng, scene=place, finding=_blob(rng, place), count=count)
    ask_count(out, case("d", many))

    place = scene(3)
    change = _choose(rng, CHANGES)
    patient = make_patient(rng, scene=place, finding=_blob(rng, place))
    earlier, later = follow_up(rng, patient, change)
    ask_change(out, [case("e-visit1", earlier), case("e-visit2", later)], change)

    place = scene(4)
    finding = _blob(rng, place)
    shown = int(rng.integers(3))
    trio = [
        case(
            f"f{position + 1}",
            make_patient(rng, scene=place, finding=finding if position == shown else None),
        )
        for position in range(3)
    ]
    ask_which(out, trio, finding, shown)


# --- drawing ----------------------------------------------------------------------------------


def _choose(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def _scene(rng: np.random.Generator, attribute: str, value: str) -> str:
    """A scene of the given modality or organ."""
    return _choose(rng, tuple(k for k, s in SCENES.items() if getattr(s, attribute) == value))


def _single(rng: np.random.Generator, scene: str) -> Patient:
    """A patient with exactly one finding, of any kind."""
    return make_patient(rng, scene=scene, finding=_choose(rng, SCENES[scene].findings))


def _blob(rng: np.random.Generator, scene: str) -> str:
    """A finding that can be counted and measured (an effusion cannot)."""
    return _choose(rng, tuple(f for f in SCENES[scene].findings if f != "effusion"))


def ask(
    out: Benchmark,
    task: str,
    cases: list[Case],
    question: str,
    *,
    kind: str,
    answer: str,
    chance: float,
    options: tuple[str, ...] = (),
    group: str | None = None,
    role: str | None = None,
    finding: str | None = None,
) -> None:
    """Add a question about one or several cases."""
    scene = SCENES[cases[0].patient.scene]
    tags = {"task": task, "modality": scene.modality, "organ": scene.organ}
    if finding is not None:
        tags["finding"] = finding
    out.samples.append(
        Sample(
            id=f"{cases[0].id}/{task}",
            question=question,
            kind=kind,
            options=options,
            answer=answer,
            images=tuple(case.image for case in cases),
            tags=tags,
            group=group,
            role=role,
            cluster=cases[0].id.rstrip("0123456789").split("-")[0],
            chance=chance,
        )
    )


def _ask_choice(
    out: Benchmark,
    task: str,
    cases: list[Case],
    question: str,
    *,
    options: tuple[str, ...],
    right: str,
    finding: str | None = None,
) -> None:
    """Ask with all options in their natural order; the truth is what is balanced."""
    ask(
        out,
        task,
        cases,
        question,
        kind="choice",
        options=options,
        answer="ABCDE"[options.index(right)],
        chance=1 / len(options),
        finding=finding,
    )


# --- tasks ------------------------------------------------------------------------------------


def ask_named(out: Benchmark, rng: np.random.Generator, case: Case, task: str) -> None:
    """What was the image made with (``modality``), or of what (``organ``)."""
    scene = SCENES[case.patient.scene]
    if task == "modality":
        right, options = MODALITY_NAMES[scene.modality], tuple(MODALITY_NAMES.values())
        wordings = ("Which imaging modality is this?", "How was this image acquired?")
    else:
        right, options = scene.organ, ORGANS
        wordings = ("Which body part is shown?", "What does this image show?")
    _ask_choice(out, task, [case], _choose(rng, wordings), options=options, right=right)


def ask_probe(out: Benchmark, rng: np.random.Generator, case: Case) -> None:
    """Presence, the same with a negated wording, and a finding that is not there."""
    patient = case.patient
    scene = SCENES[patient.scene]
    asked = patient.finding or _choose(rng, scene.findings)
    present = patient.finding is not None
    absent = tuple(f for f in scene.findings if f not in (asked, patient.finding))
    elsewhere = tuple(f for f in FINDINGS if f not in scene.findings)
    twin = _choose(rng, absent if absent and rng.random() < 0.5 else elsewhere)
    plain = ("Is there {} in this image?", "Does this image show {}?")
    negated = ("Is this image free of {}?", "Is it true that there are no {} in this image?")
    group = f"{case.id}/probe"
    wording = int(rng.integers(2))
    for task, role, finding, text, answer in (
        ("presence", "plain", asked, plain[wording], present),
        ("presence_negated", "negated", asked, negated[wording], not present),
        ("hallucination", "hallucinated", twin, plain[wording], False),
    ):
        name = FINDINGS[finding].plural if role == "negated" else FINDINGS[finding].singular
        ask(
            out,
            task,
            [case],
            text.format(name),
            kind="yes_no",
            answer="yes" if answer else "no",
            chance=0.5,
            group=group,
            role=role,
            finding=finding,
        )


def ask_side(out: Benchmark, case: Case) -> None:
    """On which side the finding is, or which eye this is."""
    patient = case.patient
    finding = str(patient.finding)
    right = patient.eye if patient.scene == "retina" else str(patient.side)
    if patient.scene == "retina":
        question = "Which eye is this?"
    elif patient.scene == "tissue":
        question = f"In which half of the image is there {FINDINGS[finding].singular}?"
    else:
        question = f"On which side of the patient is there {FINDINGS[finding].singular}?"
    _ask_choice(out, "side", [case], question, options=SIDES, right=right, finding=finding)


def ask_count(out: Benchmark, case: Case) -> None:
    """How many lesions there are, one to four."""
    finding = str(case.patient.finding)
    question = f"How many {FINDINGS[finding].plural} are there?"
    right = str(len(case.patient.lesions))
    _ask_choice(out, "count", [case], question, options=COUNTS, right=right, finding=finding)


def ask_change(out: Benchmark, visits: list[Case], change: str) -> None:
    """Whether the lesion is larger, smaller or unchanged at the second of two visits."""
    finding = str(visits[0].patient.finding)
    name = FINDINGS[finding].singular.split(" ", 1)[1]
    question = f"Two visits of one patient, earlier first. How has the {name} changed?"
    _ask_choice(out, "change", visits, question, options=CHANGES, right=change, finding=finding)


def ask_which(out: Benchmark, trio: list[Case], finding: str, shown: int) -> None:
    """Which of three images shows the finding."""
    question = f"Which of these images shows {FINDINGS[finding].singular}?"
    right = IMAGE_NAMES[shown]
    _ask_choice(out, "which", trio, question, options=IMAGE_NAMES, right=right, finding=finding)


def box_question(finding: Finding) -> str:
    """Wording of the ``box`` task."""
    return f"Where is the {finding.singular.split(' ', 1)[1]}?"


def box_answer(patient: Patient) -> str:
    """Gold answer of the ``box`` task: ``[x1, y1, x2, y2]`` in whole percent."""
    return f"[{', '.join(str(edge) for edge in patient.box())}]"


def ask_box(out: Benchmark, rng: np.random.Generator, case: Case) -> None:
    """Where the finding is; chance is what boxes of other such patients would score."""
    patient = case.patient
    finding = str(patient.finding)
    truth = patient.box()
    guesses = [make_patient(rng, scene=patient.scene, finding=finding).box() for _ in range(100)]
    chance = float(np.mean([overlap(truth, guess) >= 0.5 for guess in guesses]))
    ask(
        out,
        "box",
        [case],
        box_question(FINDINGS[finding]),
        kind="box",
        answer=box_answer(patient),
        chance=chance,
        finding=finding,
    )


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area - shared)
