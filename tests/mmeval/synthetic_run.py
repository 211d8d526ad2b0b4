"""A made-up run directory: accuracy falls with severity, confidence does not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KEEPS_CONFIDENCE = 0.9
CONDITIONS = (
    "clean",
    *(f"general/gaussian_noise:{severity}" for severity in (1, 3, 5)),
    *(f"general/gaussian_blur:{severity}" for severity in (1, 3, 5)),
    *(f"ct/low_dose:{severity}" for severity in (1, 3, 5)),
)


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_samples(n_images: int) -> list[dict[str, Any]]:
    """Three questions an image: side (choice), a finding and its negation (yes_no)."""
    samples = []
    for number in range(n_images):
        modality = "ct" if number % 2 else "xray"
        image = f"{modality}-{number:04d}"
        shared = {
            "benchmark": "phantom",
            "images": [{"path": f"images/{image}.png", "modality": modality, "choices": {}}],
            "cluster": image,
            "chance": 0.5,
        }
        there = number % 4 < 2
        samples += [
            {
                **shared,
                "id": f"{image}/side",
                "question": "On which side is the nodule?",
                "kind": "choice",
                "options": ["left", "right"],
                "answer": "AB"[number % 3 == 0],
                "tags": {"modality": modality, "task": "side"},
                "group": None,
                "role": None,
            },
            {
                **shared,
                "id": f"{image}/presence",
                "question": "Is there a nodule?",
                "kind": "yes_no",
                "options": [],
                "answer": "yes" if there else "no",
                "tags": {"modality": modality, "task": "presence"},
                "group": f"{image}/probe",
                "role": "plain",
            },
            {
                **shared,
                "id": f"{image}/negated",
                "question": "Is the nodule absent?",
                "kind": "yes_no",
                "options": [],
                "answer": "no" if there else "yes",
                "tags": {"modality": modality, "task": "negation"},
                "group": f"{image}/probe",
                "role": "negated",
            },
        ]
    return samples


def respond(sample: Mapping[str, Any], condition: str, text: str, **fields: Any) -> dict[str, Any]:
    """A response line; by default answered, without log-probabilities."""
    return {
        "key": f"{sample['id']}|{condition}",
        "benchmark": sample["benchmark"],
        "sample": sample["id"],
        "condition": condition,
        "trial": 0,
        "purpose": "answer",
        "status": "ok",
        "text": text,
        "finish_reason": "stop",
        "option_logprobs": None,
        "prompt_tokens": 80,
        "completion_tokens": 1,
        "latency_s": 0.01,
        "error": None,
        **fields,
    }


def write_run(
    folder: Path, samples: Sequence[Mapping[str, Any]], responses: Sequence[Mapping[str, Any]]
) -> Path:
    """The files that scoring and reporting read, as the store writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "samples.jsonl", samples)
    write_jsonl(folder / "responses.jsonl", responses)
    names = ("key", "benchmark", "sample", "condition", "trial", "purpose")
    plan = [{name: response[name] for name in names} for response in responses]
    write_jsonl(folder / "requests.jsonl", plan)
    return folder


def make_run(folder: Path, n_images: int = 60, seed: int = 0) -> Path:
    """Accuracy 0.9 on clean images, 0.08 less per step of severity; confidence stays near 0.9."""
    chance = random.Random(seed)
    samples = make_samples(n_images)
    responses = []
    for sample in samples:
        options = ["yes", "no"] if sample["kind"] == "yes_no" else ["A", "B"]
        for condition in CONDITIONS:
            if condition.startswith("ct/") and sample["tags"]["modality"] != "ct":
                continue
            severity = 0 if condition == "clean" else int(condition[-1])
            right = chance.random() < KEEPS_CONFIDENCE - 0.08 * severity
            wrong = next(option for option in options if option != sample["answer"])
            given = sample["answer"] if right else wrong
            sure = min(0.999, max(0.5, chance.gauss(KEEPS_CONFIDENCE, 0.06)))
            logprobs = {
                option: math.log(sure if option == given else 1 - sure) for option in options
            }
            responses.append(respond(sample, condition, given, option_logprobs=logprobs))
    failed, refused, prose = responses[5], responses[17], responses[29]
    failed.update(status="error", text="", error="out of memory", option_logprobs=None)
    refused.update(status="refused", text="", option_logprobs=None)
    prose.update(text="I cannot tell from this image.")
    return write_run(folder, samples, responses)
