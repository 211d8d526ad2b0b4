"""Thinking text, told apart from the answer that follows it."""

from __future__ import annotations

import re

__all__ = ["split"]

# DeepSeek-R1, Qwen3 and many others use <think>; Magistral [THINK]; older fine-tunes <reasoning>.
_OPEN = re.compile(r"\s*(?:<think(?:ing)?>|<reasoning>|\[THINK\])")
_CLOSE = re.compile(r"</think(?:ing)?>|</reasoning>|\[/THINK\]")


def split(text: str) -> tuple[str | None, str]:
    """Separates what a reasoning model thought from what it answered.

    A chat template may have opened the thinking already, so a closing mark alone also ends it.
    Thinking that was cut off before its end leaves an empty answer, which is scored as unparsed;
    no letter is picked out of half a thought.

    Returns:
        The thinking (None if there is none) and the answer.

    Example:
        >>> split("<think>Two lungs, one nodule.</think> B")
        ('Two lungs, one nodule.', 'B')
        >>> split("B")
        (None, 'B')
        >>> split("<think>The left lung")
        ('The left lung', '')
    """
    opened = _OPEN.match(text)
    closed = list(_CLOSE.finditer(text))
    if closed:
        start = opened.end() if opened else 0
        return text[start : closed[-1].start()].strip(), text[closed[-1].end() :].strip()
    if opened is not None:
        return text[opened.end() :].strip(), ""
    return None, text.strip()
