"""`docs/modalities.md` is true: its tests exist and its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs/modalities.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT)
    kinds = re.search(r"## Kinds of file\n(.*?)\n## ", TEXT, flags=re.DOTALL)
    assert kinds is not None
    lines = re.findall(r"^\| (?!Kind of file|---)", kinds[1], flags=re.MULTILINE)
    assert len(named) == len(lines) > 30
    for file, test in named:
        code = Path(__file__).with_name(file).read_text(encoding="utf-8")
        assert f"def {test}(" in code, f"{file}::{test}"


def test_adding_a_modality_works_as_written_in_under_30_lines(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert len(code.strip().splitlines()) < 30
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (promised,) = re.findall(r"# prints: (.*)$", code, flags=re.MULTILINE)
    assert (done.stdout.strip(), done.returncode) == (promised, 0), done.stderr
