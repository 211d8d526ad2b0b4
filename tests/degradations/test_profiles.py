"""Published settings, pinned by hand from the papers' own lists, and the documentation of them."""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

import degradations
from degradations import catalogue, degradation, scenes

DOCUMENT = (Path(__file__).parents[2] / "docs" / "degradations.md").read_text(encoding="utf-8")
GENERAL = [name for name in degradations.names() if name.startswith("general/")]


def published(short: str, profile: str) -> dict[str, list[float]]:
    curves = degradations.get(f"general/{short}").profile(profile).curves
    return {name: list(curve.values) for name, curve in curves.items()}


def first(short: str, profile: str) -> list[float]:
    return next(iter(published(short, profile).values()))


# --- MedQ-Deg


@pytest.mark.parametrize(
    ("short", "levels"),
    [
        ("gaussian_blur", [3, 7]),
        ("gaussian_noise", [0.048, 0.080]),
        ("contrast_down", [0.65, 0.30]),
        ("brightness_down", [-75 / 255, -113 / 255]),
        ("exposure_down", [1.64, 3.26]),
        ("rotation", [18, 27]),
    ],
)
def test_medq_deg_is_what_was_recovered_and_says_so(short: str, levels: list[float]) -> None:
    assert first(short, "medq-deg") == pytest.approx(levels)
    assert degradations.get(f"general/{short}").profile("medq-deg").approximate


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return scenes.draw("endoscopy", 256).numpy()


def degraded(scene: np.ndarray, spec: str) -> np.ndarray:
    pixels = torch.from_numpy(scene)[None]
    return degradations.apply(pixels, spec, domain="display", ids=["a"], seed=0)[0].numpy()


@pytest.mark.parametrize(("level", "shift"), [(1, -75), (2, -113)])
def test_medq_deg_brightness_takes_levels_away(scene: np.ndarray, level: int, shift: int) -> None:
    out = degraded(scene, f"general/brightness_down@medq-deg:{level}")
    assert np.array_equal(out, np.clip(scene.astype(int) + shift, 0, 255))


@pytest.mark.parametrize(("level", "factor"), [(1, 0.65), (2, 0.30)])
def test_medq_deg_contrast_is_about_the_mean(scene: np.ndarray, level: int, factor: float) -> None:
    out = degraded(scene, f"general/contrast_down@medq-deg:{level}")
    mean = scene.mean(axis=(1, 2), keepdims=True)
    assert np.abs(out - (mean + factor * (scene - mean))).max() < 1


@pytest.mark.parametrize(("level", "sigma"), [(1, 3.0), (2, 7.0)])
def test_medq_deg_blur_is_that_of_scipy(scene: np.ndarray, level: int, sigma: float) -> None:
    out = degraded(scene, f"general/gaussian_blur@medq-deg:{level}").astype(float)
    blurred = scipy.ndimage.gaussian_filter(scene.astype(float), (0, sigma, sigma), mode="reflect")
    assert np.abs(out - blurred).max() < 1.5
    assert np.abs(out - blurred).mean() < 0.35


# --- ImageNet-C


@pytest.mark.parametrize(
    ("short", "levels"),
    [
        ("gaussian_noise", [0.08, 0.12, 0.18, 0.26, 0.38]),
        ("shot_noise", [60, 25, 12, 5, 3]),
        ("impulse_noise", [0.03, 0.06, 0.09, 0.17, 0.27]),
        ("speckle_noise", [0.15, 0.2, 0.35, 0.45, 0.6]),
        ("gaussian_blur", [1, 2, 3, 4, 6]),
        ("defocus_blur", [3, 4, 6, 8, 10]),
        ("motion_blur", [10, 15, 15, 15, 20]),
        ("low_resolution", [0.6, 0.5, 0.4, 0.3, 0.25]),
        ("jpeg", [25, 18, 15, 10, 7]),
        ("brightness_up", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("contrast_down", [0.4, 0.3, 0.2, 0.1, 0.05]),
    ],
)
def test_imagenet_c(short: str, levels: list[float]) -> None:
    assert first(short, "imagenet-c") == pytest.approx(levels)


def test_imagenet_c_contrast_on_a_picture(scene: np.ndarray) -> None:
    out = degraded(scene, "general/contrast_down@imagenet-c:3")
    mean = scene.mean(axis=(1, 2), keepdims=True)
    assert np.abs(out - (mean + 0.2 * (scene - mean))).max() < 1


# --- MedMNIST-C

#: Corruptions of each data set; "stain_deposit" and "bubble" of path and blood are no general ones.
COUNTS = {
    "pathmnist": 9, "bloodmnist": 9, "dermamnist": 15, "retinamnist": 8, "tissuemnist": 8,
    "octmnist": 6, "breastmnist": 7, "chestmnist": 13, "pneumoniamnist": 13, "organamnist": 13,
    "organcmnist": 13, "organsmnist": 13,
}  # fmt: skip


def test_every_general_corruption_of_every_medmnist_c_data_set_is_there() -> None:
    found = Counter(
        profile.removeprefix("medmnist-c/")
        for name in GENERAL
        for profile in degradations.get(name).profiles
        if profile.startswith("medmnist-c/")
    )
    assert found == COUNTS
    assert found.total() == 131 - 4


@pytest.mark.parametrize(
    ("short", "data", "levels"),
    [
        ("gaussian_noise", "chestmnist", [0.04, 0.08, 0.12, 0.18, 0.26]),
        ("gaussian_noise", "pneumoniamnist", [0.04, 0.05, 0.06, 0.07, 0.08]),
        ("shot_noise", "organsmnist", [200, 100, 50, 25, 15]),
        ("shot_noise", "dermamnist", [60, 25, 18, 10, 5]),
        ("speckle_noise", "breastmnist", [0.10, 0.15, 0.20, 0.25, 0.30]),
        ("impulse_noise", "tissuemnist", [0.01, 0.015, 0.02, 0.025, 0.03]),
        ("low_resolution", "octmnist", [0.30, 0.25, 0.20, 0.15, 0.10]),
        ("jpeg", "retinamnist", [30, 25, 20, 10, 5]),
        ("defocus_blur", "pathmnist", [3, 4, 5, 6, 7]),
        ("brightness_up", "breastmnist", [1.4, 1.5, 1.6, 1.8, 2.0]),
        ("brightness_down", "breastmnist", [0.55, 0.5, 0.45, 0.4, 0.3]),
        ("contrast_up", "organamnist", [1.3, 1.4, 1.6, 1.7, 1.8]),
        ("contrast_down", "octmnist", [0.6, 0.4, 0.3, 0.2, 0.15]),
        ("gamma_up", "organcmnist", [1.3, 1.4, 1.6, 1.8, 2.0]),
        ("gamma_down", "chestmnist", [0.9, 0.8, 0.7, 0.6, 0.4]),
        ("saturation_up", "bloodmnist", [0.05, 0.10, 0.15, 0.17, 0.20]),
        ("black_corner", "dermamnist", [1.10, 1.05, 1.00, 0.90, 0.95]),
    ],
)
def test_medmnist_c(short: str, data: str, levels: list[float]) -> None:
    assert first(short, f"medmnist-c/{data}") == pytest.approx(levels)


def test_the_kernels_of_medmnist_c_become_the_deviations_that_torchvision_takes() -> None:
    kernels = [11, 13, 15, 17, 21]
    sigmas = [0.3 * ((kernel - 1) * 0.5 - 1) + 0.8 for kernel in kernels]
    assert first("gaussian_blur", "medmnist-c/organamnist") == pytest.approx(sigmas)


def test_medmnist_c_brightness_is_that_of_pillow(scene: np.ndarray) -> None:
    from PIL import Image, ImageEnhance

    picture = Image.fromarray(scene.transpose(1, 2, 0))
    expected = np.asarray(ImageEnhance.Brightness(picture).enhance(1.3)).transpose(2, 0, 1)
    out = degraded(scene, "general/brightness_up@medmnist-c/dermamnist:3")
    assert np.abs(out.astype(int) - expected.astype(int)).max() <= 1


def test_a_profile_that_differs_from_the_original_says_how() -> None:
    for name in GENERAL:
        for profile in degradations.get(name).profiles.values():
            assert not profile.approximate or len(profile.source) > 60, (name, profile.source)


# --- docs/degradations.md


def test_the_documented_catalogue_is_that_of_the_registry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert catalogue.main(["--check"]) == 0, capsys.readouterr().out


def test_every_family_has_its_contact_sheet() -> None:
    folder = catalogue.DOCUMENT.parent / "images"
    for family in catalogue.families():
        assert (folder / f"degradations-{family}.jpg").is_file(), family


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_documented_examples_run() -> None:
    names: dict[str, object] = {}
    for block in blocks("python")[:-1]:
        exec(block, names)
    assert torch.equal(
        names["again"],
        degradations.apply(
            names["pixels"][:1], "general/motion_blur:2", domain="display",
            ids=["study1/img7"], seed=0,
        ),
    )  # fmt: skip


def test_the_documented_degradation_can_be_added_as_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (added,) = tomllib.loads(blocks("toml")[0]).items()
    monkeypatch.setitem(degradation._table("general"), *added)
    monkeypatch.setattr(degradation, "_registry", dict(degradation._registry))
    exec(blocks("python")[-1], {})
    pixels = scenes.draw("fundus", 64)[None]
    damage = [
        float((pixels.float() - out.float()).square().mean())
        for level in range(6)
        for out in [
            degradations.apply(pixels, f"{added[0]}:{level}", domain="display", ids=["a"], seed=0)
        ]
    ]
    assert damage[0] == 0
    assert damage == sorted(set(damage))
    assert not math.isnan(damage[-1])
