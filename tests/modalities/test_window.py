"""Windows: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, by hand."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from modalities import Window


def shown(window: Window, *values: float) -> list[float]:
    return window.apply(torch.tensor(values)).tolist()


def test_a_linear_window_has_the_standards_half_unit_offset() -> None:
    # The standard's own note: c=2048, w=4096 maps 0..4095 onto the full range.
    window = Window(2048, 4096)
    assert shown(window, 0, 4095) == [0.0, 1.0]
    assert shown(window, -1, 4096) == [0.0, 1.0]


def test_a_linear_window_of_width_one_is_a_threshold() -> None:
    assert shown(Window(0, 1), -1, 0) == [0.0, 1.0]


def test_linear_exact_has_no_offset() -> None:
    assert shown(Window(0, 100, "linear_exact"), -50, -25, 0, 50) == [0.0, 0.25, 0.5, 1.0]


def test_a_sigmoid_window_is_a_half_at_its_centre() -> None:
    window = Window(40, 80, "sigmoid")
    expected = 1 / (1 + math.exp(-4 * 20 / 80))
    assert shown(window, 40, 60) == pytest.approx([0.5, expected])


def test_an_inverted_window_is_the_negative() -> None:
    values = torch.linspace(-200, 200, 33)
    plain, inverted = Window(40, 80).apply(values), Window(40, 80, inverted=True).apply(values)
    torch.testing.assert_close(inverted, 1 - plain)


def test_a_voi_lut_is_looked_up_and_held_at_its_ends() -> None:
    window = Window(0, 1, lut=(0.0, 0.25, 1.0), lut_first=10)
    assert shown(window, 0, 10, 11, 12, 99) == [0.0, 0.0, 0.25, 1.0, 1.0]


@pytest.mark.parametrize(("width", "function"), [(0, "linear"), (0.5, "linear"), (-4, "sigmoid")])
def test_an_impossible_width_is_refused(width: float, function: str) -> None:
    with pytest.raises(ValueError, match="width"):
        Window(40, width, function)  # type: ignore[arg-type]


@given(
    center=st.floats(-1000, 1000, width=32),
    width=st.floats(2, 4000, width=32),
    function=st.sampled_from(["linear", "linear_exact", "sigmoid"]),
)
def test_windows_agree_with_pydicom(center: float, width: float, function: str) -> None:
    ds = Dataset()
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 16, 1
    ds.WindowCenter, ds.WindowWidth = f"{center:.6g}", f"{width:.6g}"
    ds.VOILUTFunction = function.upper()
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    values = np.linspace(-2000, 2000, 101)
    theirs = apply_windowing(values, ds)
    window = Window(float(ds.WindowCenter), float(ds.WindowWidth), function)  # type: ignore[arg-type]
    ours = window.apply(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(ours, (theirs + 32768) / 65535, atol=1e-5)
