"""NIfTI: orientation, volumes, scaling, and files that lie."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

import modalities
from modalities import ImageError, ImageWarning

SHAPE = (3, 4, 5)
RAS = np.diag([2.0, 3.0, 4.0, 1.0])


def ras_volume() -> np.ndarray:
    """Every voxel has a value of its own; indices run to right, anterior, superior."""
    return np.arange(60, dtype=np.int16).reshape(SHAPE)


def save(path: Path, data: np.ndarray, affine: np.ndarray = RAS, **header: float) -> Path:
    image = nib.Nifti1Image(data, affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "SPL", "IAR", "PIR"])
def test_every_orientation_of_one_head_gives_the_same_volume(tmp_path: Path, codes: str) -> None:
    image = nib.Nifti1Image(ras_volume(), RAS)
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    nib.save(image.as_reoriented(change), tmp_path / "head.nii")
    assert inv_ornt_aff(change, SHAPE).shape == (4, 4)
    volume = modalities.load(tmp_path / "head.nii", "mri")
    # Displayed: slices upwards, rows from anterior, columns from patient right.
    expected = ras_volume()[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(volume.pixels.numpy()[0], expected)
    assert volume.spacing_mm == (4.0, 3.0, 2.0)
    assert volume.provenance["orientation"] == codes


def test_a_slice_shows_patient_right_at_image_left(tmp_path: Path) -> None:
    data = np.zeros((9, 8, 3), np.float32)
    data[8, 7, 1] = 100.0  # most right, most anterior
    image = modalities.load(save(tmp_path / "a.nii", data), "mri", slice="middle", window="minmax")
    assert image.provenance["choices"]["slice"] == "1 of 3 (asked)"
    assert image.render()[0, 0].tolist() == [255, 255, 255]


def test_scaling_is_applied(tmp_path: Path) -> None:
    # Floats stored as scaled integers: nibabel chooses slope and intercept.
    image = nib.Nifti1Image(ras_volume() * 0.37 - 3, RAS)
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii.gz")
    pixels = modalities.load(tmp_path / "a.nii.gz", "mri").pixels.numpy()[0]
    expected = (ras_volume() * 0.37 - 3)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(pixels, expected, atol=1e-3)


def test_a_ct_is_hounsfield_units_with_its_presets(tmp_path: Path) -> None:
    data = np.linspace(-1000, 1000, 60).reshape(SHAPE).astype(np.float32)
    image = modalities.load(save(tmp_path / "a.nii", data), "ct", window="brain", slice=0)
    assert (image.domain, image.window.describe()) == ("hu", "brain 40/80")


def test_a_ct_without_air_is_questioned(tmp_path: Path) -> None:
    with pytest.warns(ImageWarning, match="Hounsfield"):
        modalities.load(save(tmp_path / "a.nii", ras_volume()), "ct")


def test_a_volume_of_a_time_series_is_chosen(tmp_path: Path) -> None:
    data = np.stack([ras_volume(), ras_volume() + 1000], axis=-1)
    path = save(tmp_path / "a.nii.gz", data)
    assert modalities.load(path, "mri", volume=1).pixels.min() == 1000
    with pytest.warns(ImageWarning, match="2 volumes"):
        assert modalities.load(path, "mri").pixels.min() == 0
    with pytest.raises(ImageError, match=r"a\.nii\.gz: volume: 2 is outside 0\.\.1"):
        modalities.load(path, "mri", volume=2)


def test_a_file_without_orientation_warns_that_sides_may_be_swapped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ras_volume(), None, sform_code=0, qform_code=0)
    with pytest.warns(ImageWarning, match="left and right may be swapped"):
        image = modalities.load(path, "mri")
    assert "assumed" in image.provenance["orientation"]


def test_voxels_that_are_no_numbers_become_background_and_are_counted(tmp_path: Path) -> None:
    data = ras_volume().astype(np.float32) + 5
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    with pytest.warns(ImageWarning, match="2 voxels are not finite"):
        pixels = modalities.load(save(tmp_path / "a.nii", data), "mri").pixels
    assert pixels.isfinite().all()
    assert pixels.min() == 6


def test_a_constant_volume_renders_black(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.full(SHAPE, 7, np.int16))
    with pytest.warns(ImageWarning, match="every voxel"):
        image = modalities.load(path, "mri", slice=0)
    assert not image.render().any()


def test_colour_volumes_are_display_images(tmp_path: Path) -> None:
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 255
    image = modalities.load(save(tmp_path / "a.nii", rgb), "photo", slice=1)
    assert image.render()[0, 0].tolist() == [0, 255, 0]


def test_a_flipped_bit_in_a_compressed_file_is_noticed(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9999, SHAPE).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", data)
    packed = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    packed[-20] ^= 1  # a voxel; the stream still unpacks, only its checksum is wrong
    path.write_bytes(packed)
    with pytest.raises(ImageError, match="gzip"):
        modalities.load(path, "mri")


def test_a_header_that_declares_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ras_volume())
    content = bytearray(path.read_bytes())
    content[40:48] = struct.pack("<4h", 3, 500, 500, 500)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.nii: dim: the header declares 250000\d\d\d bytes"):
        modalities.load(path, "mri")


@pytest.mark.parametrize("keep", [3, 100, 360, 400])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = save(tmp_path / "a.nii", ras_volume())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError, match=r"a\.nii"):
        modalities.load(path, "mri")


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="magnitude"):
        modalities.load(save(tmp_path / "a.nii", ras_volume().astype(np.complex64)), "mri")


def test_header_and_data_in_two_files_are_one_image(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(ras_volume(), RAS), tmp_path / "a.hdr")
    by_header = modalities.load(tmp_path / "a.hdr", "mri")
    by_data = modalities.load(tmp_path / "a.img", "mri")
    assert by_header.pixels.equal(by_data.pixels)
    assert by_header.provenance["sha256"] == by_data.provenance["sha256"]
