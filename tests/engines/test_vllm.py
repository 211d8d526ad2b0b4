"""The packaged model through transformers, vLLM in process, and vLLM's own server: one answer."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import mmeval
from mmeval import phantom
from mmeval.runs import Run
from mmeval.schema import Response

N = 300
ENGINE = {
    "max_model_len": 512,
    "enforce_eager": True,
    "max_num_seqs": 32,
}
VLLM = {"backend": "vllm", "path": "phantom", "dtype": "float32", "max_images": 4, "engine": ENGINE}
REPOSITORY = Path(mmeval.__file__).resolve().parent.parent

Key = tuple[str, str, int]


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom.write(folder, seed=20_261_122, n=N)
    return folder / "samples.jsonl"


def ask(model: Mapping[str, Any], questions: Path, out: Path, **settings: Any) -> Run:
    run = mmeval.evaluate(model, str(questions), ["clean"], out=out, progress=False, **settings)
    assert {r.error for r in run.responses if r.status != "ok"} == set()
    return run


@pytest.fixture(scope="session")
def reference(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = {"backend": "transformers", "path": "phantom", "dtype": "float32", "device": "cpu"}
    return ask(model, questions, tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="session")
def in_process(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ask(VLLM, questions, tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of vLLM's OpenAI-compatible server with the packaged model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(phantom.checkpoint_path()), "--served-model-name", "phantom",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager",
        "--max-model-len", "512", "--limit-mm-per-prompt", '{"image":4}', "--max-num-seqs", "32",
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
        try:
            deadline = time.monotonic() + 300
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(1.0)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture(scope="session")
def served(server: str, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = {"backend": "openai", "model": "phantom", "base_url": server}
    return ask(model, questions, tmp_path_factory.mktemp("openai"))


def by_question(run: Run) -> dict[Key, Response]:
    return {(r.sample, r.condition, r.trial): r for r in run.responses}


def agree(one: Run, other: Run) -> tuple[float, float]:
    """Share of equal answers, and the largest difference of an option's probability.

    A different answer is forgiven, and counted, only where the reference is at a near-tie.
    """
    first, second = by_question(one), by_question(other)
    assert first.keys() == second.keys()
    same, worst = 0, 0.0
    for key, response in first.items():
        theirs = second[key]
        same += response.text == theirs.text
        if response.option_logprobs is not None:
            assert theirs.option_logprobs is not None
            worst = max(
                worst,
                *(
                    abs(math.exp(value) - math.exp(theirs.option_logprobs[name]))
                    for name, value in response.option_logprobs.items()
                ),
            )
    return same / len(first), worst


def test_the_questions_have_no_one_and_several_images(reference: Run) -> None:
    counts = {len(sample.images) for sample in reference.samples.values()}
    assert {1, 2} <= counts


def test_vllm_in_process_gives_the_answers_of_transformers(reference: Run, in_process: Run) -> None:
    equal, worst = agree(reference, in_process)
    assert equal >= 0.99
    assert worst <= 0.02


def test_vllms_server_gives_the_answers_of_transformers(reference: Run, served: Run) -> None:
    equal, worst = agree(reference, served)
    assert equal >= 0.99
    assert worst <= 0.02


def test_tokens_are_counted_alike(reference: Run, in_process: Run, served: Run) -> None:
    counted = [
        {key: (r.prompt_tokens, r.finish_reason) for key, r in by_question(run).items()}
        for run in (reference, in_process, served)
    ]
    assert counted[0] == counted[1] == counted[2]


def test_votes_are_seeded_and_every_confidence_can_be_had_together(
    server: str, questions: Path, tmp_path: Path
) -> None:
    model = {"backend": "openai", "model": "phantom", "base_url": server}
    confidence = ["option", "voting", "verbalized"]
    runs = [
        ask(model, questions, tmp_path / name, confidence=confidence, trials=3, limit=10)
        for name in ("one", "two")
    ]
    votes = [
        {(r.sample, r.trial): r.text for r in run.responses if r.purpose == "vote"} for run in runs
    ]
    assert votes[0] == votes[1]
    assert votes[0]
    sources = {row["confidence"] for row in runs[0].metrics}
    assert {"option", "voting"} <= sources
    purposes = {r.purpose for r in runs[0].responses}
    assert purposes == {"answer", "vote", "verbalized"}
