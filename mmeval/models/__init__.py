"""Model backends, found by name and imported when first used."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from mmeval.errors import MmevalError, did_you_mean
from mmeval.models.base import Model

__all__ = ["BACKENDS", "Model", "load"]

BACKENDS: Mapping[str, tuple[str, str]] = {
    "transformers": (
        "mmeval.models.transformers:TransformersModel",
        "any AutoModelForImageTextToText with a chat template; option log-probabilities",
    ),
    "vllm": (
        "mmeval.models.vllm:VLLMModel",
        "vLLM in this process: prefix caching, tensor parallel, whole plan streamed",
    ),
    "openai": (
        "mmeval.models.openai:OpenAIModel",
        "a server with OpenAI's chat completions: vLLM, SGLang, Ollama, transformers, hosted",
    ),
    "mock": (
        "mmeval.models.mock:MockModel",
        "no model: answers from the pixels or from a script, for tests and dry runs",
    ),
}


def load(spec: Mapping[str, Any]) -> Model:
    """Loads a model.

    Args:
        spec: ``backend`` and that backend's arguments, as in ``configs/models``; a
            ``description`` is for people.

    Raises:
        MmevalError: The backend or an argument is unknown, or the model cannot be loaded.
    """
    options = dict(spec)
    options.pop("description", None)
    backend = options.pop("backend", None)
    if backend not in BACKENDS:
        raise MmevalError(
            f"model.backend: unknown {backend!r}{did_you_mean(str(backend), BACKENDS)}"
        )
    module, _, name = BACKENDS[backend][0].partition(":")
    cls = getattr(importlib.import_module(module), name)
    known = inspect.signature(cls).parameters
    for option in options:
        if option not in known:
            raise MmevalError(
                f"model.{option}: {backend} has no such option{did_you_mean(option, known)}"
            )
    try:
        model: Model = cls(**options)
    except TypeError as error:
        raise MmevalError(f"model: {error}") from None
    return model
