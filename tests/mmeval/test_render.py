"""Rendering: the right domain, the same bits for the same image, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import degradations
import modalities
from mmeval.errors import MmevalError
from mmeval.running.render import Renderer, degrade
from mmeval.schema import ImageRef

BRAIN = modalities.Window(40, 80, name="brain")


def ct(hu: float = 40.0) -> modalities.MedicalImage:
    pixels = torch.full((1, 32, 32), hu)
    return modalities.MedicalImage(pixels, "hu", "ct", (1.0, 1.0), BRAIN, {"sha256": "0"})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def test_dose_is_lowered_in_hounsfield_units_and_compressed_on_the_display() -> None:
    spec = "ct/low_dose:4+general/jpeg:2"
    worse = degrade(ct(), spec, id="i", seed=0)
    by_hand = ct().with_pixels(
        degradations.apply(
            ct().pixels[None],
            "ct/low_dose:4",
            domain="hu",
            ids=["i"],
            seed=0,
            spacing_mm=(1.0, 1.0),
        )[0]
    )
    shown = degradations.apply(
        by_hand.to_display().pixels[None], "general/jpeg:2", domain="display", ids=["i"], seed=0
    )[0]
    assert worse.domain == "display"
    assert torch.equal(worse.pixels, shown)


def test_noise_outside_the_window_is_clipped_by_the_window_not_before() -> None:
    # 1000 HU above the window: noise of any dose stays white on the display.
    assert degrade(ct(1000.0), "ct/low_dose:1", id="i", seed=0).render().min() == 255


def test_going_back_from_display_to_physical_pixels_is_an_error_with_the_mend() -> None:
    with pytest.raises(MmevalError, match=r"write ct/low_dose:4 first"):
        degrade(ct(), "general/jpeg:2+ct/low_dose:4", id="i", seed=0)


def test_a_ct_picture_needs_its_window_stated() -> None:
    shown = ct().to_display()
    with pytest.raises(degradations.DegradationError, match="assume_window"):
        degrade(shown, "ct/low_dose:4", id="i", seed=0)
    worse = degrade(shown, "ct/low_dose:4", id="i", seed=0, assume_window=(40, 80))
    assert not torch.equal(worse.pixels, shown.pixels)


def test_severity_zero_renders_the_clean_image(picture: Path) -> None:
    renderer = Renderer()
    reference = ImageRef("a.png", "photo")
    clean = renderer.render(picture, reference)
    assert np.array_equal(clean, np.asarray(Image.open(picture)))
    assert np.array_equal(renderer.render(picture, reference, "general/jpeg:0"), clean)


def test_the_same_bytes_elsewhere_get_the_same_noise(picture: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "b.png"
    copy.parent.mkdir()
    copy.write_bytes(picture.read_bytes())
    noisy = Renderer().render(picture, ImageRef("a.png", "photo"), "general/gaussian_noise:3")
    again = Renderer().render(copy, ImageRef("b.png", "photo"), "general/gaussian_noise:3")
    other = Renderer(1).render(copy, ImageRef("b.png", "photo"), "general/gaussian_noise:3")
    assert np.array_equal(noisy, again)
    assert not np.array_equal(noisy, other)


def test_what_is_kept_in_memory_does_not_change_the_picture(picture: Path) -> None:
    reference = ImageRef("a.png", "photo")
    conditions = ["clean", *(f"general/gaussian_noise:{s}" for s in (1, 2, 3, 4, 5))] * 2
    kept = Renderer()
    for condition in conditions:
        fresh = Renderer().render(picture, reference, condition)
        assert np.array_equal(kept.render(picture, reference, condition), fresh)


def test_the_longest_edge_is_limited(picture: Path) -> None:
    assert Renderer(size=30).render(picture, ImageRef("a.png", "photo")).shape == (20, 30, 3)
