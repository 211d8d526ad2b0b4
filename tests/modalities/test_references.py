"""Real files against what DCMTK, GDCM/ITK, nifti tools and ImageMagick find in them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modalities
from modalities.formats.dicom_header import parse
from modalities.formats.dicom_pixels import single
from modalities.formats.source import Source

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MMEVAL_SHARED") or REPOSITORY.parent / "shared") / "data"

pytestmark = pytest.mark.filterwarnings("ignore::modalities.ImageWarning")


def expected(name: str) -> list[dict[str, Any]]:
    """The records of the files that are there."""
    path = DATA / "expected" / f"{name}.json"
    if not path.is_file():
        return []
    records = json.loads(path.read_text())
    records = records["files"] if isinstance(records, dict) else records
    return [record for record in records if (DATA / "images" / record["file"]).is_file()]


def listed(records: list[dict[str, Any]]) -> list[Any]:
    """The records, or one case that says what is missing."""
    reason = f"needs real images: no folder {DATA} (set MMEVAL_SHARED)"
    absent = pytest.mark.skipif(not records, reason=reason)
    return records or [pytest.param({"file": "absent"}, marks=absent)]


def name(record: dict[str, Any]) -> str:
    return record["file"].encode("ascii", "replace").decode()


def sha(array: np.ndarray, dtype: str) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).astype(dtype).tobytes()).hexdigest()


def blocks(array: np.ndarray, n: int = 16) -> np.ndarray:
    """Means over an n x n grid."""
    rows = np.linspace(0, array.shape[0], n + 1).astype(int)
    columns = np.linspace(0, array.shape[1], n + 1).astype(int)
    cells = [
        [
            array[r : max(s, r + 1), c : max(d, c + 1)].mean(axis=(0, 1))
            for c, d in itertools.pairwise(columns)
        ]
        for r, s in itertools.pairwise(rows)
    ]
    return np.array(cells, dtype=float).reshape(n, n, -1)


def test_the_references_are_there(shared: Path) -> None:
    assert len(expected("dicom")) > 50
    assert len(expected("nifti")) > 5
    assert len(expected("raster")) > 35


# Where the reference itself is not the truth; each is checked in a test of its own below, or not
# at all where said so.
NOT_ITK = {
    "dicom/highdicom/seg_image_cr_binary.dcm": "ITK scales 1-bit masks to 255",
    "dicom/highdicom/seg_image_ct_binary.dcm": "ITK scales 1-bit masks to 255",
    "dicom/pydicom-data/liver.dcm": "ITK scales 1-bit masks to 255",
    "dicom/pydicom-data/liver_nonbyte_aligned.dcm": "ITK scales 1-bit masks to 255",
    "dicom/pydicom-data/mlut_18.dcm": "ITK ignores the Modality LUT",
    "dicom/pylibjpeg-data/TOSHIBA_J2K_SIZ1_PixRep0.dcm": "ITK ignores the codestream's sign",
    "xray/torchxrayvision/Fake_MONOHR1.dcm": "ITK inverts MONOCHROME1",
}


@pytest.mark.parametrize(
    "record",
    listed([r for r in expected("dicom") if "sitk" in r and r["file"] not in NOT_ITK]),
    ids=name,
)
def test_dicom_values_are_those_itk_reads(record: dict[str, Any]) -> None:
    path = DATA / "images" / record["file"]
    header = parse(Source(str(path), path=path))
    frames = [single(header, index).values for index in range(header.frames)]
    values = np.stack(frames).transpose(0, 2, 3, 1) if header.colour else np.stack(frames)[:, 0]
    theirs = record["sitk"]
    assert values.shape == tuple(theirs["shape"])
    if float(theirs["max"]).is_integer():
        assert sha(np.rint(values), "<i4") == theirs["sha256_i32le"]
    else:
        found = (values.min(), values.max(), values.mean())
        np.testing.assert_allclose(found, [theirs[k] for k in ("min", "max", "mean")], rtol=1e-6)


@pytest.mark.parametrize(
    "record",
    listed([r for r in expected("dicom") if "dcmtk_render" in r and "TOSHIBA" not in r["file"]]),
    ids=name,
)
def test_dicom_renders_as_dcmtk_shows_it(record: dict[str, Any]) -> None:
    theirs = record["dcmtk_render"]
    path = DATA / "images" / record["file"]
    raw = single(parse(Source(str(path), path=path)), 0)
    choices = {"window": "minmax"} if "+Wm" in theirs["tool"] else {}
    image = modalities.get(raw.kind or "photo").image(raw, choices, "")
    shown = image.render()
    # DCMTK truncates where we round: up to one step.
    grid = np.array(theirs["grid16"], dtype=float).reshape(16, 16, -1)
    assert np.abs(blocks(shown) - grid).max() <= 1.01
    if theirs["mode"] != "L":
        assert (
            sha(shown, "<i4") == theirs["sha256_i32le"] or abs(shown.mean() - theirs["mean"]) < 0.01
        )


def test_monochrome1_is_the_negative_of_the_same_pixels(shared: Path) -> None:
    from pydicom import dcmread

    path = shared / "data/images/xray/torchxrayvision/Fake_MONOHR1.dcm"
    ds = dcmread(path)
    ds.PhotometricInterpretation = "MONOCHROME2"
    header = parse(Source(str(path), path=path))
    stored = single(header, 0).values
    shown = modalities.load(path).render()[..., 0]
    np.testing.assert_array_equal(shown, 255 - stored[0])


def test_a_codestream_is_believed_about_its_sign(shared: Path) -> None:
    folder = shared / "data/images/dicom/pylibjpeg-data"
    one, other = (
        modalities.load(folder / f"TOSHIBA_J2K_SIZ{a}_PixRep{b}.dcm") for a, b in ((0, 1), (1, 0))
    )
    assert one.pixels.equal(other.pixels)  # the same slice, its sign written two ways


def test_a_modality_lut_gives_what_dcmtk_shows(shared: Path) -> None:
    image = modalities.load(shared / "data/images/dicom/pydicom-data/mlut_18.dcm", window="minmax")
    record = next(r for r in expected("dicom") if r["file"].endswith("mlut_18.dcm"))
    assert abs(image.render().mean() - record["dcmtk_render"]["mean"]) < 0.5


def test_float_maps_keep_their_values(shared: Path) -> None:
    folder = shared / "data/images/dicom/pydicom-data"
    paths = [folder / f"parametric_map_{kind}.dcm" for kind in ("float", "double_float")]
    one, other = (single(parse(Source(str(path), path=path)), 0).values for path in paths)
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one)) > 100


def test_a_real_series_is_sorted_and_its_gaps_told(shared: Path) -> None:
    record = json.loads((shared / "data/expected/ct_series.json").read_text())["ct/dcm_qa_ct_GE"]
    folder = shared / "data/images/ct/dcm_qa_ct_GE"
    with pytest.warns(modalities.ImageWarning, match=r"gaps differ: 1\.1, 7\.0"):
        volume = modalities.load(folder)
    by_file = {item["file"]: item for item in record["slices"]}
    means = [by_file[file]["hu_mean"] for file in record["order_foot_to_head"]]
    found = volume.pixels[0].double().mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(found, means, rtol=1e-6)
    extremes = [(item["hu_min"], item["hu_max"]) for item in record["slices"]]
    assert volume.pixels.min() == min(low for low, _ in extremes)
    assert volume.pixels.max() == max(high for _, high in extremes)


@pytest.mark.parametrize("record", listed([r for r in expected("nifti") if "ras" in r]), ids=name)
def test_nifti_volumes_are_those_itk_reorients(record: dict[str, Any]) -> None:
    volume = modalities.load(DATA / "images" / record["file"], "mri")
    # Displayed (up, back, left) to RAS (right, front, up).
    ras = volume.pixels.numpy()[0].transpose(2, 1, 0)[::-1, ::-1]
    assert ras.shape == tuple(record["ras"]["shape"])
    assert sha(ras, "<f4") == record["ras"]["sha256_f32le"]
    assert volume.spacing_mm == pytest.approx(tuple(record["ras"]["spacing"])[::-1], rel=1e-5)


# ImageMagick turns tiled TIFFs twice: libtiff's reader has already done half of it.
NOT_MAGICK = ("test_orient4.tif", "test_orient7.tif")


@pytest.mark.parametrize(
    "record",
    listed([r for r in expected("raster") if not r["file"].endswith(NOT_MAGICK)]),
    ids=name,
)
def test_pictures_render_as_imagemagick_shows_them(record: dict[str, Any]) -> None:
    choices = {"bits": 16} if "12in16" in record["file"] else {}
    shown = modalities.load(DATA / "images" / record["file"], "photo", **choices).render()
    assert list(shown.shape[1::-1]) == record["oriented_wh"]
    if hashlib.sha256(shown.tobytes()).hexdigest() != record["rgb8_sha256"]:
        # 16 bit and CMYK: truncation or rounding of the last step.
        assert record["file"].split("/")[-1].startswith(("cr_1", "fundus_cmyk"))
        grid = np.array(record["grid16"], dtype=float).reshape(16, 16, -1)
        assert np.abs(blocks(shown) - grid).max() <= 1.01


@pytest.mark.parametrize("file", NOT_MAGICK)
def test_turned_tiled_tiffs_stand_as_pillow_turns_them(shared: Path, file: str) -> None:
    from PIL import Image, ImageOps

    path = shared / "data/images/pathology/large_image" / file
    with Image.open(path) as picture:
        reference = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    np.testing.assert_array_equal(modalities.load(path, "photo").render(), reference)
