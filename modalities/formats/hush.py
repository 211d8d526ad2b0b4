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
_readers = 0
_undo = contextlib.ExitStack()


class hushed:
    """Silence the file libraries, in this thread and the others, while the block runs."""

    def __enter__(self) -> None:
        global _readers
        with _lock:
            _readers += 1
            if _readers == 1:
                _undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=_LIBRARIES)

    def __exit__(self, *failure: object) -> None:
        global _readers
        with _lock:
            _readers -= 1
            if _readers == 0:
                _undo.close()


def _loud(record: logging.LogRecord) -> bool:
    return _readers == 0


# Once, not each time: that would take longer than a small file does.
for _logger in _LOGGERS:
    _logger.addFilter(_loud)
