"""Keep the file libraries' own warnings and log lines back.

They may quote values of the file, so patient data, and what matters in them is said by our own
messages. Counted, so that threads reading at the same time restore the filters only once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings

_LIBRARIES = r"(pydicom|nibabel|PIL|tifffile|tiffslide|zarr|numpy|modalities\.formats)(\.|$)"
_LOGGERS = [
    logging.getLogger(name)
    for name in ("pydicom", "nibabel.global", "PIL", "tifffile", "tiffslide", "imagecodecs")
]

_lock = threading.Lock()
_readers = _warned = 0
_undo = contextlib.ExitStack()


class unlogged:
    """Silence the file libraries' log lines, in this thread and the others, while the block runs.

    Quicker than `hushed`, for calls that issue no warnings.
    """

    def __enter__(self) -> None:
        global _readers
        with _lock:
            _readers += 1

    def __exit__(self, *failure: object) -> None:
        global _readers
        with _lock:
            _readers -= 1


class hushed(unlogged):
    """Silence the file libraries' warnings, too."""

    def __enter__(self) -> None:
        global _warned
        super().__enter__()
        with _lock:
            _warned += 1
            if _warned == 1:
                _undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=_LIBRARIES)

    def __exit__(self, *failure: object) -> None:
        global _warned
        with _lock:
            _warned -= 1
            if _warned == 0:
                _undo.close()
        super().__exit__(*failure)


def _loud(record: logging.LogRecord) -> bool:
    return _readers == 0


# Once, not each time: that would take longer than a small file does.
for _logger in _LOGGERS:
    _logger.addFilter(_loud)
