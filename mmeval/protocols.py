"""How a question is put to a model: the words around it, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmeval.errors import MmevalError, did_you_mean
from mmeval.schema import LETTERS, Sample

__all__ = ["PROTOCOLS", "VERBALIZED", "Protocol", "get"]

#: Behind a question, where the model is to say how sure it is.
VERBALIZED = (
    "\nOn a second line, say how likely it is that your answer is right, from 0 to 100, "
    "like this:\nConfidence: 80"
)


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named set of prompts.

    Attributes:
        name: What configurations call it.
        description: One line, with its source.
        prompts: One template per kind of question; ``{question}`` and ``{options}`` are filled in.
        option: One line of ``{options}``.
    """

    name: str
    description: str
    prompts: Mapping[str, str]
    option: str = "{letter}. {text}"

    def prompt(self, sample: Sample) -> str:
        """Returns the text of the question."""
        options = "\n".join(
            self.option.replace("{letter}", letter).replace("{text}", text)
            for letter, text in zip(LETTERS, sample.options, strict=False)
        )
        # Split first: braces inside a question are text, not fields.
        head, _, tail = self.prompts[sample.kind].partition("{question}")
        return head + sample.question + tail.replace("{options}", options)

    def messages(
        self, sample: Sample, *, verbalized: bool = False
    ) -> tuple[Mapping[str, Any], ...]:
        """Returns one user message: the images first, the text last.

        Args:
            sample: What is asked.
            verbalized: Whether to ask for a confidence from 0 to 100 behind the answer.
        """
        content: list[dict[str, str]] = [{"type": "image"} for _ in sample.images]
        text = self.prompt(sample) + (VERBALIZED if verbalized else "")
        content.append({"type": "text", "text": text})
        return ({"role": "user", "content": content},)


DIRECT = Protocol(
    name="direct",
    description="Images, question, answer directly; the choice prompt is MedQ-Deg's",
    prompts={
        "choice": "{question}\n\n{options}\n\n"
        "Answer with the option letter from the given choices directly.",
        "yes_no": "{question}\nAnswer yes or no.",
        "box": "{question}\nAnswer with [x1, y1, x2, y2] in percent of the image.",
        "open": "{question}\nAnswer briefly.",
    },
)

PROTOCOLS: Mapping[str, Protocol] = {DIRECT.name: DIRECT}


def get(name: str) -> Protocol:
    """Returns a protocol by name.

    Raises:
        MmevalError: There is none of that name.
    """
    if name not in PROTOCOLS:
        raise MmevalError(f"protocol: unknown {name!r}{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]
