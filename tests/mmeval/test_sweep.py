"""`mmeval degrade`: one image, a folder of them, and the contact sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import degradations
from mmeval import sweep
from mmeval.cli import main


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a gray picture, a colour one below it, and a text file."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    ramp = np.tile(np.linspace(20, 230, 48, dtype=np.uint8), (40, 1))
    Image.fromarray(ramp).save(folder / "ramp.png")
    colour = np.stack([ramp, ramp.T[:40, :40].repeat(2, 1)[:, :48], 255 - ramp], axis=-1)
    Image.fromarray(colour).save(folder / "deeper" / "colour.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_folder_is_degraded_file_by_file_and_says_what_failed(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = run("degrade", pictures, out, "--degradation", "general/gaussian_noise:2")
    said = capsys.readouterr()
    assert code == 1
    assert "failed: 1 of 3" in said.err
    assert "notes.txt" in said.err
    assert "2 pictures" in said.out
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.png")) == [
        "deeper/colour.png.png",
        "ramp.png.png",
    ]


def test_the_manifest_of_a_folder_replays_every_picture(pictures: Path, tmp_path: Path) -> None:
    (pictures / "notes.txt").unlink()
    out = tmp_path / "out"
    spec = "general/gaussian_noise:2+general/motion_blur:1"
    assert run("degrade", pictures, out, "--degradation", spec, "--seed", 5) == 0
    lines = [json.loads(line) for line in (out / "degraded.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == ["deeper/colour.png", "ramp.png"]
    for line in lines:
        clean = np.atleast_3d(np.asarray(Image.open(pictures / line["source"])))
        pixels = torch.from_numpy(clean.transpose(2, 0, 1).copy())[None].float() / 255
        again = degradations.replay(pixels, [line["steps"]], domain="display")
        levels = (again[0] * 255).round().to(torch.uint8).numpy().transpose(1, 2, 0)
        shown = np.asarray(Image.open(out / line["picture"]))
        assert np.array_equal(np.broadcast_to(levels, shown.shape), shown)


def test_the_same_bytes_under_another_name_give_the_same_picture(
    pictures: Path, tmp_path: Path
) -> None:
    (pictures / "copy.png").write_bytes((pictures / "ramp.png").read_bytes())
    sweep.degrade_folder(
        pictures, tmp_path / "out", "general/gaussian_noise:2", modality="photo", progress=False
    )
    one, other = ((tmp_path / "out" / f"{n}.png.png").read_bytes() for n in ("ramp", "copy"))
    assert one == other


def test_a_folder_is_not_degraded_into_itself(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("degrade", pictures, pictures, "--degradation", "general/jpeg:1") == 2
    assert "name another folder" in capsys.readouterr().err


def test_pictures_below_the_target_are_not_degraded_again(pictures: Path) -> None:
    (pictures / "notes.txt").unlink()
    for _ in range(2):
        written, failures = sweep.degrade_folder(
            pictures, pictures / "out", "general/jpeg:1", modality="photo", progress=False
        )
        assert (len(written), failures) == (2, {})


def test_a_bad_spec_stops_before_any_picture(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("degrade", pictures, tmp_path / "out", "--degradation", "general/jpg:1") == 2
    assert "did you mean 'general/jpeg'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_contact_sheet_has_a_row_each_and_a_column_for_every_severity(
    pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    names = ["general/gaussian_blur", "general/gaussian_noise@medq-deg"]
    options = [part for name in names for part in ("--degradation", name)]
    assert run("degrade", pictures / "ramp.png", out, "--grid", *options) == 0
    sheet = np.asarray(Image.open(out))
    # Clean and five levels, 48 pixels wide; two rows of 40 pixels.
    assert sheet.shape[1] > 6 * 48
    assert 2 * 40 < sheet.shape[0] < 4 * 80
    # The published noise has two levels, so the end of its row is blank.
    last_column = sheet[:, -48:]
    assert (last_column[:80] < 255).any()
    assert (last_column[-70:] == 255).all()


def test_patterns_choose_what_fits_the_image(pictures: Path) -> None:
    import modalities

    gray = modalities.load(pictures / "ramp.png", "photo")
    everything = sweep.fitting(gray)
    assert {"general/gaussian_noise", "general/jpeg"} <= set(everything)
    assert not {"ct/low_dose", "pathology/stain"} & set(everything)
    assert set(sweep.fitting(gray, ["general/*_blur"])) >= {
        "general/gaussian_blur",
        "general/motion_blur",
    }
    with pytest.raises(degradations.DegradationError, match="fits a photo image"):
        sweep.fitting(gray, ["ct/*"])
    with pytest.raises(degradations.DegradationError, match="did you mean 'general/jpeg'"):
        sweep.fitting(gray, ["general/jpg"])


def test_a_grid_of_a_folder_says_what_to_do(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("degrade", pictures, tmp_path / "s.png", "--grid") == 2
    assert "--series" in capsys.readouterr().err
