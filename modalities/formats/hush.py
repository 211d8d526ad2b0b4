"""Keep the file libraries' own warnings and log lines back.

They may quote values of the file, so patient data, and what matters in them is said by our own
messages. Counted, so that threads reading at the same time restore the filters only once.
"""

from __future__ import annotations

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
_before: warnings.catch_warnings[None] | None = None


class hushed:
    """Silence the file libraries, in this thread and the others, while the block runs."""

    def __enter__(self) -> None:
        global _readers, _before
        with _lock:
            _readers += 1
            if _readers == 1:
                _before = warnings.catch_warnings()
                _before.__enter__()
                warnings.filterwarnings("ignore", module=_LIBRARIES)

    def __exit__(self, *failure: object) -> None:
        global _readers, _before
        with _lock:
            _readers -= 1
            if _readers == 0 and _before is not None:
                _before.__exit__(None, None, None)
                _before = None


def _loud(record: logging.LogRecord) -> bool:
    return _readers == 0


# Once, not each time: that would take longer than a small file does.
for _logger in _LOGGERS:
    _logger.addFilter(_loud)
