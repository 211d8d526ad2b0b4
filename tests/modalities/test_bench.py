"""The reading benchmark: what it prints, not how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modalities import bench


def test_each_file_is_read_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(path)
    assert bench.main([str(path), "--json", "--repeats", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["files"]
    assert (row["file"], row["decoder"]) == ("a.png", "Pillow")
    assert row["overhead"] == pytest.approx(row["raw"] / row["load"] - 1)
    assert found["median_overhead"] == row["overhead"]


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([str(tmp_path / "none.png")]) == 1
    assert "none.png: no such file" in capsys.readouterr().err


def test_the_files_made_for_it_are_of_every_decoder(tmp_path: Path) -> None:
    rows = [bench.measure(path, 1) for path in bench.make(tmp_path)]
    assert {row.decoder for row in rows} == {"pydicom", "nibabel", "Pillow", "tifffile"}
