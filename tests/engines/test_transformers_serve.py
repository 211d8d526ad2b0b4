"""The packaged model behind ``transformers serve``: the answers of the same model in process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmeval
from mmeval import phantom


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of ``transformers serve`` with the packaged model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log.txt"
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve",
        str(phantom.checkpoint_path()), "--host", "127.0.0.1", "--port", str(port),
        "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
        try:
            deadline = time.monotonic() + 180
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_transformers_serve_gives_the_answers_of_transformers(server: str, tmp_path: Path) -> None:
    phantom.write(tmp_path / "phantom", seed=20_261_122, n=40)
    models = {
        "here": {"backend": "transformers", "path": "phantom", "dtype": "float32", "device": "cpu"},
        "there": {"backend": "openai", "model": str(phantom.checkpoint_path()), "base_url": server},
    }
    answers, tokens = {}, {}
    for name, model in models.items():
        questions = str(tmp_path / "phantom" / "samples.jsonl")
        run = mmeval.evaluate(model, questions, ["clean"], out=tmp_path / name, progress=False)
        assert {r.error for r in run.responses if r.status != "ok"} == set()
        answers[name] = {r.sample: r.text for r in run.responses}
        tokens[name] = {r.sample: r.prompt_tokens for r in run.responses}
    same = [answers["here"][sample] == text for sample, text in answers["there"].items()]
    assert len(same) == 40
    assert sum(same) >= 39
    assert tokens["here"] == tokens["there"]
