"""Regular expressions that are compiled when they are first used."""

from __future__ import annotations

import re
from typing import Any, cast

__all__ = ["lazy"]


class _Lazy:
    def __init__(self, pattern: str, flags: int) -> None:
        self._pattern, self._flags = pattern, flags

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        value = getattr(re.compile(self._pattern, self._flags), name)
        setattr(self, name, value)  # found without this detour from now on
        return value


def lazy(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Returns `re.compile` of a pattern, put off; a long one takes milliseconds.

    Short answers need few of the many.
    """
    return cast("re.Pattern[str]", _Lazy(pattern, flags))
