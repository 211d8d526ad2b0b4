"""The one error a user of mmeval can cause and mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmevalError(ValueError):
    """A wrong input: the message names the file, the field and the mend."""


def is_plain(error: BaseException) -> bool:
    """Whether an error was written for the user: ours, or of the packages below us.

    The text of any other may quote the file, and a medical file names its patient.
    """
    package = type(error).__module__.partition(".")[0]
    return package in ("mmeval", "modalities", "degradations")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns a hint for an unknown name.

    Args:
        word: What was written.
        known: The names that exist.

    Returns:
        ``"; did you mean 'x'?"`` when something is close, else the names that exist.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
