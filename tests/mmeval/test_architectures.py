"""Other architectures than the demonstration model's, tiny, made from configuration.

Each is saved with a tokenizer of the test and a chat template of its own, and loaded as a user
loads a checkpoint. torchvision is not needed: image processors are those on Pillow.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from mmeval import protocols
from mmeval.errors import MmevalError
from mmeval.models import prefix
from mmeval.models.transformers import TransformersModel
from mmeval.schema import ImageRef, Request, Response, Sample

SAMPLES = (
    Sample("left", "Is there a nodule in the left lung?", "yes_no", "yes", (ImageRef("x"),)),
    Sample("none", "Is the heart of normal size, and are both lungs clear of any finding?",
           "yes_no", "no", (ImageRef("x"),)),
    Sample("side", "On which side?", "choice", "A", (ImageRef("x"),), ("left", "right", "both")),
    Sample("open", "What is shown?", "open", "a lung", (ImageRef("x"),)),
)  # fmt: skip
BOTH = Sample(
    "two", "And now?", "choice", "B", (ImageRef("x"), ImageRef("y")), ("larger", "smaller")
)

EDGE = 28
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    # Large, so that answers depend on every token and picture.
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": EDGE,
    "patch_size": 14,
    "initializer_range": 0.3,
}
MARKS = ("<pad>", "<s>", "<end>", "<image>", "<video>", "<vision>", "</vision>")
TEMPLATE = """\
{%- for message in messages -%}
{{- message['role'] + ': ' -}}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '@IMAGE@' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{{- '<end>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}
{%- if enable_thinking is defined and enable_thinking -%}{{- '<think>' -}}{%- endif -%}
"""


def tokenizer(**named: str) -> Any:
    """Bytes and a few words; special tokens for pictures."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [protocols.get("direct").prompt(sample) for sample in (*SAMPLES, BOTH)] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*texts, *["yes no Yes No A B C"] * 50], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<end>",
        extra_special_tokens=named or {"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
    )


def tokens(words: Any) -> dict[str, Any]:
    return {
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "vocab_size": len(words),
    }


def template(image: str) -> str:
    return TEMPLATE.replace("@IMAGE@", image)


def llava() -> tuple[Any, Any]:
    """Causal; every picture becomes as many tokens as it has patches."""
    words = tokenizer()
    image_token = words.convert_tokens_to_ids("<image>")
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT, **tokens(words)),
        image_token_id=image_token,
        image_token_index=image_token,
        image_seq_length=(EDGE // 14) ** 2,
        vision_feature_layer=-1,
        pad_token_id=words.pad_token_id,
    )
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(
            size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE}
        ),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="<s>" + template("<image>"),
    )
    return transformers.LlavaForConditionalGeneration(config), processor


def idefics2() -> tuple[Any, Any]:
    """Causal, with a resampler between vision and language, and pictures of several sizes."""
    words = tokenizer(image_token="<image>", image_boundary_token="<vision>")
    processor = transformers.Idefics2Processor(
        image_processor=transformers.Idefics2ImageProcessorPil(
            size={"longest_edge": 42, "shortest_edge": EDGE}, do_image_splitting=False
        ),
        tokenizer=words,
        image_seq_len=3,
        chat_template=template("<image>"),
    )
    text = {name: value for name, value in TEXT.items() if name != "head_dim"}
    config = transformers.Idefics2Config(
        vision_config={**VISION, "image_size": 42},
        perceiver_config={
            "resampler_n_latents": 3,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
            "hidden_size": 32,
        },
        text_config={"model_type": "mistral", "sliding_window": None, **text, **tokens(words)},
        image_token_id=processor.image_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=False,
    )
    config.text_config.vocab_size = len(words)
    model = transformers.Idefics2ForConditionalGeneration(config)
    for name, weights in model.model.connector.named_parameters():
        if weights.dim() > 1:  # weights of the resampler are born small
            torch.nn.init.normal_(weights, std=0.6 if "resampler" in name else 0.3)
    return model, processor


def paligemma() -> tuple[Any, Any]:
    """The whole prompt sees itself in both directions: no prefix can be shared."""
    words = tokenizer()
    images = transformers.SiglipImageProcessorPil(size={"height": EDGE, "width": EDGE})
    images.image_seq_length = (EDGE // 14) ** 2
    processor = transformers.PaliGemmaProcessor(
        image_processor=images, tokenizer=words, chat_template=template("<image>")
    )
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        text_config={"model_type": "gemma", **TEXT, **tokens(words)},
        image_token_index=processor.image_token_id,
        projection_dim=32,
        pad_token_id=words.pad_token_id,
    )
    return transformers.PaliGemmaForConditionalGeneration(config), processor


def qwen() -> tuple[Any, Any]:
    """Positions with three axes; pictures of any size within a pixel budget."""
    words = tokenizer()
    # Qwen's own processor needs torchvision, for films; this one treats pictures as it does.
    processor = transformers.PaddleOCRVLProcessor(
        image_processor=transformers.Qwen2VLImageProcessorPil(
            min_pixels=56 * 56, max_pixels=84 * 84
        ),
        tokenizer=words,
        chat_template=template("<vision><image></vision>"),
    )
    text = {name: value for name, value in TEXT.items() if name != "head_dim"}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.3,
        },
        text_config={
            **text,
            **tokens(words),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        video_token_id=words.convert_tokens_to_ids("<video>"),
        vision_start_token_id=words.convert_tokens_to_ids("<vision>"),
        vision_end_token_id=words.convert_tokens_to_ids("</vision>"),
        tie_word_embeddings=False,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    """MedGemma's architecture: a picture sees itself in both directions, layers have windows."""
    words = tokenizer(image_token="<image>", boi_token="<vision>", eoi_token="</vision>")
    images = transformers.Gemma3ImageProcessorPil(size={"height": EDGE, "width": EDGE})
    processor = transformers.Gemma3Processor(
        image_processor=images,
        tokenizer=words,
        image_seq_length=4,
        chat_template="<s>" + template("<vision>"),
    )
    config = transformers.Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        text_config={
            **TEXT,
            **tokens(words),
            "num_hidden_layers": 2,
            "sliding_window": 128,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 1,
        },
        mm_tokens_per_image=4,
        boi_token_index=words.convert_tokens_to_ids("<vision>"),
        eoi_token_index=words.convert_tokens_to_ids("</vision>"),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    # Born as zeros, which no picture would get through.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)
    for name, weights in model.model.language_model.named_parameters():
        if "post_" in name or "q_norm" in name:  # more of attention, and that sharper
            torch.nn.init.constant_(weights, 1.0 if "post_" in name else 0.5)
    return model, processor


BUILT: dict[str, Callable[[], tuple[Any, Any]]] = {
    made.__name__: made for made in (llava, idefics2, qwen, gemma3, paligemma)
}
SHARING = ("llava", "idefics2", "qwen", "gemma3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, make in BUILT.items():
        torch.manual_seed(7)
        model, processor = make()
        found[name] = tmp_path_factory.mktemp("architectures") / name
        model.save_pretrained(found[name])
        processor.save_pretrained(found[name])
    return found


def pictures(n: int, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Noise of several sizes, brighter from seed to seed."""
    rng = np.random.default_rng(seed)
    sizes = [(40 + 8 * i, 64, 3) for i in range(n)]
    return tuple(rng.integers(0, 20 + 75 * seed, size, dtype=np.uint8) for size in sizes)


def request(sample: Sample, seed: int, **changes: Any) -> Request:
    made = Request(
        key=f"{sample.id}-{seed}",
        benchmark="b",
        sample=sample.id,
        condition="clean",
        trial=0,
        messages=protocols.get("direct").messages(sample),
        images=pictures(len(sample.images), seed),
        candidates=sample.candidates,
        max_new_tokens=5,
    )
    return dataclasses.replace(made, **changes)


REQUESTS = [request(sample, seed) for seed in (1, 2) for sample in SAMPLES] + [
    request(dataclasses.replace(BOTH, id=f"two{i}", question=f"And {word}?"), 3)
    for i, word in enumerate(("now", "two months later"))
]


def ask(model: TransformersModel, requests: Sequence[Request] = REQUESTS) -> dict[str, Response]:
    answers = {answer.key: answer for answer in model.generate(requests)}
    assert [answer.error for answer in answers.values() if answer.status != "ok"] == []
    assert len(answers) == len(requests)
    return answers


def assert_equal(found: dict[str, Response], expected: dict[str, Response]) -> None:
    for key, answer in expected.items():
        assert found[key].text == answer.text
        assert found[key].prompt_tokens == answer.prompt_tokens
        assert found[key].completion_tokens == answer.completion_tokens
        for option, logprob in (answer.option_logprobs or {}).items():
            other = (found[key].option_logprobs or {})[option]
            assert math.exp(other) == pytest.approx(math.exp(logprob), abs=1e-4)


@pytest.fixture(scope="module", params=list(BUILT))
def alone(
    request: pytest.FixtureRequest, folders: dict[str, Path]
) -> tuple[str, Path, dict[str, Response]]:
    folder = folders[request.param]
    return (
        request.param,
        folder,
        ask(TransformersModel(str(folder), batch_size=1, prefix_reuse="off")),
    )


def test_a_batch_gives_the_answers_of_single_questions(
    alone: tuple[str, Path, dict[str, Response]],
) -> None:
    _, folder, expected = alone
    model = TransformersModel(str(folder), batch_size=5, prefix_reuse="off")
    assert_equal(ask(model, REQUESTS[::-1]), expected)


def test_shared_prefixes_give_the_answers_of_single_questions(
    alone: tuple[str, Path, dict[str, Response]],
) -> None:
    name, folder, expected = alone
    model = TransformersModel(str(folder), batch_size=8)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert_equal(ask(model), expected)
    told = [str(warning.message) for warning in said if "share a prefix" in str(warning.message)]
    assert model.reuses_prefixes is (name in SHARING)
    assert len(told) == (name not in SHARING)


def test_answers_depend_on_the_pixels(alone: tuple[str, Path, dict[str, Response]]) -> None:
    _, _, answers = alone
    changes = [
        abs(math.exp(logprob) - math.exp((answers[f"{sample.id}-2"].option_logprobs or {})[option]))
        for sample in SAMPLES
        for option, logprob in (answers[f"{sample.id}-1"].option_logprobs or {}).items()
    ]
    assert max(changes) > 1e-3


@pytest.mark.parametrize("name", SHARING)
def test_pictures_are_encoded_once_for_all_their_questions(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TransformersModel(str(folders[name]), batch_size=8)
    ask(model)  # tries the prefixes
    seen: list[int] = []
    processor = model.processor

    class Counting:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(processor, attribute)

        def __call__(self, **arguments: Any) -> Any:
            seen.extend(len(images) for images in arguments["images"])
            return processor(**arguments)

    monkeypatch.setattr(model, "processor", Counting())
    ask(model)
    # Two single pictures with four questions each, two pairs of them with one question each.
    assert sorted(seen) == [1, 1, 2]


@pytest.mark.parametrize("name", SHARING)
def test_votes_are_the_same_with_and_without_shared_prefixes(
    folders: dict[str, Path], name: str
) -> None:
    votes = [
        request(sample, 1, key=f"{sample.id}-{trial}", trial=trial, temperature=1.0, candidates=())
        for sample in SAMPLES[:2]
        for trial in range(3)
    ]
    shared = TransformersModel(str(folders[name]), batch_size=6, prefix_reuse="on")
    plain = TransformersModel(str(folders[name]), batch_size=4, prefix_reuse="off")
    found = ask(shared, votes)
    assert_equal(found, ask(plain, votes))
    assert len({answer.text for answer in found.values()}) > 2


def test_prefixes_that_change_answers_are_found_out(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ask(TransformersModel(str(folders["llava"]), prefix_reuse="off"))
    right = prefix.copy_state

    def wrong(model: Any, cache: Any, of_row: torch.Tensor, groups: int) -> None:
        right(model, cache, of_row, groups)
        cache.layers[0].values[:, :, -1] *= 1.1

    monkeypatch.setattr(prefix, "copy_state", wrong)
    model = TransformersModel(str(folders["llava"]))
    with pytest.warns(UserWarning, match="log-probabilities lie .* apart"):
        assert_equal(ask(model), expected)
    assert model.reuses_prefixes is False


def test_a_demand_for_shared_prefixes_that_cannot_be_met_ends_the_run(
    folders: dict[str, Path],
) -> None:
    model = TransformersModel(str(folders["paligemma"]), prefix_reuse="on")
    with pytest.raises(MmevalError, match=r"prefix_reuse: .* set it to auto or off"):
        list(model.generate(REQUESTS))


def test_prompts_longer_than_the_attention_window_are_run_whole(folders: dict[str, Path]) -> None:
    """Padding inside a row would push tokens out of the window that belong into it."""
    long = [
        request(dataclasses.replace(sample, question=sample.question + " Look closely." * 8), seed)
        for seed in (1, 2)
        for sample in SAMPLES
    ]
    expected = ask(TransformersModel(str(folders["gemma3"]), batch_size=1), long)
    model = TransformersModel(str(folders["gemma3"]), batch_size=4)
    with pytest.warns(UserWarning, match="longer than the attention window of 128") as said:
        assert_equal(ask(model, long), expected)
    assert len([w for w in said if "window" in str(w.message)]) == 1


def test_a_pixel_budget_bounds_the_tokens_of_a_picture(folders: dict[str, Path]) -> None:
    (asked,) = (r for r in REQUESTS if r.key == "left-1")
    few = TransformersModel(str(folders["qwen"]), min_pixels=28 * 28, max_pixels=56 * 56)
    many = TransformersModel(str(folders["qwen"]), min_pixels=168 * 168, max_pixels=224 * 224)
    counts = [ask(model, [asked])[asked.key].prompt_tokens for model in (few, many)]
    assert counts[0] is not None
    assert counts[1] is not None
    # One token for 28 x 28 pixels.
    assert counts[1] - counts[0] >= 6 * 6 - 2 * 2
    assert few.identity != many.identity
    assert few.identity["max_pixels"] == 56 * 56


def test_a_model_without_a_pixel_budget_says_so(folders: dict[str, Path]) -> None:
    with pytest.raises(MmevalError, match=r"model\.max_pixels: CLIPImageProcessor"):
        TransformersModel(str(folders["llava"]), max_pixels=1000)


def test_thinking_that_the_template_opens_is_no_answer(folders: dict[str, Path]) -> None:
    kwargs = {"enable_thinking": True}
    plain = TransformersModel(str(folders["llava"]))
    thinking = TransformersModel(str(folders["llava"]), template_kwargs=kwargs)
    for answer in ask(thinking).values():
        # Random weights never close it.
        assert answer.text == ""
        assert answer.reasoning
        assert answer.option_logprobs is None
    assert thinking.identity == {**plain.identity, "template_kwargs": kwargs}


def test_how_attention_is_computed_changes_neither_answers_nor_identity(
    folders: dict[str, Path],
) -> None:
    models = [
        TransformersModel(str(folders["llava"]), attn_implementation=name)
        for name in ("eager", "sdpa")
    ]
    assert models[0].model.config.get_text_config()._attn_implementation == "eager"
    assert_equal(ask(models[0]), ask(models[1]))
    assert models[0].identity == models[1].identity
