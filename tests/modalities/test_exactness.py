"""What was made fast gives what the plain way gives, bit for bit."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import modalities
from modalities.registry import _looked_up, _percentiles


@given(hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)))
def test_percentiles_are_those_of_numpy(values: np.ndarray) -> None:
    assert _percentiles(values, 0.5, 99.5) == tuple(np.percentile(values, (0.5, 99.5)))


@pytest.mark.parametrize("order", ["as decoded", "upside down", "on its side"])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_looked_up_in_any_order_in_memory(channels: int, order: str) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (301, 517, channels), dtype=np.uint8)
    planes = stored.transpose(2, 0, 1)
    if order == "upside down":
        planes = planes[:, ::-1]
    if order == "on its side":
        planes = planes.transpose(0, 2, 1)
    table = np.linspace(-1, 1, 256, dtype=np.float32)
    assert np.array_equal(_looked_up(planes, table), table[planes])


def test_a_large_picture_is_its_bytes_over_255(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png")
    image = modalities.load(tmp_path / "a.png", "photo")
    assert np.array_equal(image.pixels.numpy(), stored.transpose(2, 0, 1) / np.float32(255))


def test_the_digest_of_a_file_hashed_aside_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert path.stat().st_size > 1 << 20
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert modalities.load(path, "photo").provenance["sha256"] == expected


@pytest.mark.parametrize("cut", [352, 1000])
def test_a_volume_packed_in_two_members_is_the_same(tmp_path: Path, cut: int) -> None:
    voxels = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    whole = tmp_path / "whole.nii"
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), whole)  # type: ignore[attr-defined]
    data = whole.read_bytes()
    packed = tmp_path / "packed.nii.gz"
    packed.write_bytes(gzip.compress(data[:cut]) + gzip.compress(data[cut:]))
    pixels = [modalities.load(path, "mri").pixels.numpy() for path in (whole, packed)]
    assert np.array_equal(*pixels)


def test_a_tiff_with_alpha_is_the_png_with_alpha(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unassalpha"])
    png, tif = (modalities.load(tmp_path / name, "photo").render() for name in ("a.png", "a.tif"))
    assert np.array_equal(png, tif)
