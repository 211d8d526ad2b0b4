"""Calibration: how values are found, how they are written down, and that they still hold."""

from __future__ import annotations

import dataclasses
import datetime
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import degradations
from degradations import calibrate, scenes
from degradations.similarity import psnr, ssim

COMMITTED = tomllib.loads(calibrate.RECORD.read_text(encoding="utf-8"))
DIALS = calibrate.dials()


# --- scenes


def test_the_reference_set_has_pictures_of_nine_modalities() -> None:
    assert len(scenes.REFERENCE) >= 16
    assert {modality for modality, _ in scenes.REFERENCE} == {
        "xray", "ct", "mri", "fundus", "oct", "pathology", "ultrasound", "endoscopy",
        "dermoscopy",
    }  # fmt: skip


@pytest.mark.parametrize(("modality", "seed"), scenes.REFERENCE)
def test_a_scene_is_one_scene_at_every_size(modality: str, seed: int) -> None:
    """What is drawn at 256 pixels is what the scene at 512 averages to, but for fine detail."""
    small, large = (scenes.draw(modality, size, seed).float() / 255 for size in (256, 512))
    averaged = torch.nn.functional.avg_pool2d(large, 2)
    error = float((small - averaged).square().mean().sqrt())
    assert error < 0.25 * float(small.std())
    assert ssim(*(p.permute(1, 2, 0).numpy() for p in (small, averaged))) > 0.75


def test_scenes_are_sharp_at_any_size() -> None:
    """A picture resized from 256 pixels has nothing above its old limit; a scene does."""
    power = np.abs(np.fft.fft2(scenes.draw("xray", 512)[0].numpy() / 255.0)) ** 2
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(512, 1 / 512)] * 2))
    rings = [power[(radius >= r) & (radius < 1.2 * r)].mean() for r in (20, 40, 80, 160, 200)]
    steps = np.diff(np.log2(rings)) / np.diff(np.log2([20, 40, 80, 160, 200]))
    assert (steps < -1).all()
    assert (steps > -4).all()


def test_another_seed_is_another_patient_and_no_texture_leaves_the_shapes() -> None:
    plain, again, other = (scenes.draw("mri", 64, seed) for seed in (0, 0, 1))
    assert torch.equal(plain, again)
    assert not torch.equal(plain, other)
    smooth = scenes.draw("mri", 64, finest=0)
    assert psnr(plain[0].numpy(), smooth[0].numpy()) > 20


def test_a_scene_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="no scene for modality 'petct'"):
        scenes.draw("petct")
    with pytest.raises(ValueError, match="must be even"):
        scenes.draw("ct", 255)


# --- finding values


@pytest.mark.parametrize("identity", [0.0, 1.0, math.inf])
def test_solve_inverts_a_known_curve(identity: float) -> None:
    """SSIM exp(-x), of which the inverse is known, rising, falling and from infinity."""

    def strength(value: float) -> float:
        return 1 / value if math.isinf(identity) else 3 * abs(value - identity)

    start = {0.0: 0.1, 1.0: 0.8, math.inf: 5.0}[identity]
    values, targets = calibrate.solve(
        lambda value: math.exp(-strength(value)), identity, start, None
    )
    assert targets == list(calibrate.TARGETS)
    expected = [-math.log(target) for target in targets]
    assert [strength(value) for value in values] == pytest.approx(expected, rel=3e-3)


def test_targets_out_of_reach_are_drawn_up_in_proportion() -> None:
    values, targets = calibrate.solve(lambda value: 1 - 0.2 * value, 0.0, 0.5, 1.0)
    assert targets[-1] == pytest.approx(0.8)
    shares = [
        (1 - own) / (1 - common) for own, common in zip(targets, calibrate.TARGETS, strict=True)
    ]
    assert shares == pytest.approx([0.4] * 5)
    assert values == pytest.approx([(1 - t) / 0.2 for t in targets], abs=2e-3)


def test_a_gaussian_blur_is_calibrated_to_the_ssim_asked_for() -> None:
    """Measured with SciPy's blur instead of ours."""
    from scipy.ndimage import gaussian_filter

    pictures = [p for p in calibrate.reference() if p.modality in ("ct", "fundus")][:2]
    rows = calibrate.calibrate(
        "general/gaussian_blur", calibrate.Dial("sigma", None, False), pictures
    )
    for row in rows:
        found = []
        for picture in pictures:
            clean = picture.pixels.permute(1, 2, 0).numpy() / np.float32(255)
            blurred = gaussian_filter(clean, (row.value * 256, row.value * 256, 0), truncate=6)
            found.append(ssim(clean, blurred.astype(np.float32)))
        assert sum(found) / 2 == pytest.approx(row.target, abs=calibrate.TOLERANCE)


# --- writing them down

TABLE = """# Above.
["general/x"]
version = 1
calibrate = "sigma"

["general/x".parameters.sigma] # beside
unit = "px"
values = [1.0,
  2.0] # after

["general/x".profiles.other]
parameters.sigma = { unit = "px", identity = 0.0, values = [7.0] }
"""


def test_writing_changes_the_values_and_nothing_else() -> None:
    changed = calibrate.rewritten(TABLE, "general/x", "sigma", [0.1, 4e-5])
    assert changed == TABLE.replace("[1.0,\n  2.0]", "[0.1, 4e-05]")


def test_a_table_of_another_layout_is_refused() -> None:
    inline = '["general/x"]\nparameters.sigma = { values = [1.0] }\n'
    with pytest.raises(ValueError, match="write sigma as a section"):
        calibrate.rewritten(inline, "general/x", "sigma", [0.1])


def test_the_record_tells_targets_scenes_and_what_was_measured() -> None:
    row = calibrate.Row("general/gaussian_blur", 1, "sigma", 0.01, 0.9, 30.0, 0.93)
    text = calibrate.record([row], {"torch": "2"}, datetime.date(2026, 1, 2))
    told = tomllib.loads(text)
    assert told["target"] == list(calibrate.TARGETS)
    assert told["scenes"]["sha256"] == scenes.digest(calibrate.SIZE)
    assert told["general/gaussian_blur"]["ssim"] == [0.9]


# --- what is committed


def test_the_scenes_are_those_that_were_calibrated_on() -> None:
    assert calibrate.scenes_changed() is None
    assert COMMITTED["target"] == list(calibrate.TARGETS)


def test_every_entry_with_a_dial_is_in_the_record_and_no_other() -> None:
    assert {name for name in COMMITTED if "/" in name} == set(DIALS)
    assert len(DIALS) >= 15


@pytest.mark.parametrize("name", DIALS)
def test_committed_values_still_hold_their_targets(name: str) -> None:
    """Level 3 here; `python -m degradations.calibrate --check` measures all of them."""
    assert calibrate.differences(name, DIALS[name], calibrate.reference(), levels=[3]) == []


def test_a_value_off_its_target_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "general/gaussian_blur"
    entry = degradations.get(name)
    curve = entry.curves["sigma"]
    other = dataclasses.replace(curve, values=tuple(1.3 * value for value in curve.values))
    monkeypatch.setitem(
        degradations.degradation._registry,
        name,
        dataclasses.replace(entry, curves={"sigma": other}),
    )
    found = calibrate.differences(name, DIALS[name], calibrate.reference(), levels=[3])
    assert len(found) == 1
    assert "SSIM is" in found[0]


def test_ones_own_pictures_can_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for modality in ("ct", "fundus"):
        levels = scenes.draw(modality, 64).permute(1, 2, 0).numpy().squeeze()
        Image.fromarray(levels).save(tmp_path / f"{modality}.png")
    assert calibrate.main(["general/gaussian_blur", "--images", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1].split()[:3] == ["general/gaussian_blur", "5", "sigma"]


def test_an_entry_without_a_dial_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        calibrate.main(["general/rotation"])
    assert "'general/rotation' is not calibrated" in capsys.readouterr().err
