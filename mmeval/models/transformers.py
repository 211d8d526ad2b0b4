"""Any image-text-to-text model of Hugging Face transformers that has a chat template.

One batched ``generate`` call answers a batch and gives the option log-probabilities: the logits of
its first step are those after the prompt, so options that are one token cost nothing extra.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeval.errors import MmevalError
from mmeval.schema import Request, Response

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersModel"]

logger = logging.getLogger(__name__)

# How an answer may be spelled by a model; the spellings' probabilities are added up. Letters keep
# their case: "a" is an article, not option A.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {"yes": ("yes", "Yes"), "no": ("no", "No")}
_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "*.bin")
_TAIL = 32  # characters of the prompt's end that decide how an answer joins to it


class TransformersModel:
    """Greedy (or seeded) generation with option log-probabilities.

    Args:
        path: Folder of a checkpoint, Hugging Face id, or ``phantom`` for the model that mmeval
            carries with it.
        revision: Commit or branch of a Hugging Face id.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's), or a torch type's name.
        device: ``auto`` (an accelerator if there is one), ``cpu``, ``cuda:1``, ...
        batch_size: Requests per forward pass. Halved, and said so, when memory does not suffice.

    Raises:
        MmevalError: The checkpoint cannot be loaded or has no chat template.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int = 32,
    ) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if batch_size < 1:
            raise MmevalError(f"model.batch_size: expected at least 1, got {batch_size}")
        if path == "phantom":
            from mmeval.phantom import checkpoint_path

            path = str(checkpoint_path())
        self.batch_size = batch_size
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        # transformers' own types do not describe what these return.
        processors: Any = AutoProcessor
        weights: Any = AutoModelForImageTextToText
        resolved: Any = "auto"
        if dtype != "auto" or device == "cpu":
            resolved = getattr(torch, "float32" if dtype == "auto" else dtype, None)
            if not isinstance(resolved, torch.dtype):
                raise MmevalError(
                    f"model.dtype: {dtype!r} is no torch type; try bfloat16 or float32"
                )
        try:
            with _quiet():
                self.processor = processors.from_pretrained(
                    path, revision=revision, trust_remote_code=False
                )
                self.model = weights.from_pretrained(
                    path, revision=revision, dtype=resolved, trust_remote_code=False
                )
        except (OSError, ValueError, ImportError) as error:
            raise MmevalError(f"model.path: {path} cannot be loaded: {error}") from error
        if not getattr(self.processor, "chat_template", None):
            raise MmevalError(f"model.path: {path} has no chat template; choose an instruct model")
        self.model = self.model.to(device).eval()
        self.tokenizer = self.processor.tokenizer
        # The answer must follow the prompt directly, whatever the others' lengths.
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._spelled: dict[tuple[str, str], tuple[tuple[int, ...], ...]] = {}
        folder = Path(path)
        local = folder.is_dir()
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
        }

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answers the requests batch by batch, in order."""
        stream = iter(requests)
        while batch := list(itertools.islice(stream, self.batch_size)):
            for shown in (True, False):  # processors take a batch with images or one without
                part = [request for request in batch if bool(request.images) is shown]
                yield from self._answer(part) if part else ()

    def _answer(self, batch: Sequence[Request]) -> list[Response]:
        """Answers a batch; one that fails is halved until the request that fails is alone."""
        try:
            return self._forward(batch)
        except Exception as error:  # ends as the error of the one request that causes it
            if len(batch) == 1:
                return [Response.failed(batch[0], f"{type(error).__name__}: {error}"[:500])]
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

    def _prompts(self, batch: Sequence[Request]) -> list[str]:
        return [
            self.processor.apply_chat_template(
                list(request.messages), add_generation_prompt=True, tokenize=False
            )
            for request in batch
        ]

    def _inputs(self, batch: Sequence[Request], prompts: Sequence[str]) -> Any:  # noqa: ANN401
        from PIL import Image

        images = [[Image.fromarray(image) for image in request.images] for request in batch]
        return self.processor(
            text=list(prompts),
            images=images if all(images) else None,
            padding=True,
            return_tensors="pt",
        ).to(self.device, dtype=self.model.dtype)

    def _forward(self, batch: Sequence[Request]) -> list[Response]:
        import torch
        from transformers import LogitsProcessorList

        began = time.perf_counter()
        prompts = self._prompts(batch)
        inputs = self._inputs(batch, prompts)
        length = inputs["input_ids"].shape[1]
        longest = max(request.max_new_tokens for request in batch)
        samplers = LogitsProcessorList()
        if any(request.temperature > 0 for request in batch):
            samplers.append(_sampler(batch, length))
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=longest,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=samplers,
                output_logits=True,
                return_dict_in_generate=True,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            first = out.logits[0].float().log_softmax(-1)
            options = [
                self._options(request, prompt, logprobs)
                for request, prompt, logprobs in zip(batch, prompts, first, strict=True)
            ]
        answers = out.sequences[:, length:].tolist()
        used = inputs["attention_mask"].sum(1).tolist()
        ends = self._ends()
        counted = []
        for request, tokens in zip(batch, answers, strict=True):
            stop = next((i + 1 for i, token in enumerate(tokens) if token in ends), None)
            cut = request.max_new_tokens
            done = stop is not None and stop <= cut
            counted.append((tokens[: stop if done else cut], "stop" if done else "length"))
        texts = self.tokenizer.batch_decode([t for t, _ in counted], skip_special_tokens=True)
        seconds = (time.perf_counter() - began) / len(batch)
        return [
            Response(
                request.key,
                request.benchmark,
                request.sample,
                request.condition,
                request.trial,
                status="ok",
                text=text.strip(),
                finish_reason=reason,
                option_logprobs=logprobs,
                prompt_tokens=prompt_tokens,
                completion_tokens=len(tokens),
                latency_s=round(seconds, 6),
            )
            for request, text, (tokens, reason), logprobs, prompt_tokens in zip(
                batch, texts, counted, options, used, strict=True
            )
        ]

    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        found = set(ends) if isinstance(ends, list) else {ends}
        return {int(token) for token in found if token is not None}

    def _options(
        self, request: Request, prompt: str, first: torch.Tensor
    ) -> dict[str, float] | None:
        """Returns log-probabilities of the candidates, renormalised over them.

        A candidate's probability is the sum over its spellings. If every candidate has a spelling
        of one token, only those are counted, from `first`, the log-probabilities after the prompt;
        otherwise each spelling is scored whole.
        """
        if not request.candidates:
            return None
        spelled = [self._spellings(prompt, candidate) for candidate in request.candidates]
        single = [[ids[0] for ids in ways if len(ids) == 1] for ways in spelled]
        if all(single):
            totals = [float(first[ids].logsumexp(0)) for ids in single]
        else:
            scores = iter(self._whole(request, prompt, [ids for ways in spelled for ids in ways]))
            totals = [_logsumexp([next(scores) for _ in ways]) for ways in spelled]
        norm = _logsumexp(totals)
        return {
            candidate: total - norm
            for candidate, total in zip(request.candidates, totals, strict=True)
        }

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
            for text in _SPELLINGS.get(candidate, (candidate,)):
                for spaced in (text, " " + text):
                    joint = self._tokens(tail + spaced)
                    fits = joint[: len(before)] == before
                    ways[joint[len(before) :] if fits else self._tokens(spaced)] = None
            found = self._spelled[tail, candidate] = tuple(ids for ids in ways if ids)
        return found

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _whole(
        self, request: Request, prompt: str, continuations: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """Returns the log-probability of each token sequence after the prompt."""
        import torch

        inputs = dict(self._inputs([request], [prompt]))
        n, longest = len(continuations), max(len(ids) for ids in continuations)
        length = inputs["input_ids"].shape[1]
        pad = self.tokenizer.pad_token_id
        appended = torch.tensor(
            [[*ids, *[pad] * (longest - len(ids))] for ids in continuations], device=self.device
        )
        counts = torch.tensor(
            [[1] * len(ids) + [0] * (longest - len(ids)) for ids in continuations],
            device=self.device,
        )
        for name, value in inputs.items():
            inputs[name] = value.repeat(n, *[1] * (value.dim() - 1))
        for name, value in inputs.items():
            if value.shape == (n, length):  # ids, mask and whatever else runs along the tokens
                extra = {"input_ids": appended, "attention_mask": counts}.get(
                    name, torch.zeros_like(appended)
                )
                inputs[name] = torch.cat([value, extra.to(value.dtype)], dim=1)
        logits = self.model(**inputs, use_cache=False).logits[:, length - 1 : -1]
        each = logits.float().log_softmax(-1).gather(2, appended[..., None])[..., 0]
        return [float(v) for v in (each * counts).sum(1)]


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


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values)) if top > -math.inf else top


def _sampler(batch: Sequence[Request], length: int) -> Any:  # noqa: ANN401
    """Returns a logits processor under which the greedy choice is a sample at the temperature.

    Gumbel-max: argmax(logits / T + Gumbel noise) has the softmax distribution. The noise depends on
    a request's key and the step alone, so neither the batch nor the order change an answer.
    """
    import torch
    from transformers import LogitsProcessor

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
                    scores[row] = scores[row] / request.temperature + gumbel.to(scores.device)
            return scores

    return GumbelMax()


def checkpoint_hash(folder: Path) -> str:
    """Returns a sha256 over names and contents of a checkpoint's files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(
                f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return digest.hexdigest()
