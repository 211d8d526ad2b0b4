"""The registry, spec strings, severities, explanations, and what apply refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import degradations
from degradations import Curve, DegradationError, Step
from degradations.degradation import register

GRAY = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
IDS = ["a", "b"]


def degrade(
    pixels: torch.Tensor = GRAY, spec: str | Sequence[str] = "general/contrast_down:3", **how: Any
) -> torch.Tensor:
    settings = {"domain": "display", "ids": IDS[: len(pixels)], "seed": 0} | how
    return degradations.apply(pixels, spec, **settings)


def test_listing_and_parsing_load_no_heavy_library() -> None:
    program = (
        "import sys, degradations as d; d.names(); d.parse('general/jpeg:2'); "
        "d.explain('ct/low_dose:3', (8, 8)); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_catalogue() -> None:
    assert {
        "ct/low_dose",
        "general/contrast_down",
        "general/gaussian_blur",
        "general/gaussian_noise",
        "general/jpeg",
        "general/motion_blur",
        "pathology/stain",
    } <= set(degradations.names())


@pytest.mark.parametrize("name", degradations.names())
def test_every_entry_is_complete(name: str) -> None:
    entry = degradations.get(name)
    assert entry.name == name
    assert entry.description.endswith((".", "view."))
    assert entry.domain in degradations.DOMAINS
    assert entry.source
    assert entry.version >= 1
    assert entry.cause
    assert entry.formula
    for title, profile in [("", entry.profile()), *entry.profiles.items()]:
        assert profile.source
        assert profile.curves
        for curve in profile.curves.values():
            assert curve.unit
            assert len(curve.values) == profile.levels
            if not title:  # ours; what others published may go back and forth
                rising = [curve.identity, *curve.values]
                assert rising in (sorted(rising), sorted(rising, reverse=True))
        assert any(len({curve.identity, *curve.values}) > 1 for curve in profile.curves.values())
    assert entry.profile().levels == 5
    prefix = name.partition("/")[0]
    assert entry.modalities is None if prefix == "general" else prefix in entry.modalities


def test_a_spec_is_a_chain_of_steps() -> None:
    spec = "ct/low_dose:3+general/gaussian_noise@imagenet-c:2.5"
    assert degradations.parse(spec) == (
        Step("ct/low_dose", 3.0),
        Step("general/gaussian_noise", 2.5, "imagenet-c"),
    )


@given(
    st.lists(
        st.builds(
            Step,
            st.sampled_from(degradations.names()),
            st.integers(0, 500).map(lambda hundredths: hundredths / 100),
        ),
        min_size=1,
    )
)
def test_steps_write_the_spec_that_they_were_read_from(steps: list[Step]) -> None:
    assert degradations.parse("+".join(map(str, steps))) == tuple(steps)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("general/gausian_noise:3", "did you mean 'general/gaussian_noise'"),
        ("gaussian/noise:3", "unknown degradation"),
        ("xray/gaussian_blur:3", "did you mean 'general/gaussian_blur'"),
        ("general/gaussian_noise", "write name:severity"),
        ("general/gaussian_noise:", "write name:severity"),
        ("general/gaussian_noise:-1", "write name:severity"),
        ("general/gaussian_noise:nan", "write name:severity"),
        ("general/gaussian_noise:0.00001", "write name:severity"),
        ("", "write name:severity"),
        ("general/jpeg:1++general/jpeg:1", "write name:severity"),
        ("general/gaussian_noise:6", "between 0 and 5, got 6"),
        ("general/gaussian_noise@medq-deg:3", "between 0 and 2, got 3"),
        ("general/gaussian_noise@medqdeg:2", "did you mean 'medq-deg'"),
        ("general/block_loss@imagenet-c:2", "has no profile"),
    ],
)
def test_a_bad_spec_says_what_to_write(spec: str, message: str) -> None:
    with pytest.raises(DegradationError, match=message):
        degradations.parse(spec)


def test_get_refuses_an_unknown_name() -> None:
    with pytest.raises(DegradationError, match="did you mean 'ct/low_dose'"):
        degradations.get("ct/lowdose")


def test_a_name_is_registered_once_and_only_with_a_table() -> None:
    with pytest.raises(DegradationError, match="already registered"):
        register("general/contrast_down")(lambda image, numbers, key: image)
    with pytest.raises(DegradationError, match=r"no entry in severities/general\.toml"):
        register("general/unheard_of")(lambda image, numbers, key: image)


def test_published_levels_are_reproduced() -> None:
    noise, blur = map(degradations.get, ("general/gaussian_noise", "general/gaussian_blur"))
    levels = range(1, 6)
    assert [noise.parameters(k, "imagenet-c")["sigma"] for k in levels] == [
        0.08,
        0.12,
        0.18,
        0.26,
        0.38,
    ]
    assert [blur.parameters(k, "imagenet-c")["sigma_px"] for k in levels] == [1, 2, 3, 4, 6]
    assert [noise.parameters(k, "medq-deg")["sigma"] for k in (1, 2)] == [0.048, 0.080]
    assert [blur.parameters(k, "medq-deg")["sigma_px"] for k in (1, 2)] == [3, 7]
    assert noise.profile("medq-deg").approximate
    assert not noise.profile("imagenet-c").approximate


def test_interpolation_between_levels() -> None:
    linear = Curve(values=(2.0, 6.0), identity=0.0, unit="px")
    assert [linear.at(s) for s in (0, 0.5, 1, 1.25, 2)] == [0, 1, 2, 3, 6]
    inverse = Curve(values=(100.0, 25.0), identity=float("inf"), unit="", scale="reciprocal")
    assert [inverse.at(s) for s in (0, 0.5, 1, 2)] == [float("inf"), 200, 100, 25]
    assert inverse.at(1.5) == pytest.approx(1 / (0.5 / 100 + 0.5 / 25))


@given(st.lists(st.integers(0, 50_000), min_size=2, unique=True).map(sorted))
def test_parameters_are_monotone_in_severity(steps: list[int]) -> None:
    severities = [step / 10_000 for step in steps]
    for name in degradations.names():
        entry = degradations.get(name)
        for parameter, curve in entry.curves.items():
            values = [entry.parameters(s)[parameter] for s in severities]
            assert values == sorted(values, reverse=curve.identity > curve.values[-1])


def test_explain_tells_the_numbers_of_this_image() -> None:
    blur, motion = degradations.explain(
        "general/gaussian_blur:3+general/motion_blur:2", (3, 400, 200), id="a"
    )
    # Fractions of the longer side, which has 400 pixels.
    assert blur["numbers"] == {"sigma_px": pytest.approx(400 * blur["parameters"]["sigma"])}
    length = motion["parameters"]["length"]
    assert motion["numbers"]["length_px"] == pytest.approx(400 * length)
    assert 0 < motion["numbers"]["angle_deg"] < 180
    again = degradations.explain("general/motion_blur:2", (3, 400, 200), id="a")
    assert again[0]["numbers"] == motion["numbers"]
    undrawn = degradations.explain("general/motion_blur:2", (3, 400, 200))
    assert "angle_deg" not in undrawn[0]["numbers"]


def test_explain_is_json_at_every_severity() -> None:
    for name in degradations.names():
        for severity in (0, 0.5, 5):
            told = degradations.explain(f"{name}:{severity}", (3, 64, 64), (0.5, 0.5), id="a")
            assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_explain_tells_the_spacing_it_assumes() -> None:
    given, assumed = (
        degradations.explain("ct/low_dose:1", (64, 64), spacing)[0]["numbers"]
        for spacing in ((0.5, 0.4), None)
    )
    assert (given["row_mm"], given["column_mm"]) == (0.5, 0.4)
    # A field of view of 360 mm.
    assert (assumed["row_mm"], assumed["column_mm"]) == (5.625, 5.625)


def test_a_degradation_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        degradations.get("general/jpeg").version = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pixels", "how", "message"),
    [
        (GRAY[0], {}, r"\(B, C, H, W\)"),
        (GRAY.double(), {}, "float32 or uint8, got torch.float64"),
        ((GRAY * 255).to(torch.uint8), {"domain": "hu"}, "uint8 pixels are display values"),
        (GRAY * 255, {}, "pass uint8"),
        (GRAY - 0.5, {}, r"must lie in \[0, 1\]"),
        (GRAY.clone().fill_(float("nan")), {}, "must be finite"),
        (GRAY, {"ids": ["a"]}, "2 images need as many ids"),
        (GRAY[:1], {"ids": "a"}, "need as many ids"),
        (GRAY, {"ids": [1, 2]}, "ids must be strings"),
        (GRAY, {"spec": ["general/jpeg:1"]}, "got 2 ids and 1 specs"),
        (GRAY, {"domain": "HU"}, "unknown domain 'HU'"),
        (GRAY, {"domain": "hu"}, "works on display pixels, got hu"),
        (GRAY, {"spec": "ct/low_dose:1"}, "assume_window"),
        (GRAY, {"spec": "ct/low_dose:1", "assume_window": (40, 0)}, "positive width"),
        (GRAY, {"spec": "pathology/stain:1"}, "needs 3 channels, got 1"),
        (GRAY, {"spec": "ct/low_dose:1", "domain": "hu", "modality": "mri"}, "not for mri"),
        (GRAY, {"spacing_mm": (1.0, 0.0)}, "positive millimetres"),
        (GRAY, {"spacing_mm": (3.0, 1.0, 1.0)}, r"\(row, column\)"),
    ],
)
def test_apply_refuses_what_does_not_fit(pixels: torch.Tensor, how: dict, message: str) -> None:
    with pytest.raises(DegradationError, match=message):
        degrade(pixels, **how)


def test_a_colour_picture_is_no_ct() -> None:
    colour = torch.rand(1, 3, 16, 16)
    with pytest.raises(DegradationError, match="needs a gray image"):
        degrade(colour, "ct/low_dose:1", ids=["a"], assume_window=(40, 400))


def test_severity_zero_is_still_checked() -> None:
    with pytest.raises(DegradationError, match="not for mri"):
        degrade(GRAY, "pathology/stain:0", modality="mri")


def test_an_empty_batch_is_an_empty_result() -> None:
    assert degrade(GRAY[:0], ids=[]).shape == (0, 1, 32, 40)


def test_steps_act_in_the_order_written() -> None:
    one_way = degrade(GRAY, "general/contrast_down:5+general/gaussian_noise:2")
    by_hand = degrade(degrade(GRAY, "general/contrast_down:5"), "general/gaussian_noise:2")
    assert torch.equal(one_way, by_hand)
    assert not torch.equal(
        one_way, degrade(GRAY, "general/gaussian_noise:2+general/contrast_down:5")
    )


def test_a_degradation_used_twice_draws_twice() -> None:
    half = torch.full((1, 1, 64, 64), 0.5)
    once = degrade(half, "general/gaussian_noise:1", ids=["a"]) - half
    twice = degrade(half, "general/gaussian_noise:1+general/gaussian_noise:1", ids=["a"]) - half
    assert float(twice.std() / once.std()) == pytest.approx(2**0.5, rel=0.03)


def test_each_image_may_have_its_own_spec() -> None:
    specs = ["general/gaussian_noise:1", "general/jpeg:5"]
    both = degrade(GRAY, specs)
    for row, spec in enumerate(specs):
        alone = degrade(GRAY[row : row + 1], spec, ids=[IDS[row]])
        assert torch.equal(both[row : row + 1], alone)


def test_rising_severity_scales_one_draw_of_noise() -> None:
    half = torch.full((1, 1, 64, 64), 0.5)
    one, two = (degrade(half, f"general/gaussian_noise:{s}", ids=["a"]) - half for s in (1, 2))
    entry = degradations.get("general/gaussian_noise")
    ratio = entry.parameters(2)["sigma"] / entry.parameters(1)["sigma"]
    inside = two.abs() < 0.49
    assert torch.allclose(two[inside], ratio * one[inside], atol=1e-6)
