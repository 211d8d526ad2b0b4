"""The benchmark and the model that mmeval carries with it: simulated, endless, offline.

`write` makes image files and questions with known answers; `checkpoint_path` gives a small real
vision-language model trained on such images. Both are instruments for demonstration and testing:
neither says anything about patients.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["checkpoint_path", "write"]


def write(out: Path | str, seed: int = 0, n: int = 100, *, progress: bool = False) -> Path:
    """Write ``n`` questions and their image files; see :func:`mmeval.phantom.files.write`."""
    from mmeval.phantom import files

    return files.write(out, seed, n, progress=progress)


def checkpoint_path() -> Path:
    """Folder of the demonstration model, for ``AutoModelForImageTextToText.from_pretrained``.

    Raises:
        FileNotFoundError: The installation lacks it.
    """
    path = Path(__file__).parent / "checkpoint"
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(f"{path} has no model.safetensors; reinstall mmeval-medical")
    return path
