"""Pictures of a volume: slices, montages, projections, and the slice a mask is largest in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import modalities
from modalities import ImageError, MedicalImage, RawImage, Window
from modalities.formats.dicom_header import Header
from modalities.formats.dicom_pixels import single
from modalities.volume import montage

Writer = Callable[..., Path]

# Inferior to superior, anterior to posterior, patient right to left.
VOLUME = np.random.default_rng(7).normal(0, 300, (10, 6, 4)).astype(np.float32)


def write_nifti(path: Path, volume: np.ndarray = VOLUME) -> Path:
    """Voxels of 2 x 1 x 3 mm (W, H, D)."""
    lps = np.diag([-2.0, -1.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), lps), path)  # type: ignore[no-untyped-call]
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "v.nii.gz")


def test_equally_spaced_slices_are_the_middles_of_equal_parts(file: Path) -> None:
    image = modalities.load(file, "mri", slices=5)
    assert image.provenance["choices"]["slice"] == "1,3,5,7,9 of 10 (asked, equally spaced)"
    assert image.provenance["choices"]["montage"] == "2x3 (default)"
    assert tuple(image.pixels.shape) == (1, 2 * 6, 3 * 4)
    assert image.spacing_mm == (1.0, 2.0)
    tiles = image.pixels.numpy()[0].reshape(2, 6, 3, 4).transpose(0, 2, 1, 3).reshape(6, 6, 4)
    np.testing.assert_array_equal(tiles[:5], VOLUME[1::2])
    np.testing.assert_array_equal(tiles[5], np.full((6, 4), VOLUME.min()))


def test_a_grid_of_planes_is_filled_in_reading_order(file: Path) -> None:
    image = modalities.load(file, "mri", montage=[1, 2], plane="sagittal")
    # Anterior at image left, superior on top: D reversed over H.
    expected = [VOLUME[::-1, :, 1], VOLUME[::-1, :, 3]]
    np.testing.assert_array_equal(image.pixels.numpy()[0], np.hstack(expected))


@given(depth=st.integers(1, 40), data=st.data())
def test_a_montage_shows_every_part_once_in_order(depth: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, depth))
    levels = torch.arange(depth, dtype=torch.float32).view(1, depth, 1, 1)
    image = montage(MedicalImage(levels, "display", "mri"), count, (1, count), "axial")
    shown = image.pixels.flatten().tolist()
    assert len(set(shown)) == count
    assert [int((level + 0.5) * count // depth) for level in shown] == list(range(count))


def test_a_projection_keeps_the_largest_value_along_its_plane(file: Path) -> None:
    image = modalities.load(file, "mri", mip=True)
    np.testing.assert_array_equal(image.pixels.numpy()[0], VOLUME.max(axis=0))
    assert image.provenance["choices"]["mip"] == "maximum, all (asked)"
    coronal = modalities.load(file, "mri", mip=True, plane="coronal")
    np.testing.assert_array_equal(coronal.pixels.numpy()[0], VOLUME.max(axis=1)[::-1])
    assert coronal.spacing_mm == (3.0, 2.0)


@pytest.mark.parametrize(
    ("thickness", "centre", "first", "last"),
    [(9, 4, 3, 5), (3, 4, 4, 4), (12, 4, 3, 6), (0.1, 4, 4, 4), (15, 0, 0, 2), (900, 4, 0, 9)],
)
def test_a_slab_is_so_thick_in_millimetres(
    file: Path, thickness: float, centre: int, first: int, last: int
) -> None:
    image = modalities.load(file, "mri", mip=thickness, slice=centre)
    np.testing.assert_array_equal(image.pixels.numpy()[0], VOLUME[first : last + 1].max(axis=0))
    assert image.provenance["choices"]["slice"] == f"{first}..{last} of 10 (asked)"
    assert image.provenance["choices"]["mip"] == f"maximum, {thickness:g} mm (asked)"


def test_the_slice_is_where_a_mask_is_largest(file: Path, tmp_path: Path) -> None:
    mask = np.zeros(VOLUME.shape, np.float32)
    mask[2, :2, :2], mask[7, :3, :3] = 1, 1
    path = write_nifti(tmp_path / "mask.nii", mask)
    image = modalities.load(file, "mri", slice="max-area", mask=path)
    np.testing.assert_array_equal(image.pixels.numpy()[0], VOLUME[7])
    said = image.provenance["choices"]["slice"]
    assert said == "7 of 10 (asked, largest area of the mask)"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"slices": 11}, r"v\.nii\.gz: slices: expected 1\.\.10"),
        ({"slices": True}, "slices: expected"),
        ({"slices": 5, "montage": (2, 2)}, "montage: 5 slices do not fit into 2x2"),
        ({"montage": 4}, r"montage: expected \(rows, columns\)"),
        ({"slices": 3, "slice": 2}, "leave slice= and mip= out"),
        ({"mip": -2}, "mip: expected true or a thickness"),
        ({"mip": "thick"}, "mip: expected true or a thickness"),
        ({"mip": 5, "slice": 10}, r"slice: 10 is outside 0\.\.9"),
        ({"slice": "max-area"}, "needs mask="),
        ({"slice": 2, "mask": "m.nii"}, "mask: is for slice='max-area'"),
        ({"slices": 2, "plane": "oblique"}, "plane: expected one of axial, coronal, sagittal"),
        ({"crop": "border", "slice": 2}, "crop: no such choice for mri, only for"),
    ],
)
def test_a_choice_that_cannot_be_met_is_refused(
    file: Path, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        modalities.load(file, "mri", **choices)


def test_a_mask_of_another_grid_or_nothing_in_it_is_refused(file: Path, tmp_path: Path) -> None:
    other = write_nifti(tmp_path / "other.nii", VOLUME[:9])
    with pytest.raises(ImageError, match=r"mask: .*resample"):
        modalities.load(file, "mri", slice="max-area", mask=other)
    empty = write_nifti(tmp_path / "empty.nii", np.zeros_like(VOLUME))
    with pytest.raises(ImageError, match="mask: is empty"):
        modalities.load(file, "mri", slice="max-area", mask=empty)


def test_an_unfilled_cell_is_black_for_an_inverted_window_too() -> None:
    levels = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)
    window = Window(1, 2, "linear_exact", inverted=True)
    image = montage(MedicalImage(levels, "linear", "mri", None, window), 3, (2, 2), "axial")
    assert image.to_display().pixels[0, 1, 1] == 0


def _series(write_dicom: Writer, down: bool, **tags: Any) -> list[Path]:
    """Five axial slices; with `down` their normal points to the feet."""
    rng = np.random.default_rng(3)
    return [
        write_dicom(
            f"{z}.dcm",
            rng.integers(-1000, 1000, (4, 6)).astype(np.int16),
            **{
                "Modality": "CT",
                "RescaleSlope": 1,
                "RescaleIntercept": 0,
                "SeriesInstanceUID": "1.2.3",
                "PixelSpacing": [0.5, 0.25],
                "ImageOrientationPatient": [1, 0, 0, 0, -1 if down else 1, 0],
                "ImagePositionPatient": [0, 0, 10 * z],
                "PixelPaddingValue": -1000,
                **tags,
            },
        )
        for z in range(5)
    ]


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(
    ("tags", "choices", "decoded"),
    [
        ({}, {}, 1),
        ({"WindowCenter": 40, "WindowWidth": 400}, {}, 1),
        ({}, {"window": "lung"}, 1),
        ({}, {"window": "minmax"}, 5),
        ({}, {"window": "percentile"}, 5),
        ({"Modality": "MR"}, {}, 5),
        ({"Modality": "MR"}, {"modality": "ct"}, 5),
        ({"RescaleType": "US"}, {}, 5),
        ({}, {"plane": "axial"}, 1),
    ],
)
def test_one_slice_of_a_series_is_decoded_alone_and_is_the_same(
    write_dicom: Writer,
    monkeypatch: pytest.MonkeyPatch,
    down: bool,
    tags: dict[str, Any],
    choices: dict[str, Any],
    decoded: int,
) -> None:
    files = _series(write_dicom, down, **tags)
    calls = []

    def counted(header: Header, index: int, **how: bool) -> RawImage:
        calls.append(index)
        return single(header, index, **how)

    monkeypatch.setattr("modalities.formats.dicom.single", counted)
    for choice in (0, 1, "middle", 1.0):
        calls.clear()
        fast = modalities.load(files, slice=choice, **choices)
        assert len(calls) == decoded
        whole = {key: value for key, value in choices.items() if key != "plane"}
        slow = modalities.load(files, **whole).to_slice(choice)
        assert fast.pixels.equal(slow.pixels)
        assert (fast.window, fast.spacing_mm) == (slow.window, slow.spacing_mm)
        np.testing.assert_array_equal(fast.render(), slow.render())
        assert fast.provenance["slices"] == slow.provenance["slices"] == 5
        assert fast.provenance["warnings"] == slow.provenance["warnings"]


def test_a_slice_that_is_not_there_is_refused_before_decoding(write_dicom: Writer) -> None:
    with pytest.raises(ImageError, match=r"slice: 5 is outside 0\.\.4"):
        modalities.load(_series(write_dicom, False), slice=5)


def test_a_coronal_series_is_read_whole_for_an_axial_slice(write_dicom: Writer) -> None:
    files = [
        write_dicom(
            f"{y}.dcm",
            np.full((4, 6), y, np.int16),
            Modality="CT",
            SeriesInstanceUID="1.2.3",
            PixelSpacing=[0.5, 0.25],
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            ImagePositionPatient=[0, 10 * y, 0],
        )
        for y in range(5)
    ]
    image = modalities.load(files, slice=3)
    np.testing.assert_array_equal(image.pixels[0], np.arange(5)[:, None].repeat(6, 1))
