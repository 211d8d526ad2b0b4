"""Evaluate medical vision-language models on clean and degraded images.

>>> import mmeval
>>> mmeval.__version__
'0.1.0'

`evaluate` asks a model; `Run` is what comes back. Importing mmeval is cheap: torch and transformers
are imported when something is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmeval.errors import MmevalError

if TYPE_CHECKING:
    from mmeval.runs import Run, evaluate

__all__ = ["MmevalError", "Run", "__version__", "evaluate"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in ("Run", "evaluate"):
        from mmeval import runs

        return getattr(runs, name)
    raise AttributeError(f"module 'mmeval' has no attribute {name!r}")
