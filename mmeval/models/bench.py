"""Speed of the backends: ``python -m mmeval.models.bench [--engine ENGINE] [--json]``.

Nine questions on each phantom picture, asked in three ways that take turns in one run, so that
other work on the machine slows them alike; the median of the rounds counts. ``one at a time`` runs
every question whole and alone, ``batched`` runs them whole in batches, ``shared prefix`` encodes
each picture once. The answers of all three are compared. Any model of the backend can be timed:
``python -m mmeval.models.bench CHECKPOINT --device cuda --dtype bfloat16``.

``--engine vllm`` compares the vllm backend with ``LLM.chat`` given all requests at once, on one
engine whose caches are emptied before each turn. ``--engine openai`` compares the openai backend
with a bare httpx2 client, both at ``--concurrency``, against the server at ``--url``, or one that
answers everything after ``--delay`` seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mmeval.errors import MmevalError
from mmeval.models.transformers import TransformersModel
from mmeval.schema import ImageRef, Request, Response, Sample

__all__ = ["Row", "measure", "workload"]

_FINDINGS = ("nodule", "effusion", "fracture", "pneumothorax", "opacity", "pacemaker", "mass")
_PLACES = ("left lung", "right lung", "left upper zone", "right lower zone", "mediastinum")
_BASE = "one at a time"


class Way(Protocol):
    """Something that answers requests."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answers every request once."""
        ...


@dataclass(frozen=True)
class Row:
    """One way of asking.

    Attributes:
        way: What it is called.
        questions_per_second: Median of the rounds.
        ratio: Over that of the first way.
        same_answers: Share of texts equal to those of the first way.
        apart: Largest difference of an option's probability from the first way, where both tell.
    """

    way: str
    questions_per_second: float
    ratio: float
    same_answers: float
    apart: float


def workload(pictures: int, questions: int, size: int, max_new_tokens: int = 32) -> list[Request]:
    """Makes yes/no questions on phantom pictures.

    Args:
        pictures: How many.
        questions: How many on each, as ProbMed asks nine.
        size: Height and width of the pictures.
        max_new_tokens: Longest answer.
    """
    import numpy as np
    from PIL import Image

    from mmeval import protocols
    from mmeval.phantom import questions as phantom
    from mmeval.phantom.files import display

    protocol = protocols.get("direct")
    cases = phantom.build(seed=17, n=4 * pictures).cases
    requests = []
    for number in range(pictures):
        shown = Image.fromarray(display(cases[number % len(cases)].patient)).convert("RGB")
        pixels = np.asarray(shown.resize((size, size), Image.Resampling.BICUBIC))
        for place in range(questions):
            finding = _FINDINGS[place % len(_FINDINGS)]
            where = _PLACES[place // len(_FINDINGS) % len(_PLACES)]
            text = f"Is there a {finding} in the {where}?"
            sample = Sample(f"q{place}", text, "yes_no", "yes", (ImageRef("x"),))
            requests.append(
                Request(
                    key=f"{number}-{place}",
                    benchmark="bench",
                    sample=sample.id,
                    condition="clean",
                    trial=0,
                    messages=protocol.messages(sample),
                    images=(pixels,),
                    candidates=sample.candidates,
                    max_new_tokens=max_new_tokens,
                )
            )
    return requests


def measure(
    ways: Mapping[str, Way],
    requests: Sequence[Request],
    rounds: int = 3,
    before: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Times models on the same requests; the first way is what the others are compared with.

    Args:
        ways: Name to model.
        requests: What is asked.
        rounds: Timed turns.
        before: Called before each turn of each way, outside its time.

    Raises:
        MmevalError: A request failed; its speed would mean nothing.
    """
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, dict[str, Response]] = {}
    for turn in range(rounds + 1):
        for way, model in ways.items():
            before()
            began = time.perf_counter()
            # The turn that warms up and tries the prefixes is short.
            asked = requests if turn else requests[: 2 * len(requests) // 3 + 1]
            found = {answer.key: answer for answer in model.generate(asked)}
            spent = time.perf_counter() - began
            failed = [answer.error for answer in found.values() if answer.status != "ok"]
            if failed:
                raise MmevalError(f"{way}: {len(failed)} requests failed: {failed[0]}")
            if turn:
                speeds[way].append(len(requests) / spent)
                answers[way] = found
    base = next(iter(ways))
    medians = {way: statistics.median(each) for way, each in speeds.items()}
    return [
        Row(
            way,
            round(speed, 1),
            round(speed / medians[base], 2),
            _same(answers[base], answers[way]),
            _apart(answers[base], answers[way]),
        )
        for way, speed in medians.items()
    ]


def _same(first: Mapping[str, Response], second: Mapping[str, Response]) -> float:
    return sum(first[key].text == second[key].text for key in first) / len(first)


def _apart(first: Mapping[str, Response], second: Mapping[str, Response]) -> float:
    import math

    most = 0.0
    for key, answer in first.items():
        for option, logprob in (answer.option_logprobs or {}).items():
            other = (second[key].option_logprobs or {}).get(option, logprob)
            most = max(most, abs(math.exp(logprob) - math.exp(other)))
    return most


def _transformers(chosen: argparse.Namespace) -> tuple[dict[str, Way], dict[str, Any]]:
    def load(batch: int, reuse: str) -> TransformersModel:
        return TransformersModel(
            chosen.model,
            batch_size=batch,
            prefix_reuse=reuse,
            device=chosen.device,
            dtype=chosen.dtype,
        )

    alone = load(1, "off")
    ways: dict[str, Way] = {
        _BASE: alone,
        "batched": load(chosen.batch, "off"),
        "shared prefix": load(chosen.batch, "on"),
    }
    facts = {
        "model": chosen.model,
        "batch": chosen.batch,
        "device": str(alone.device),
        "dtype": alone.identity["dtype"],
    }
    return ways, facts


def _vllm(
    chosen: argparse.Namespace,
) -> tuple[dict[str, Way], dict[str, Any], Callable[[], None]]:
    import vllm

    from mmeval.models.bare import LLMChat
    from mmeval.models.vllm import VLLMModel

    model = VLLMModel(chosen.model, dtype=chosen.dtype, engine=json.loads(chosen.vllm))
    llm = model.llm

    def forget() -> None:
        llm.reset_prefix_cache()
        llm.llm_engine.reset_mm_cache()

    ways: dict[str, Way] = {"LLM.chat": LLMChat(llm), "mmeval": model}
    facts = {"model": chosen.model, "dtype": model.identity["dtype"], "vllm": vllm.__version__}
    return ways, facts, forget


def _openai(chosen: argparse.Namespace, stack: ExitStack) -> tuple[dict[str, Way], dict[str, Any]]:
    from mmeval.models.bare import BareClient, answering
    from mmeval.models.openai import OpenAIModel

    url = chosen.url or stack.enter_context(answering(chosen.delay))
    name = chosen.model if chosen.url else "bench"
    ways: dict[str, Way] = {
        "bare httpx2": BareClient(name, url, chosen.concurrency),
        "mmeval": OpenAIModel(name, url, concurrency=chosen.concurrency),
    }
    facts = {"model": name, "concurrency": chosen.concurrency}
    return ways, facts if chosen.url else facts | {"delay_s": chosen.delay}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, or JSON."""
    import torch
    import transformers

    parser = argparse.ArgumentParser(
        prog="python -m mmeval.models.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", default="phantom", help="checkpoint (phantom)")
    parser.add_argument("--engine", choices=("transformers", "vllm", "openai"),
                        default="transformers")  # fmt: skip
    parser.add_argument("--pictures", type=int, default=12, help="how many (12)")
    parser.add_argument("--questions", type=int, default=9, help="on each picture (9)")
    parser.add_argument("--size", type=int, default=512, help="height and width (512)")
    parser.add_argument("--batch", type=int, default=32, help="questions at once (32)")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="longest answer (32)")
    parser.add_argument("--rounds", type=int, default=3, help="timed turns (3)")
    parser.add_argument("--device", default="auto", help="torch device")
    parser.add_argument("--dtype", default="auto", help="torch type")
    parser.add_argument("--threads", type=int, default=1, help="threads on the CPU (1)")
    parser.add_argument("--vllm", default="{}", help="arguments of vllm.LLM, as JSON")
    parser.add_argument("--url", help="a server that has the model (one that says yes)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at once (64)")
    parser.add_argument("--delay", type=float, default=0.05, help="of the yes, in seconds (0.05)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    requests = workload(chosen.pictures, chosen.questions, chosen.size, chosen.max_new_tokens)
    with ExitStack() as stack:
        forget: Callable[[], None] = lambda: None  # noqa: E731
        if chosen.engine == "vllm":
            ways, facts, forget = _vllm(chosen)
        elif chosen.engine == "openai":
            ways, facts = _openai(chosen, stack)
        else:
            ways, facts = _transformers(chosen)
        rows = measure(ways, requests, chosen.rounds, forget)
    facts |= {
        "engine": chosen.engine,
        "pictures": chosen.pictures,
        "questions": chosen.questions,
        "size": chosen.size,
        "threads": chosen.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    if chosen.json:
        print(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=2))
        return
    print(f"{'':16}{'questions/s':>12}{'ratio':>8}{'same answers':>14}{'probabilities apart':>21}")
    for row in rows:
        print(
            f"{row.way:16}{row.questions_per_second:>12.1f}{row.ratio:>8.2f}"
            f"{row.same_answers:>14.1%}{row.apart:>21.1e}"
        )
    print(facts)


if __name__ == "__main__":
    main()
