"""The demonstration model's architecture: a small Idefics3 with its own tokenizer.

Everything is a stock transformers class (SmolVLM's architecture), so the saved folder loads with
``AutoProcessor`` and ``AutoModelForImageTextToText`` and runs in vLLM, without remote code.
An image of any size becomes 96 x 96 pixels, 64 patches and 4 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeval.phantom.questions import build
from mmeval.protocols import get

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

IMAGE_SIZE = 96
PATCH_SIZE = 12
SCALE_FACTOR = 4
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2

VISION = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
LANGUAGE = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}

PAD, END, USER, ASSISTANT = "<pad>", "<end_of_utterance>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, END, USER, ASSISTANT, "<image>", "<fake_token_around_image>", "<global-img>")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ('image', 'image_url') -%}
{{- '<image>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<end_of_utterance>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def _corpus() -> Iterator[str]:
    """Text of the kind the model reads and writes, for the tokenizer's merges."""
    protocol = get("direct")
    for sample in build(seed=900_000_000, n=1000).samples:
        yield protocol.prompt(sample)
        yield from sample.options
        yield f"{sample.question}\nAnswer briefly."
        yield from ("yes", "no")
    for number in range(101):
        # Every whole percent becomes one token, with and without a space before it.
        yield from [f"[{number}, {number}, {number}, {number}]"] * 40


def processor() -> Idefics3Processor:
    """A byte-level BPE tokenizer trained on the questions' own words, and the image processor."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        Idefics3ImageProcessorPil,
        Idefics3Processor,
        PreTrainedTokenizerFast,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(SPECIAL[2:]),
        padding_side="left",
        model_max_length=LANGUAGE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": IMAGE_SIZE},
        max_image_size={"longest_edge": IMAGE_SIZE},
        do_image_splitting=False,
    )
    return Idefics3Processor(
        image_processor=images,
        tokenizer=fast,
        image_seq_len=IMAGE_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )


def model(parts: Idefics3Processor) -> Idefics3ForConditionalGeneration:
    """A model with random weights (torch's global seed) that fits the processor."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    words: Any = parts.tokenizer
    tokens: dict[str, Any] = {
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.convert_tokens_to_ids(USER),
        "eos_token_id": words.eos_token_id,
    }
    config = Idefics3Config(
        vision_config={**VISION, "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE},
        text_config={
            "model_type": "llama",
            **LANGUAGE,
            **tokens,
            "vocab_size": len(words),
            "tie_word_embeddings": True,
            "rope_theta": 10000.0,
        },
        scale_factor=SCALE_FACTOR,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        **tokens,
    )
    made = Idefics3ForConditionalGeneration(config)
    made.generation_config.update(**tokens, do_sample=False)
    return made


def save(
    made: Idefics3ForConditionalGeneration, parts: Idefics3Processor, path: Path | str
) -> None:
    """Write weights, configuration, tokenizer, image processor and chat template."""
    made.save_pretrained(path, safe_serialization=True)
    parts.save_pretrained(path)


def build_random(path: Path | str, seed: int = 0) -> None:
    """Save a checkpoint with random weights, for tests of the machinery."""
    import torch

    torch.manual_seed(seed)
    parts = processor()
    save(model(parts), parts, path)
