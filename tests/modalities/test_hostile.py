"""Broken and hostile files: each is refused, or used with a warning, as its manifest says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest

import modalities
from modalities import ImageError, ImageWarning

KINDS = ("dicom", "nifti", "raster")
REPOSITORY = Path(__file__).resolve().parents[2]


def manifest() -> list[dict[str, Any]]:
    shared = Path(os.environ.get("MMEVAL_SHARED") or REPOSITORY.parent / "shared")
    path = shared / "data/bad/MANIFEST.json"
    if not path.is_file():
        return []
    items = json.loads(path.read_text())["items"]
    return [item for item in items if item["file"].startswith(KINDS)]


ITEMS = manifest()
# The defects of these series show only when the folder is read.
PARTS = "dicom/series_mixed/"


@pytest.fixture(scope="module")
def bad(shared: Path) -> Path:
    return shared / "data/bad"


def attempt(path: Path) -> tuple[str, list[str], str]:
    """Load and render; the outcome, our warnings, and everything that was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image = modalities.load(path)
            image = image.to_slice() if image.pixels.ndim == 4 else image
            image.render(64)
            outcome, said = "used", repr(image.provenance)
        except ImageError:
            outcome, said = "refused", traceback.format_exc()
    ours = [str(w.message) for w in caught if issubclass(w.category, ImageWarning)]
    return outcome, ours, said + "".join(str(w.message) for w in caught)


def test_the_manifest_is_there(bad: Path) -> None:
    assert len(ITEMS) > 40


@pytest.mark.parametrize(
    "item", [i for i in ITEMS if not i["file"].startswith(PARTS)], ids=lambda item: item["file"]
)
def test_a_bad_file_is_treated_as_the_manifest_says(
    bad: Path,
    item: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome, ours, said = attempt(bad / item["file"])
    name = Path(item["file"]).name
    if item["expect"] == "error":
        assert outcome == "refused"
        line = said.strip().splitlines()[-1]
        assert name.split(".")[0] in line
    else:
        assert outcome == "used"
        # Otherwise than by the note on the modality, which every such file gets.
        telling = [text for text in ours if "taken as" not in text or "NumberOfFrames" in text]
        assert bool(telling) == (item["expect"] == "warn")
    said += caplog.text + "".join(capfd.readouterr())
    for secret in item.get("forbidden_strings", []):
        assert secret not in said


def test_a_folder_of_mixed_series_is_refused_and_listed(bad: Path) -> None:
    with pytest.raises(ImageError, match="2 x series 1: 128x128; 1 x series 2: 128x128"):
        modalities.load(bad / PARTS)


def test_two_windows_say_which_is_used(bad: Path) -> None:
    image = modalities.load(bad / "dicom/window_two.dcm")
    assert image.provenance["choices"]["window"] == "40/400 (file, first of 2)"


def test_bombs_take_no_memory(bad: Path) -> None:
    bombs = [item for item in ITEMS if item["max_rss_mb"] < 1500]
    assert len(bombs) >= 3
    code = (
        "import sys, modalities\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        modalities.load(path)\n"
        "    except modalities.ImageError:\n"
        "        continue\n"
        "    sys.exit('loaded ' + path)\n"
        # Unlike ru_maxrss, this peak does not begin with that of the process that started us.
        "status = open('/proc/self/status').read()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    paths = [str(bad / item["file"]) for item in bombs]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) / 1024 < min(item["max_rss_mb"] for item in bombs)
