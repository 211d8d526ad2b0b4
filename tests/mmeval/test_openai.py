"""The openai backend against servers that behave and servers that do not."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import mmeval
from mmeval.errors import MmevalError
from mmeval.models import load
from mmeval.models.openai import OpenAIModel
from mmeval.schema import Request, Response
from tests.mmeval.chat_server import FAULTS, pictures_of, serving, text_of

REPOSITORY = Path(mmeval.__file__).resolve().parent.parent
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(3)]


def question(
    i: int, *, pictures: int = 1, candidates: tuple[str, ...] = ("yes", "no"), **how: Any
) -> Request:
    content: list[dict[str, str]] = [{"type": "image"}] * pictures
    content = [*content, {"type": "text", "text": f"question {i}"}]
    return Request(
        hashlib.sha256(str(i).encode()).hexdigest(), "b", f"s{i}", "clean", 0,
        messages=({"role": "user", "content": content},),
        images=tuple(PICTURES[:pictures]), candidates=candidates, **how,
    )  # fmt: skip


def ask(
    url: str, questions: list[Request], **options: Any
) -> tuple[dict[str, Response], OpenAIModel]:
    settings: dict[str, Any] = {"pause_s": 0.01, "timeout_s": 0.7} | options
    model = OpenAIModel("served", url, **settings)
    responses = list(model.generate(questions))
    assert sorted(r.key for r in responses) == sorted(q.key for q in questions)
    return {r.sample: r for r in responses}, model


def test_pictures_arrive_without_loss_and_in_order() -> None:
    with serving() as server:
        ask(server.url, [question(0, pictures=3)])
        seen = pictures_of(server.bodies[0])
    assert len(seen) == 3
    assert all(np.array_equal(a, b) for a, b in zip(seen, PICTURES, strict=True))
    parts = [part["type"] for part in server.bodies[0]["messages"][0]["content"]]
    assert parts == ["image_url"] * 3 + ["text"]


def test_text_tokens_finish_and_option_probabilities_are_read() -> None:
    with serving() as server:
        answers, _ = ask(server.url, [question(0), question(1, candidates=())])
    first = answers["s0"]
    assert (first.status, first.text, first.finish_reason) == ("ok", "yes", "stop")
    assert (first.prompt_tokens, first.completion_tokens) == (11, 2)
    # By hand: yes e^-0.2 + e^-4.0, no e^-2.0.
    yes, no = math.exp(-0.2) + math.exp(-4.0), math.exp(-2.0)
    assert first.option_logprobs is not None
    assert math.exp(first.option_logprobs["yes"]) == pytest.approx(yes / (yes + no))
    assert sum(math.exp(v) for v in first.option_logprobs.values()) == pytest.approx(1)
    assert answers["s1"].option_logprobs is None
    asked = {text_of(body): body for body in server.bodies}
    assert asked["question 0"]["logprobs"] is True
    assert "logprobs" not in asked["question 1"]


def test_an_option_that_is_not_told_gets_the_least_probability_that_is() -> None:
    with serving() as server:
        answers, _ = ask(server.url, [question(0, candidates=("A", "B"))])
    assert answers["s0"].option_logprobs == {
        "A": pytest.approx(-math.log(1 + math.exp(-2.0))),
        "B": pytest.approx(-2.0 - math.log(1 + math.exp(-2.0))),
    }


def test_a_server_that_tells_no_probabilities_still_answers() -> None:
    with serving(logprobs=False) as server:
        answers, _ = ask(server.url, [question(0)])
    assert (answers["s0"].text, answers["s0"].option_logprobs) == ("yes", None)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_that_passes_is_asked_again_and_answered(fault: str) -> None:
    with serving(lambda text, attempt: fault if attempt < 2 else None) as server:
        answers, _ = ask(server.url, [question(0)])
    assert answers["s0"].status == "ok"
    assert server.attempts == {"question 0": 3}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "HTTP 429: slow down"),
        ("500", "HTTP 500: status 500"),
        ("timeout", "no reply within 0.7 s"),
        ("reset", "connection failed"),
        ("cut", "not JSON"),
        ("empty", "no choices"),
        ("error200", "HTTP 200 with an error: engine died"),
        ("nomessage", "no message"),
    ],
)
def test_a_fault_that_stays_fails_its_request_alone_and_is_named(fault: str, reason: str) -> None:
    with serving(lambda text, attempt: fault if text == "question 1" else None) as server:
        answers, _ = ask(server.url, [question(i) for i in range(3)], max_attempts=2)
    assert {name: r.status for name, r in answers.items()} == {
        "s0": "ok", "s1": "error", "s2": "ok",
    }  # fmt: skip
    assert reason in str(answers["s1"].error)
    assert "after 2 attempts" in str(answers["s1"].error)
    assert server.attempts["question 1"] == 2


def test_what_cannot_succeed_is_not_asked_again() -> None:
    with serving(lambda text, attempt: "400") as server:
        answers, _ = ask(server.url, [question(0)])
    assert answers["s0"].error == "HTTP 400: status 400"
    assert server.attempts["question 0"] == 1


def test_with_a_fifth_of_all_replies_bad_nothing_is_lost_or_asked_too_often() -> None:
    draw = np.random.default_rng(1)
    table = {
        (f"question {i}", attempt): str(draw.choice(FAULTS)) if draw.random() < 0.2 else None
        for i in range(120)
        for attempt in range(6)
    }
    with serving(lambda text, attempt: table[text, attempt]) as server:
        answers, _ = ask(server.url, [question(i) for i in range(120)], max_attempts=3)
    for i in range(120):
        fates = [table[f"question {i}", attempt] for attempt in range(3)]
        needed = fates.index(None) + 1 if None in fates else 3
        assert server.attempts[f"question {i}"] == needed
        assert answers[f"s{i}"].status == ("ok" if None in fates else "error")


def test_retry_after_is_kept_to() -> None:
    with serving(lambda text, attempt: "429" if attempt == 0 else None) as server:
        ask(server.url, [question(0)])
    first, second = server.times["question 0"]
    assert second - first >= 0.3


def test_overload_lowers_concurrency_and_success_raises_it() -> None:
    with serving(lambda text, attempt: "429" if attempt == 0 else None) as server:
        _, model = ask(server.url, [question(i) for i in range(16)])
        assert model._limit.now < 16
    with serving(delay_s=0.002) as server:
        _, model = ask(server.url, [question(i) for i in range(400)])
        assert model._limit.now > 16


def test_a_fixed_concurrency_is_never_exceeded() -> None:
    with serving(delay_s=0.02) as server:
        ask(server.url, [question(i) for i in range(30)], concurrency=4)
    assert server.most_flying <= 4


def test_after_the_server_is_gone_the_rest_fails_without_waiting() -> None:
    with serving() as server:
        model = OpenAIModel("served", server.url, pause_s=0.01, max_attempts=3)
    answers = list(model.generate([question(i) for i in range(60)]))
    assert {r.status for r in answers} == {"error"}
    assert len(answers) == 60
    assert sum("after" in str(r.error) for r in answers) < 30


def test_trials_have_seeds_of_their_own_and_greedy_has_none() -> None:
    with serving() as server:
        ask(server.url, [question(0), question(1, temperature=1.0), question(2, temperature=1.0)])
    seeds = {text_of(body): body.get("seed") for body in server.bodies}
    assert seeds["question 0"] is None
    assert len({seeds["question 1"], seeds["question 2"]}) == 2


@pytest.mark.parametrize(
    ("message", "thought", "text"),
    [
        ({"content": "<think>two lungs</think>\n\nB"}, "two lungs", "B"),
        ({"content": "two lungs</think>B"}, "two lungs", "B"),
        ({"content": "B", "reasoning_content": "two lungs"}, "two lungs", "B"),
        ({"content": "B"}, None, "B"),
        ({"content": "<think>the answer is A or"}, "the answer is A or", ""),
    ],
)
def test_thinking_is_told_apart_from_the_answer(
    message: dict[str, str], thought: str | None, text: str
) -> None:
    with serving(answer=lambda body: message) as server:
        answers, _ = ask(server.url, [question(0)])
    assert (answers["s0"].reasoning, answers["s0"].text) == (thought, text)


def test_a_refusal_is_a_refusal() -> None:
    with serving(answer=lambda body: {"content": None, "refusal": "I cannot"}) as server:
        answers, _ = ask(server.url, [question(0)])
    assert (answers["s0"].status, answers["s0"].text) == ("refused", "I cannot")


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with serving(lambda text, attempt: "401") as server:
        answers, model = ask(server.url, [question(0)], api_key_env="MY_KEY")
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in json.dumps([answers["s0"].to_dict(), dict(model.identity)])
    with pytest.raises(MmevalError, match="no such option"):
        load({"backend": "openai", "model": "m", "api_key": "sk-secret"})


def test_the_key_reaches_neither_the_run_directory_nor_the_terminal(
    make_questions: Any, tmp_path: Path
) -> None:
    with serving(lambda text, attempt: "500" if "finding 1" in text else None) as server:
        config = tmp_path / "run.yaml"
        config.write_text(yaml.safe_dump({
            "model": {"backend": "openai", "model": "served", "base_url": server.url,
                      "pause_s": 0.01, "max_attempts": 2},
            "benchmarks": [str(make_questions(4))],
        }))  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "mmeval.cli", "run", str(config), "--out", str(tmp_path / "o")],
            env=os.environ | {"OPENAI_API_KEY": "sk-secret", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "2 of 4 questions failed" in done.stderr
    assert "HTTP 500: status 500 (after 2 attempts)" in done.stderr
    written = "".join(p.read_text("utf-8") for p in (tmp_path / "o").rglob("*.*") if p.is_file())
    assert "sk-secret" not in written + done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "http://example.org/v1"}, "allow_remote=true"),
        ({"base_url": "https://example.org/v1", "allow_remote": True}, "OPENAI_API_KEY is not set"),
        ({"base_url": "http://user:pass@127.0.0.1/v1"}, "holds a secret"),
        ({"base_url": "127.0.0.1:8000"}, "expected http"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "no server answers"),
        ({"concurrency": 0}, "at least 1"),
        ({"max_attempts": 0}, "at least 1"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(MmevalError, match=message):
        OpenAIModel("served", **options)


def test_a_model_that_the_server_does_not_have_is_named() -> None:
    with serving() as server, pytest.raises(MmevalError, match="it has served"):
        OpenAIModel("other", server.url)


def test_a_price_makes_tokens_dollars(make_questions: Any, tmp_path: Path) -> None:
    with serving() as server:
        model = {"backend": "openai", "model": "served", "base_url": server.url,
                 "price": {"prompt": 2.5, "completion": 10}}  # fmt: skip
        run = mmeval.evaluate(model, str(make_questions(4)), out=tmp_path / "o", progress=False)
    (cost,) = [
        row["value"] for row in run.metrics
        if row["metric"] == "cost_usd_per_question" and row["by"] is None
    ]  # fmt: skip
    # By hand: 11 prompt tokens and 2 of the answer.
    assert cost == pytest.approx(11 * 2.5e-6 + 2 * 10e-6)


@pytest.mark.parametrize("price", [3, {"prompt": 1}, {"prompt": 1, "completion": -1}])
def test_a_price_that_is_none_is_named(price: Any) -> None:
    with pytest.raises(MmevalError, match=r"model\.price"):
        OpenAIModel("served", price=price)


def test_a_picture_is_encoded_once_though_many_ask_about_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mmeval.models import openai

    encoded: list[int] = []
    real = openai.data_uri

    def counted(image: Any) -> str:
        encoded.append(id(image))
        return real(image)

    monkeypatch.setattr(openai, "data_uri", counted)
    with serving(delay_s=0.01) as server:
        ask(server.url, [question(i, pictures=2) for i in range(40)])
    assert sorted(encoded) == sorted(map(id, PICTURES[:2]))
