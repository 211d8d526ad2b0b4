"""Any image-text-to-text model of Hugging Face transformers that has a chat template.

One batched ``generate`` call answers a batch and gives the option log-probabilities: the logits of
its first step are those after the prompt, so options that are one token cost nothing extra.
Questions on the same pictures go on from one prefix (`mmeval.models.prefix`), where the
architecture allows it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeval.errors import MmevalError, did_you_mean
from mmeval.models import options, prefix, reasoning
from mmeval.models.batching import Waiting, batches
from mmeval.schema import Request, Response

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersModel", "checkpoint_hash"]

logger = logging.getLogger(__name__)

_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.py", "*.safetensors", "*.bin")
_TAIL = 32  # characters of the prompt's end that decide how an answer joins to it
_SCORES = ("first_token", "sequence", "sequence_mean")
_REUSE = ("auto", "on", "off")
#: Of generation, what the request or this class decides.
_OURS = frozenset(
    {
        "attention_mask", "do_sample", "input_ids", "logits_processor", "max_length",
        "max_new_tokens", "num_beams", "num_return_sequences", "output_logits", "output_scores",
        "pad_token_id", "past_key_values", "return_dict_in_generate", "temperature", "use_cache",
    }
)  # fmt: skip
#: Of generation, what only sampling uses.
_SAMPLING = ("top_k", "top_p", "min_p")
#: How far log-probabilities of likely tokens may lie apart for two ways to count as equal.
_TOLERANCE = 1e-3
_CHECKED_STEPS, _CHECKED_TOKENS = 4, 20


@dataclass(frozen=True, slots=True)
class _Generated:
    """What a batch came to.

    Attributes:
        logprobs: (batch, vocabulary) each, of the first steps.
        tokens: New tokens of each row, whatever comes after its end included.
        prompt_tokens: Of each row, without padding.
        shared: Whether prefixes were shared.
    """

    logprobs: list[torch.Tensor]
    tokens: list[list[int]]
    prompt_tokens: list[int]
    shared: bool = False


class TransformersModel:
    """Greedy (or seeded) generation with option log-probabilities.

    Args:
        path: Folder of a checkpoint, Hugging Face id, or ``phantom`` for the model that mmeval
            carries with it.
        revision: Commit or branch of a Hugging Face id.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's), or a torch type's name.
        device: ``auto`` (an accelerator if there is one), ``cpu``, ``cuda:1``, ...
        batch_size: Requests per forward pass. Halved, and said so, when memory does not suffice.
        device_map: How accelerate spreads the model over devices: ``auto``, ``balanced`` or a
            mapping; instead of `device`.
        attn_implementation: ``sdpa``, ``flash_attention_2``, ``eager``, ...; transformers chooses
            if None.
        min_pixels: Smallest number of pixels a picture is resized to, where the image processor
            has such a budget.
        max_pixels: Largest number of pixels.
        prefix_reuse: Whether questions on the same pictures encode these once. ``auto`` compares
            the two ways on the first such questions and says so if the model does not allow it;
            ``on`` ends the run then; ``off`` does not try.
        option_scores: What the log-probability of an option is. ``first_token``: that of its one
            token, or of all its tokens if not every option has a spelling of one. ``sequence``: the
            sum over its tokens, for each spelling. ``sequence_mean``: the mean over its tokens, of
            the best spelling, which does not favour short options. All are then renormalised.
        template_kwargs: Passed to the chat template, such as ``{"enable_thinking": false}``.
        generation: Passed to ``generate``, such as ``{"repetition_penalty": 1.05}``; ``top_k``,
            ``top_p`` and ``min_p`` take effect where the temperature is above 0.
        trust_remote_code: Whether the checkpoint may run its own Python code.

    Raises:
        MmevalError: The checkpoint cannot be loaded, has no chat template, or an option is wrong.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int = 32,
        device_map: str | Mapping[str, Any] | None = None,
        attn_implementation: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        prefix_reuse: str | bool = "auto",
        option_scores: str = "first_token",
        template_kwargs: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        import torch

        if batch_size < 1:
            raise MmevalError(f"model.batch_size: expected at least 1, got {batch_size}")
        if isinstance(prefix_reuse, bool):  # YAML reads on and off so
            prefix_reuse = "on" if prefix_reuse else "off"
        _one_of("prefix_reuse", prefix_reuse, _REUSE)
        _one_of("option_scores", option_scores, _SCORES)
        if device_map is not None and device != "auto":
            raise MmevalError("model.device: is decided by device_map; leave one of them out")
        if path == "phantom":
            from mmeval.phantom import checkpoint_path

            path = str(checkpoint_path())
        if device_map is not None and importlib.util.find_spec("accelerate") is None:
            raise MmevalError(
                "model.device_map: needs accelerate; install mmeval-medical[accelerate], or set "
                "model.device instead"
            )
        self.batch_size = batch_size
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        resolved: Any = "auto"
        if dtype != "auto" or (device == "cpu" and device_map is None):
            resolved = getattr(torch, "float32" if dtype == "auto" else dtype, None)
            if not isinstance(resolved, torch.dtype):
                raise MmevalError(
                    f"model.dtype: {dtype!r} is no torch type; try bfloat16 or float32"
                )
        source = {"revision": revision, "trust_remote_code": bool(trust_remote_code)}
        budget = {
            name: pixels
            for name, pixels in (("min_pixels", min_pixels), ("max_pixels", max_pixels))
            if pixels is not None
        }
        how = {"device_map": device_map, "attn_implementation": attn_implementation}
        how = {name: value for name, value in how.items() if value is not None}
        self.processor, self.model = _load(path, source, budget, {"dtype": resolved, **how})
        if device_map is None:
            self.model = self.model.to(device)
        self.model.eval()
        self.device = self.model.device
        self.computes_on = self.device.type
        for name in ("temperature", *_SAMPLING):  # what a checkpoint suggests, a run decides
            setattr(self.model.generation_config, name, None)
        self.tokenizer = self.processor.tokenizer
        # The answer must follow the prompt directly, whatever the others' lengths.
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._template = dict(template_kwargs or {})
        self._sampling, self._generation = _generation(dict(generation or {}))
        self._scores = option_scores
        self._special_tokens = _special_tokens(self.tokenizer)
        self._image_tokens = _image_tokens(self.processor, self.model.config)
        #: Whether prefixes are shared; None until it has been tried.
        self.reuses_prefixes: bool | None = None if prefix_reuse != "off" else False
        self._demanded = prefix_reuse == "on"
        self._said: set[str] = set()
        self._spelled: dict[tuple[str, str], tuple[tuple[int, ...], ...]] = {}
        folder = Path(path)
        local = folder.is_dir()
        # Only what is not the default: a run keeps its answers when mmeval learns a new option.
        chosen = {
            **budget,
            "template_kwargs": self._template,
            "generation": dict(generation or {}),
            "option_scores": None if option_scores == "first_token" else option_scores,
        }
        self.identity: Mapping[str, Any] = {
            "backend": "transformers",
            # The same weights elsewhere are the same model: a folder's name does not count.
            "id": "local" if local else path,
            "revision": checkpoint_hash(folder)
            if local
            else getattr(self.model.config, "_commit_hash", None) or revision,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            # With and without torchvision, transformers resizes images differently.
            "image_processor": type(getattr(self.processor, "image_processor", None)).__name__,
            **{name: value for name, value in chosen.items() if value},
        }

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answers the requests batch by batch, like with like."""
        for batch in batches(
            requests, lambda: self.batch_size, lambda: self.reuses_prefixes is not False
        ):
            if self.reuses_prefixes is None:
                self._try_reuse(batch)
            yield from self._answer(batch)

    def _answer(self, batch: Sequence[Waiting]) -> list[Response]:
        """Answers a batch; one that fails is halved until the request that fails is alone."""
        try:
            return self._forward(batch)
        except Exception as error:  # ends as the error of the one request that causes it
            if len(batch) == 1:
                return [Response.failed(batch[0].request, f"{type(error).__name__}: {error}"[:500])]
            half = len(batch) // 2
            if _out_of_memory(error):
                self.batch_size = min(self.batch_size, half)
                warnings.warn(
                    f"out of memory with {len(batch)} requests at once; going on with "
                    f"{self.batch_size} (set model.batch_size={self.batch_size} to start there)",
                    stacklevel=2,
                )
            else:
                logger.debug("a batch of %d failed", len(batch), exc_info=True)
        # Outside the handler: the traceback no longer holds the failed batch's tensors.
        answers: list[Response] = []
        while len(answers) < len(batch):
            start = len(answers)
            answers += self._answer(batch[start : start + min(half, self.batch_size)])
        return answers

    def _forward(self, batch: Sequence[Waiting]) -> list[Response]:
        began = time.perf_counter()
        prompts = self._prompts(batch)
        made = self._run(batch, prompts, max(each.request.max_new_tokens for each in batch))
        scores = self._option_scores(batch, prompts, made.logprobs[0])
        ends = self._ends()
        responses = []
        for each, prompt, tokens, prompt_tokens, options_found in zip(
            batch, prompts, made.tokens, made.prompt_tokens, scores, strict=True
        ):
            request = each.request
            stop = next((i + 1 for i, token in enumerate(tokens) if token in ends), None)
            done = stop is not None and stop <= request.max_new_tokens
            kept = tokens[: stop if done else request.max_new_tokens]
            thought, answer = reasoning.split(_opened(prompt) + self._text(kept))
            responses.append(
                Response(
                    request.key,
                    request.benchmark,
                    request.sample,
                    request.condition,
                    request.trial,
                    status="ok",
                    text=answer,
                    reasoning=thought,
                    finish_reason="stop" if done else "length",
                    # Behind the prompt comes a thought, not an option.
                    option_logprobs=options_found if thought is None else None,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=len(kept),
                    purpose=request.purpose,
                )
            )
        seconds = round((time.perf_counter() - began) / len(batch), 6)
        return [dataclasses.replace(response, latency_s=seconds) for response in responses]

    # --- prompts and inputs -------------------------------------------------------------------

    def _prompts(self, batch: Sequence[Waiting]) -> list[str]:
        return [
            self.processor.apply_chat_template(
                list(each.request.messages),
                add_generation_prompt=True,
                tokenize=False,
                **self._template,
            )
            for each in batch
        ]

    def _inputs(self, batch: Sequence[Waiting], prompts: Sequence[str]) -> dict[str, Any]:
        from PIL import Image

        images = [[Image.fromarray(image) for image in each.request.images] for each in batch]
        made = self.processor(
            text=list(prompts),
            images=images if all(images) else None,
            padding=True,
            return_tensors="pt",
            **self._special(prompts[0]),
        )
        return dict(made.to(self.device, dtype=self.model.dtype))

    def _special(self, prompt: str) -> dict[str, bool]:
        """Many templates write the first token themselves; the tokenizer must not do so again."""
        first = self.tokenizer.bos_token
        return {"add_special_tokens": False} if first and prompt.startswith(first) else {}

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, tokens: Sequence[int]) -> str:
        """Text without special tokens, but for those that mark thinking."""
        shown = [token for token in tokens if token not in self._special_tokens]
        text: str = self.tokenizer.decode(shown)
        return text

    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        found = set(ends) if isinstance(ends, list) else {ends}
        return {int(token) for token in found if token is not None}

    # --- running ------------------------------------------------------------------------------

    def _run(
        self,
        batch: Sequence[Waiting],
        prompts: Sequence[str],
        steps: int,
        *,
        keep: int = 1,
        forced: Sequence[Sequence[int]] | None = None,
        reuse: bool | None = None,
    ) -> _Generated:
        """Continues prompts, from shared prefixes where that saves something.

        Args:
            batch: One request a row; several rows may be the same request.
            prompts: Their texts.
            steps: Most new tokens.
            keep: Of how many steps the log-probabilities are wanted.
            forced: Tokens that each row must continue with, instead of its own.
            reuse: Whether to share prefixes; None leaves it to the batch.
        """
        import torch

        if reuse is None:
            reuse = bool(self.reuses_prefixes and batch[0].request.images)
        groups = prefix.grouped([each.shared for each in batch]) if reuse else []
        with torch.inference_mode():
            if reuse and len(groups) < len(batch):
                start = self._from_prefixes(batch, prompts, groups, steps)
                if start is not None:
                    made = self._generate(batch, start, steps, keep, forced)
                    return dataclasses.replace(made, shared=True)
            return self._generate(batch, self._inputs(batch, prompts), steps, keep, forced)

    def _from_prefixes(
        self,
        batch: Sequence[Waiting],
        prompts: Sequence[str],
        groups: Sequence[Sequence[int]],
        steps: int,
    ) -> dict[str, Any] | None:
        """Runs each group's prefix, and returns what its questions go on from.

        None if the window of sliding attention would slide: padding inside a row takes room in it.
        """
        special = self._special(prompts[0])
        tokens = [self.tokenizer(prompt, **special)["input_ids"] for prompt in prompts]
        parts = prefix.split(groups, tokens, self._image_tokens)
        firsts = [group.rows[0] for group in parts.groups]
        inputs = self._inputs([batch[row] for row in firsts], [prompts[row] for row in firsts])
        pad = self.tokenizer.pad_token_id
        cut = prefix.prefixes(inputs, parts, tokens, pad)
        ids, mask, of_row = prefix.questions(cut, parts, pad)
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        if window is not None and ids.shape[1] + steps > window:
            self._say(f"longer than the attention window of {window} tokens")
            return None
        # One new token more than is needed: `generate` makes at least one.
        cache = self._call(cut, 1).past_key_values
        if cache is None or cache.get_seq_length() != cut["input_ids"].shape[1]:
            raise prefix.NotShareableError("the model keeps no cache of the prompt")
        prefix.copy_state(self.model, cache, of_row, len(groups))
        return {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}

    def _generate(
        self,
        batch: Sequence[Waiting],
        inputs: dict[str, Any],
        steps: int,
        keep: int,
        forced: Sequence[Sequence[int]] | None,
    ) -> _Generated:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        length = inputs["input_ids"].shape[1]
        kept: list[torch.Tensor] = []

        def look(module: object, arguments: object, output: Any) -> None:  # noqa: ANN401
            # The logits themselves, before penalties; of all steps they would fill the memory.
            if len(kept) < keep:
                kept.append(output.logits[:, -1].float().log_softmax(-1))

        processors = LogitsProcessorList()
        if forced is not None:
            processors.append(_forcer(forced, length))
        elif any(each.request.temperature > 0 for each in batch):
            processors.append(_sampler([each.request for each in batch], length, self._sampling))
        hook = self.model.register_forward_hook(look)
        try:
            out = self._call(
                inputs,
                steps,
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList(
                    [_limit([each.request.max_new_tokens for each in batch], length)]
                    if forced is None
                    else []
                ),
            )
        finally:
            hook.remove()
        return _Generated(
            kept, out.sequences[:, length:].tolist(), inputs["attention_mask"].sum(1).tolist()
        )

    def _call(self, inputs: Mapping[str, Any], steps: int, **arguments: Any) -> Any:  # noqa: ANN401
        from transformers import GenerationConfig

        # A configuration and not arguments: with these, transformers builds the model's default
        # configuration at every call, which costs more than a step of a small model.
        how = GenerationConfig(
            **self._generation,
            max_new_tokens=steps,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return self.model.generate(**inputs, generation_config=how, **arguments)

    # --- whether prefixes can be shared -------------------------------------------------------

    def _try_reuse(self, batch: Sequence[Waiting]) -> None:
        """Finds out by trial whether prefixes may be shared, on the first questions that could.

        Answers are compared over several tokens. In half precision the two ways may lie as far
        apart as a batch and its rows one at a time.
        """
        groups = prefix.grouped([each.shared for each in batch])
        pairs = [rows for rows in groups if len(rows) > 1]
        if not pairs or not batch[0].request.images:
            return
        others = [rows[0] for rows in groups if rows is not pairs[0]]
        # The shortest and the longest question, and other pictures: so that there is padding.
        ordered = sorted(pairs[0], key=lambda row: batch[row].shape)
        rows = [ordered[0], *ordered[1:-1][:1], ordered[-1], *others[:1]]
        few = [
            dataclasses.replace(
                batch[row], request=dataclasses.replace(batch[row].request, temperature=0.0)
            )
            for row in rows
        ]
        prompts = self._prompts(few)
        try:
            plain = self._trial(few, prompts, reuse=False)
            allowed = _TOLERANCE
            if "float32" not in str(self.model.dtype):
                alone = [
                    self._trial([r], [p], reuse=False) for r, p in zip(few, prompts, strict=True)
                ]
                noise = (_apart(_row(plain, row), single, 1) for row, single in enumerate(alone))
                allowed += 3 * max(noise)
        except Exception:  # these requests fail, or get the memory they need, where all do
            logger.debug("prefix reuse could not be tried yet", exc_info=True)
            return
        try:
            shared = self._trial(few, prompts, reuse=True)
            if not shared.shared:
                return
            distance = _apart(plain, shared, len(few))
            reason = f"log-probabilities lie {distance:.2g} apart"
            self.reuses_prefixes = distance <= allowed
        except Exception as error:
            if _out_of_memory(error):
                return
            reason = f"{type(error).__name__}: {error}"[:300]
            self.reuses_prefixes = False
        if self.reuses_prefixes:
            return
        if self._demanded:
            raise MmevalError(
                "model.prefix_reuse: questions on the same pictures cannot share a prefix with "
                f"this model ({reason}); set it to auto or off"
            )
        self._say(f"not with this model: {reason}")

    def _say(self, reason: str) -> None:
        """Says once why questions do not share a prefix."""
        if reason not in self._said:
            self._said.add(reason)
            warnings.warn(
                f"questions on the same pictures do not share a prefix ({reason}); "
                "each is run whole, with the same answers",
                stacklevel=2,
            )

    def _trial(
        self, batch: Sequence[Waiting], prompts: Sequence[str], *, reuse: bool
    ) -> _Generated:
        return self._run(batch, prompts, _CHECKED_STEPS, keep=_CHECKED_STEPS, reuse=reuse)

    # --- options ------------------------------------------------------------------------------

    def _option_scores(
        self, batch: Sequence[Waiting], prompts: Sequence[str], first: torch.Tensor
    ) -> list[dict[str, float] | None]:
        """Returns log-probabilities of each request's candidates, renormalised over them.

        Args:
            batch: The requests.
            prompts: Their texts.
            first: (batch, vocabulary) log-probabilities after the prompts.
        """
        ways = [
            [self._spellings(prompt, candidate) for candidate in each.request.candidates]
            for each, prompt in zip(batch, prompts, strict=True)
        ]
        whole = {
            row
            for row, spelled in enumerate(ways)
            if self._scores != "first_token"
            or not all(any(len(ids) == 1 for ids in each) for each in spelled)
        }
        asked = dict.fromkeys((row, ids) for row in whole for each in ways[row] for ids in each)
        scores = self._sequences(batch, prompts, list(asked))
        found: list[dict[str, float] | None] = []
        for row, spelled in enumerate(ways):
            totals = {}
            for candidate, each in zip(batch[row].request.candidates, spelled, strict=True):
                if row not in whole:
                    singles = [ids[0] for ids in each if len(ids) == 1]
                    totals[candidate] = float(first[row, singles].logsumexp(0))
                elif self._scores == "sequence_mean":
                    totals[candidate] = max(scores[row, ids] / len(ids) for ids in each)
                else:
                    totals[candidate] = options.logsumexp([scores[row, ids] for ids in each])
            found.append(options.renormalised(totals) if totals else None)
        return found

    def _spellings(self, prompt: str, candidate: str) -> tuple[tuple[int, ...], ...]:
        """Returns the token sequences with which a candidate can follow a prompt.

        The prompt's end and the candidate are tokenised together, with and without a space, as
        the model would have seen them in training. Where they merge into one token the candidate
        is tokenised alone.
        """
        tail = prompt[-_TAIL:]
        found = self._spelled.get((tail, candidate))
        if found is None:
            ways: dict[tuple[int, ...], None] = {}
            before = self._tokens(tail)
            for text in options.spellings(candidate):
                for spaced in (text, " " + text):
                    joint = self._tokens(tail + spaced)
                    fits = joint[: len(before)] == before
                    ways[joint[len(before) :] if fits else self._tokens(spaced)] = None
            found = self._spelled[tail, candidate] = tuple(ids for ids in ways if ids)
        return found

    def _sequences(
        self,
        batch: Sequence[Waiting],
        prompts: Sequence[str],
        asked: Sequence[tuple[int, tuple[int, ...]]],
    ) -> dict[tuple[int, tuple[int, ...]], float]:
        """Returns the log-probability of each token sequence after the prompt of its row."""
        found: dict[tuple[int, tuple[int, ...]], float] = {}
        for start in range(0, len(asked), self.batch_size):
            part = asked[start : start + self.batch_size]
            forced = [ids for _, ids in part]
            longest = max(map(len, forced))
            rows = [row for row, _ in part]
            made = self._run(
                [batch[row] for row in rows],
                [prompts[row] for row in rows],
                longest,
                keep=longest,
                forced=forced,
            )
            for place, (row, ids) in enumerate(part):
                each = (made.logprobs[step][place, token] for step, token in enumerate(ids))
                found[row, ids] = float(sum(each))
        return found


def _load(
    path: str, source: Mapping[str, Any], budget: Mapping[str, int], how: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Loads processor and weights, with errors that say what to do."""
    # transformers' own types do not describe what these return.
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    processors: Any = AutoProcessor
    images: Any = AutoImageProcessor
    weights: Any = AutoModelForImageTextToText
    try:
        with _quiet():
            processor = processors.from_pretrained(path, **source)
            if budget:
                known = getattr(processor.image_processor, "valid_kwargs", None)
                for name in budget:
                    if name not in getattr(known, "__annotations__", {}):
                        raise MmevalError(
                            f"model.{name}: {type(processor.image_processor).__name__} has no "
                            "pixel budget; set render_size instead"
                        )
                processor.image_processor = images.from_pretrained(path, **source, **budget)
            model = weights.from_pretrained(path, **source, **how)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, MmevalError):
            raise
        raise MmevalError(f"model.path: {path} cannot be loaded: {error}") from error
    if not getattr(processor, "chat_template", None):
        raise MmevalError(f"model.path: {path} has no chat template; choose an instruct model")
    return processor, model


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise MmevalError(f"model.{name}: unknown {value!r}{did_you_mean(str(value), known)}")


def _generation(extra: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits arguments of generation into those of sampling and the others, and checks them."""
    from transformers import GenerationConfig

    known = set(vars(GenerationConfig())) - _OURS
    for name in extra:
        if name in _OURS:
            raise MmevalError(f"model.generation.{name}: is decided by the run; leave it out")
        if name not in known:
            raise MmevalError(
                f"model.generation.{name}: unknown{did_you_mean(name, sorted(known))}"
            )
    sampling = {name: extra.pop(name) for name in _SAMPLING if name in extra}
    return sampling, extra


def _image_tokens(processor: Any, config: Any) -> frozenset[int]:  # noqa: ANN401
    """What stands for pictures (and films) in a prompt."""
    named = (
        getattr(owner, name, None)
        for owner in (processor, config)
        for name in ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    )
    return frozenset(token for token in named if isinstance(token, int))


def _special_tokens(tokenizer: Any) -> frozenset[int]:  # noqa: ANN401
    """What no text shows: the special tokens, but for marks of thinking."""
    added = {token: each.content for token, each in tokenizer.added_tokens_decoder.items()
             if each.special}  # fmt: skip
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    return frozenset(
        token for token, name in (added | named).items() if reasoning.split(name) != ("", "")
    )


def _row(made: _Generated, row: int) -> _Generated:
    kept = [each[row : row + 1] for each in made.logprobs]
    return _Generated(kept, [made.tokens[row]], [made.prompt_tokens[row]])


def _apart(first: _Generated, second: _Generated, rows: int) -> float:
    """Returns how far the likeliest tokens' log-probabilities lie apart, while answers agree."""
    most = 0.0
    for row in range(rows):
        for step, (a, b) in enumerate(zip(first.logprobs, second.logprobs, strict=False)):
            if first.tokens[row][:step] != second.tokens[row][:step]:
                break
            top = a[row].topk(min(_CHECKED_TOKENS, a.shape[1])).indices
            most = max(most, float((a[row, top] - b[row, top]).abs().nan_to_num(1e9).max()))
    return most


def _opened(prompt: str) -> str:
    """The mark with which a chat template has opened the thinking already, or nothing."""
    end = prompt.rstrip()
    mark = end[max(end.rfind("<"), end.rfind("["), 0) :]
    return mark if reasoning.split(mark) == ("", "") and "/" not in mark else ""


def _out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides transformers' bar over the weights: ours is the one that is watched."""
    from transformers.utils import logging as transformers_logging

    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _sampler(batch: Sequence[Request], length: int, limits: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Returns a logits processor under which the greedy choice is a sample at the temperature.

    Gumbel-max: argmax(logits / T + Gumbel noise) has the softmax distribution. The noise depends on
    a request's key and the step alone, so neither the batch nor the order change an answer.
    """
    import torch
    from transformers import (
        LogitsProcessor,
        LogitsProcessorList,
        MinPLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    made = {"top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper, "min_p": MinPLogitsWarper}
    warpers: Any = LogitsProcessorList(
        [make(limits[name]) for name, make in made.items() if name in limits]
    )

    class GumbelMax(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            step = input_ids.shape[1] - length
            scores = scores.float().clone()
            for row, request in enumerate(batch):
                if request.temperature > 0:
                    digest = hashlib.sha256(f"{request.key}/{step}".encode()).digest()
                    generator = torch.Generator().manual_seed(
                        int.from_bytes(digest[:8], "big") >> 1
                    )
                    uniform = torch.rand(scores.shape[1], generator=generator).clamp_min(1e-20)
                    gumbel = -(-uniform.log()).clamp_min(1e-20).log()
                    warm = scores[row : row + 1] / request.temperature
                    warm = warpers(input_ids[row : row + 1], warm)
                    scores[row] = warm[0] + gumbel.to(scores.device)
            return scores

    return GumbelMax()


def _forcer(forced: Sequence[Sequence[int]], length: int) -> Any:  # noqa: ANN401
    """Returns a logits processor under which each row continues with its own tokens."""
    import torch
    from transformers import LogitsProcessor

    class Forced(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            step = input_ids.shape[1] - length
            chosen = torch.full_like(scores, -torch.inf)
            for row, tokens in enumerate(forced):
                chosen[row, tokens[min(step, len(tokens) - 1)]] = 0.0
            return chosen

    return Forced()


def _limit(longest: Sequence[int], length: int) -> Any:  # noqa: ANN401
    """Returns a stopping criterion: each row ends at its own longest answer."""
    import torch
    from transformers import StoppingCriteria

    class Limit(StoppingCriteria):
        def __call__(
            self,
            input_ids: torch.Tensor,
            scores: torch.Tensor,
            **kwargs: object,
        ) -> torch.Tensor:
            step = input_ids.shape[1] - length
            done = [step >= most for most in longest]
            return torch.tensor(done, device=input_ids.device)

    return Limit()


def checkpoint_hash(folder: Path) -> str:
    """Returns a sha256 over names and contents of a checkpoint's files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(
                f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return digest.hexdigest()
