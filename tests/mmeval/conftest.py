"""A small benchmark of real picture files, for tests of the run path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MakeQuestions = Callable[..., Path]


def write_picture(path: Path, grey: int, size: int = 24) -> None:
    """A picture of one brightness with a bright spot, so that blur and noise show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size, size), grey, np.uint8)
    pixels[size // 4, size // 4] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def make_questions(tmp_path: Path) -> MakeQuestions:
    """Writes `n` yes/no questions, two on each picture, and returns the path of samples.jsonl."""

    def make(n: int = 6, folder: str = "data", **changes: Any) -> Path:
        root = tmp_path / folder
        lines = []
        for i in range(n):
            picture = f"images/p{i // 2}.png"
            write_picture(root / picture, grey=(37 * (i // 2)) % 256)
            sample = {
                "id": f"q{i}",
                "question": f"Is finding {i % 2} present?",
                "kind": "yes_no",
                "answer": "yes" if i % 3 else "no",
                "images": [{"path": picture, "modality": "photo"}],
                "tags": {"task": "presence"},
                "cluster": picture,
                "chance": 0.5,
            }
            lines.append(json.dumps(sample | changes))
        path = root / "samples.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make
