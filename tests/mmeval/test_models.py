"""Backends: the mock reads pixels; transformers' option probabilities are those of the model."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmeval import models, protocols
from mmeval.errors import MmevalError
from mmeval.models.mock import MockModel
from mmeval.models.transformers import TransformersModel, checkpoint_hash
from mmeval.phantom import architecture
from mmeval.schema import ImageRef, Request, Response, Sample

CHOICE = Sample(
    "c", "On which side is it?", "choice", "A", (ImageRef("x"),), ("left", "right", "both")
)
YES_NO = Sample("y", "Is there a nodule in the left lung?", "yes_no", "yes", (ImageRef("x"),))
CHANGE = Sample(
    "t", "And now?", "choice", "B", (ImageRef("x"), ImageRef("y")), ("larger", "smaller")
)
OPEN = Sample("o", "What is shown?", "open", "a lung", (ImageRef("x"),))


def request(sample: Sample, seed: int = 0, **changes: Any) -> Request:
    rng = np.random.default_rng(seed)
    images = tuple(rng.integers(0, 256, (64, 48, 3), dtype=np.uint8) for _ in sample.images)
    made = Request(
        key=f"{sample.id}-{seed}",
        benchmark="b",
        sample=sample.id,
        condition="clean",
        trial=0,
        messages=protocols.get("direct").messages(sample),
        images=images,
        candidates=sample.candidates,
        max_new_tokens=6,
    )
    return dataclasses.replace(made, **changes)


# --- mock -------------------------------------------------------------------------------------


def test_the_mock_answers_by_brightness() -> None:
    dark, bright = (np.full((8, 8, 3), value, np.uint8) for value in (10, 250))
    answers = MockModel().generate(
        request(YES_NO, images=(pixels,)) for pixels in (dark, bright, dark)
    )
    assert [answer.text for answer in answers] == ["yes", "no", "yes"]


def test_one_pixel_moves_the_mocks_confidence() -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    other = pixels.copy()
    other[0, 0, 0] += 1
    first, second = MockModel().generate([request(CHOICE, images=(p,)) for p in (pixels, other)])
    assert first.option_logprobs is not None
    assert first.option_logprobs != second.option_logprobs
    assert math.fsum(map(math.exp, first.option_logprobs.values())) == pytest.approx(1)
    assert max(first.option_logprobs, key=first.option_logprobs.__getitem__) == first.text


def test_the_mock_follows_a_script_and_fails_on_request(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    script = [
        {"sample": "y", "text": "perhaps"},
        {"sample": "y", "condition": "general/jpeg:3", "text": "no"},
        {"sample": "c", "error": "overloaded"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in script))
    asked = [request(YES_NO), request(YES_NO, condition="general/jpeg:3"), request(CHOICE)]
    found = list(MockModel(path).generate(asked))
    assert [(r.status, r.text) for r in found] == [("ok", "perhaps"), ("ok", "no"), ("error", "")]
    assert found[2].error == "overloaded"


def test_an_exception_of_a_scripted_function_is_an_error_response() -> None:
    def fail(asked: Request) -> str:
        raise TimeoutError("slow")

    (found,) = MockModel(fail).generate([request(OPEN)])
    assert (found.status, found.error) == ("error", "TimeoutError: slow")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"backend": "transformer", "path": "x"}, "did you mean 'transformers'"),
        ({"backend": "mock", "batchsize": 3}, "no such option; did you mean 'batch_size'"),
        ({"backend": "transformers"}, "missing 1 required positional argument: 'path'"),
        ({"backend": "transformers", "path": "/nowhere"}, "/nowhere cannot be loaded"),
        ({"backend": "transformers", "path": "phantom", "batch_size": 0}, "at least 1, got 0"),
        (
            {"backend": "transformers", "path": "phantom", "prefix_reuse": "maybe"},
            "model.prefix_reuse: unknown 'maybe'",
        ),
        (
            {"backend": "transformers", "path": "phantom", "option_scores": "sequences"},
            "did you mean 'sequence'",
        ),
        (
            {"backend": "transformers", "path": "phantom", "device": "cpu", "device_map": "auto"},
            "model.device: is decided by device_map",
        ),
        (
            {"backend": "transformers", "path": "phantom", "generation": {"top_pp": 0.9}},
            "model.generation.top_pp: unknown; did you mean 'top_p'",
        ),
        (
            {"backend": "transformers", "path": "phantom", "generation": {"num_beams": 4}},
            "model.generation.num_beams: is decided by the run",
        ),
    ],
)
def test_a_wrong_model_specification_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(MmevalError) as caught:
        models.load(spec)
    assert message in str(caught.value)


# --- transformers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "random"
    architecture.build_random(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersModel:
    return TransformersModel(str(folder), batch_size=4)


def ask(model: TransformersModel, requests: Sequence[Request]) -> dict[str, Response]:
    return {answer.key: answer for answer in model.generate(requests)}


def naive_logprob(model: TransformersModel, asked: Request, continuation: str) -> float:
    """One forward pass over the prompt and one answer, unbatched, without a cache."""
    prompt = model.processor.apply_chat_template(
        list(asked.messages), add_generation_prompt=True, tokenize=False
    )
    images = [Image.fromarray(image) for image in asked.images]
    inputs = model.processor(text=prompt + continuation, images=[images], return_tensors="pt")
    start = model.processor(text=prompt, images=[images], return_tensors="pt")["input_ids"].shape[1]
    with torch.inference_mode():
        logits = model.model(**inputs, use_cache=False).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0]
    return float(sum(logits[i - 1, ids[i]] for i in range(start, len(ids))))


def expected_logprobs(
    model: TransformersModel, asked: Request, spellings: dict[str, list[str]]
) -> dict[str, float]:
    total = {
        candidate: math.log(sum(math.exp(naive_logprob(model, asked, text)) for text in ways))
        for candidate, ways in spellings.items()
    }
    norm = math.log(sum(map(math.exp, total.values())))
    return {candidate: value - norm for candidate, value in total.items()}


def is_one_token(model: TransformersModel, text: str) -> bool:
    return len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) == 1


@pytest.mark.parametrize("sample", [CHOICE, YES_NO, CHANGE], ids=lambda sample: sample.id)
def test_option_logprobs_are_those_of_a_forward_pass_for_each_option(
    model: TransformersModel, sample: Sample
) -> None:
    asked = request(sample, seed=3)
    others = [request(OPEN, seed=1), request(CHANGE, seed=2), request(YES_NO, seed=4)]
    found = ask(model, [*others, asked])[asked.key].option_logprobs
    assert found is not None
    ways = {
        candidate: [
            spaced
            for text in {candidate, candidate.capitalize()}
            for spaced in (text, " " + text)
            if is_one_token(model, spaced)
        ]
        for candidate in sample.candidates
    }
    assert all(ways.values())
    assert found == pytest.approx(expected_logprobs(model, asked, ways), abs=1e-4)


def test_options_of_several_tokens_are_scored_whole(model: TransformersModel) -> None:
    options = ("pneumothorax", "B")
    assert not is_one_token(model, options[0])
    asked = request(OPEN, seed=5, candidates=options)
    found = ask(model, [asked, request(CHANGE, seed=6)])[asked.key].option_logprobs
    ways = {option: [option, " " + option] for option in options}
    assert found == pytest.approx(expected_logprobs(model, asked, ways), abs=1e-4)


@pytest.mark.parametrize(
    ("score", "per_token"), [("sequence", False), ("sequence_mean", True)], ids=["sum", "mean"]
)
def test_options_can_be_scored_as_whole_sequences(
    folder: Path, score: str, per_token: bool
) -> None:
    model = TransformersModel(str(folder), option_scores=score)
    options = ("no", "pneumothorax")
    asked = request(OPEN, seed=5, candidates=options)
    found = ask(model, [asked, request(CHANGE, seed=6)])[asked.key].option_logprobs
    totals = {}
    for option in options:
        texts = {option, option.capitalize()} if option == "no" else {option}
        ways = [spaced for text in texts for spaced in (text, " " + text)]
        logprobs = [naive_logprob(model, asked, text) for text in ways]
        if per_token:
            lengths = [len(model.tokenizer(text)["input_ids"]) for text in ways]
            totals[option] = max(v / n for v, n in zip(logprobs, lengths, strict=True))
        else:
            totals[option] = math.log(math.fsum(map(math.exp, logprobs)))
    norm = math.log(math.fsum(map(math.exp, totals.values())))
    assert found == pytest.approx({o: v - norm for o, v in totals.items()}, abs=1e-4)
    assert model.identity["option_scores"] == score


def test_sampling_from_the_likeliest_token_only_is_greedy(folder: Path) -> None:
    limited = TransformersModel(str(folder), generation={"top_k": 1})
    asked = [request(OPEN, seed) for seed in range(3)]
    warm = [dataclasses.replace(each, temperature=1.5) for each in asked]
    greedy = {key: answer.text for key, answer in ask(limited, asked).items()}
    assert {key: answer.text for key, answer in ask(limited, warm).items()} == greedy


def test_every_answer_ends_at_its_own_limit(model: TransformersModel) -> None:
    asked = [request(OPEN, seed, max_new_tokens=most) for seed, most in enumerate((1, 3, 6))]
    for each, answer in zip(asked, ask(model, asked).values(), strict=True):
        assert answer.completion_tokens == each.max_new_tokens
        assert answer.finish_reason == "length"


def test_thoughts_are_told_apart_from_the_answer(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_text", lambda tokens: "<think>Two lungs.</think> yes")
    (answer,) = model.generate([request(YES_NO)])
    assert (answer.reasoning, answer.text) == ("Two lungs.", "yes")
    # The first token began a thought: it says nothing about yes and no.
    assert answer.option_logprobs is None


def test_an_image_mark_inside_one_question_fails_that_question_alone(folder: Path) -> None:
    model = TransformersModel(str(folder), batch_size=8)
    good = [dataclasses.replace(OPEN, id=f"o{i}", question=f"What is {i}?") for i in range(4)]
    ask(model, [request(sample, 1) for sample in good])
    assert model.reuses_prefixes
    bad = dataclasses.replace(OPEN, id="bad", question="What is <image>?")
    found = ask(model, [request(sample, 1) for sample in (*good[:2], bad, *good[2:])])
    assert {key for key, answer in found.items() if answer.status == "error"} == {"bad-1"}


def test_the_batch_does_not_change_an_answer(folder: Path) -> None:
    asked = [
        request(sample, seed) for seed in range(3) for sample in (CHOICE, YES_NO, CHANGE, OPEN)
    ]
    alone = ask(TransformersModel(str(folder), batch_size=1), asked)
    together = ask(TransformersModel(str(folder), batch_size=5), asked[::-1])
    for key, answer in alone.items():
        assert together[key].text == answer.text
        assert together[key].prompt_tokens == answer.prompt_tokens
        assert together[key].option_logprobs == (
            answer.option_logprobs and pytest.approx(answer.option_logprobs, abs=1e-4)
        )


def test_text_is_the_greedy_continuation(model: TransformersModel) -> None:
    asked = request(YES_NO, seed=7)
    prompt = model.processor.apply_chat_template(
        list(asked.messages), add_generation_prompt=True, tokenize=False
    )
    images = [Image.fromarray(image) for image in asked.images]
    inputs = model.processor(text=prompt, images=[images], return_tensors="pt")
    ids, start = inputs["input_ids"], inputs["input_ids"].shape[1]
    with torch.inference_mode():
        for _ in range(asked.max_new_tokens):
            extended = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            best = model.model(**extended, use_cache=False).logits[0, -1].argmax()
            ids = torch.cat([ids, best[None, None]], dim=1)
            if int(best) == model.tokenizer.eos_token_id:
                break
    text = model.tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()
    answer = ask(model, [request(OPEN, seed=8), asked])[asked.key]
    assert answer.text == text
    assert answer.completion_tokens == ids.shape[1] - start


def test_answers_depend_on_the_pixels(model: TransformersModel) -> None:
    found = ask(model, [request(CHOICE, seed) for seed in (0, 1)])
    first, second = (found[f"c-{seed}"].option_logprobs for seed in (0, 1))
    assert first != second


def test_no_options_are_scored_where_none_are_asked_for(model: TransformersModel) -> None:
    (answer,) = model.generate([request(OPEN)])
    assert answer.option_logprobs is None


def test_questions_with_and_without_images_may_be_mixed(model: TransformersModel) -> None:
    blind = dataclasses.replace(YES_NO, id="blind", images=())
    found = ask(model, [request(YES_NO), request(blind), request(CHANGE)])
    assert {answer.status for answer in found.values()} == {"ok"}
    assert len(found) == 3


def test_one_bad_request_fails_alone(model: TransformersModel) -> None:
    # The question smuggles an image token in: there are more places than images.
    bad = dataclasses.replace(OPEN, id="bad", question="What is <image>?")
    asked = [request(YES_NO, 1), request(CHOICE, 2), request(bad, 3), request(OPEN, 4)]
    found = ask(model, asked)
    assert {key for key, answer in found.items() if answer.status == "error"} == {"bad-3"}
    assert found["bad-3"].error


def test_running_out_of_memory_halves_the_batch_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TransformersModel(str(folder), batch_size=8)
    forward = model._forward
    sizes: list[int] = []

    def small_memory(batch: Sequence[Any]) -> list[Response]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("16 GiB")
        return forward(batch)

    monkeypatch.setattr(model, "_forward", small_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(UserWarning, match="out of memory") as said:
        found = ask(model, [request(YES_NO, seed) for seed in range(12)])
    assert [str(warning.message).partition(" (")[0] for warning in said] == [
        "out of memory with 8 requests at once; going on with 4",
        "out of memory with 4 requests at once; going on with 2",
    ]
    assert len(found) == 12
    assert {answer.status for answer in found.values()} == {"ok"}
    assert model.batch_size == 2
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]


def test_sampling_is_seeded_by_the_request_not_by_the_batch(folder: Path) -> None:
    model = TransformersModel(str(folder), batch_size=3)
    asked = [request(OPEN, seed, temperature=1.0) for seed in range(4)]
    again = TransformersModel(str(folder), batch_size=1)
    texts = {key: answer.text for key, answer in ask(model, asked).items()}
    assert texts == {key: answer.text for key, answer in ask(again, asked[::-1]).items()}
    greedy = ask(model, [request(OPEN, seed) for seed in range(4)])
    assert texts != {key: answer.text for key, answer in greedy.items()}


def test_samples_follow_the_models_distribution(model: TransformersModel) -> None:
    asked = request(YES_NO, seed=9, max_new_tokens=1, candidates=())
    prompt = model.processor.apply_chat_template(
        list(asked.messages), add_generation_prompt=True, tokenize=False
    )
    images = [Image.fromarray(image) for image in asked.images]
    inputs = model.processor(text=prompt, images=[images], return_tensors="pt")
    with torch.inference_mode():
        logits = model.model(**inputs, use_cache=False).logits[0, -1]
    # At a low temperature a few tokens hold the mass; count the likeliest.
    temperature = 0.1
    probabilities = (logits / temperature).softmax(-1)
    best = int(probabilities.argmax())
    p, n = float(probabilities[best]), 200
    text = model.tokenizer.decode([best], skip_special_tokens=True).strip()
    same = [
        int(t)
        for t in range(len(probabilities))
        if model.tokenizer.decode([t], skip_special_tokens=True).strip() == text
    ]
    p = float(probabilities[same].sum())
    drawn = model.generate(
        dataclasses.replace(asked, key=f"draw-{i}", temperature=temperature) for i in range(n)
    )
    hits = sum(answer.text == text for answer in drawn)
    assert abs(hits - n * p) < 4 * math.sqrt(n * p * (1 - p)) + 1


def test_the_same_weights_in_another_folder_are_the_same_model(
    folder: Path, tmp_path: Path, model: TransformersModel
) -> None:
    copy = tmp_path / "renamed"
    shutil.copytree(folder, copy)
    assert TransformersModel(str(copy), batch_size=1).identity == model.identity
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert checkpoint_hash(copy) != checkpoint_hash(folder)


def test_a_checkpoint_without_a_chat_template_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "untemplated"
    shutil.copytree(folder, copy)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(MmevalError, match="has no chat template"):
        TransformersModel(str(copy))


def test_device_map_without_accelerate_names_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MmevalError, match=r"mmeval-medical\[accelerate\]"):
        TransformersModel("phantom", device_map="auto")
