"""`docs/modalities.md` is true: its tests exist and its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import modalities
from modalities import image, volume
from modalities.formats import dicom, dicom_items, dicom_slide, nifti, raster, slide, source

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
    adding = TEXT[TEXT.index("## Adding a modality") :]
    (code,) = re.findall(r"^```python\n(.*?)^```$", adding, flags=re.MULTILINE | re.DOTALL)
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


def test_every_choice_there_is_has_a_line_with_an_example() -> None:
    known = {"modality", "root", "window", *volume.CHOICES}
    for module in (dicom, nifti, raster, slide):
        known.update(module.CHOICES)
    offered = {name: modalities.get(name).steps for name in modalities.names()}
    known.update(key for steps in offered.values() for key in steps)
    part = TEXT[TEXT.index("## Choices") : TEXT.index("## Stains")]
    lines = {}
    for choice, where, takes, example in re.findall(
        r"^\| `(\w+)` \| (.*?) \| (.*?) \| `load\((.*)\)` \|$", part, flags=re.MULTILINE
    ):
        assert f"{choice}=" in example or choice == "modality"
        lines[choice] = f"{where} {takes}"
    assert set(lines) == known
    for name, steps in offered.items():
        for choice, values in steps.items():
            for word in (name, *values):
                assert f"`{word}`" in lines[choice], f"{choice}: {word}"


def test_the_limits_are_those_of_the_code() -> None:
    part = TEXT[TEXT.index("## Limits") :]
    for text, limit in {
        "2^20 | split the file": dicom_items.MAX_GROUPED == 2**20,
        "2^16; some 131072": dicom_items.MAX_NESTED == 2**16 and dicom_items.MAX_READS == 2**18,
        "sequences within sequences | 64": dicom_items.MAX_DEPTH == 64,
        "2^17; 2^18": dicom_items.MAX_TEXT == 2**17 and dicom_items.MAX_TABLE == 2**18,
        "compressed pixels | 2^20, and 2^16": dicom_items.MAX_FRAGMENTS == 2**20,
        "8192 slices": dicom.MAX_SLICES == 8192,
        "of which 8192 for one": dicom_slide.MAX_READ == 8192,
        "one series | 4096": source.MAX_FILES == 4096,
        "below them | 4096": slide.MAX_PAGES == 4096,
        "2^27 values (512": image.MAX_VALUES == 2**27,
        "3 x 2^25 values": image.MAX_PLANE == 3 * 2**25,
    }.items():
        assert text in part, text
        assert limit, text
