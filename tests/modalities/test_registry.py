"""Modalities by name, sources, and images as objects."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

import modalities
from modalities import ImageError, ImageWarning, MedicalImage, Modality, RawImage, Window


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(path)
    return path


def test_importing_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, modalities; modalities.names(); "
        "print([m for m in ('torch','numpy','pydicom','nibabel','cv2','PIL','tifffile') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_modality_of_the_design_is_there_with_a_description() -> None:
    names = modalities.names()
    assert list(names)[:5] == ["xray", "ct", "mri", "fundus", "oct"]
    assert list(names)[5:] == ["pathology", "ultrasound", "endoscopy", "dermoscopy", "photo"]
    assert all(names.values())


def test_an_unknown_modality_is_refused_with_the_nearest(picture: Path) -> None:
    with pytest.raises(ImageError, match="did you mean 'fundus'"):
        modalities.load(picture, "fundos")


def test_an_unknown_choice_is_refused_with_the_valid_ones(picture: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.png: slice: .*valid are frame, bits, window"):
        modalities.load(picture, "photo", slice=3)


def test_a_new_modality_is_one_decorated_function(tmp_path: Path) -> None:
    # A radiometric thermogram: hundredths of a kelvin, stored as NIfTI by some cameras' software.
    @modalities.register(
        "thermography",
        description="infrared thermography, skin temperature in degrees Celsius",
        domain="linear",
        windows={"skin": Window(33, 10, "linear_exact", "skin")},
        default_window="skin",
    )
    def thermography(raw: RawImage) -> RawImage:
        raw.values = raw.values / 100 - 273.15
        return raw

    try:
        path = tmp_path / "face.nii"
        kelvin = np.full((4, 5, 1), 30615, np.int16)  # 33 degrees
        nib.save(nib.Nifti1Image(kelvin, np.eye(4)), path)
        with pytest.warns(ImageWarning, match="every voxel"):
            image = modalities.load(path, "thermography")
        assert (image.domain, image.modality) == ("linear", "thermography")
        assert image.pixels[0, 0, 0].item() == pytest.approx(33.0, abs=1e-3)
        assert image.render()[0, 0].tolist() == [128, 128, 128]
        assert image.provenance["choices"]["window"] == "skin 33/10 linear_exact (default)"
        assert "thermography" in modalities.names()
    finally:
        modalities.unregister("thermography")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already registered"):
        modalities.register(Modality("ct", "another"))


def test_the_fingerprint_is_the_files_sha256(picture: Path) -> None:
    expected = hashlib.sha256(picture.read_bytes()).hexdigest()
    assert modalities.fingerprint(picture) == expected
    assert modalities.fingerprint(picture.read_bytes()) == expected
    assert modalities.load(picture, "photo").provenance["sha256"] == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.png", "no such file"),
        ("https://example.org/a.png", "not fetched"),
        ([], "empty"),
        (42, "expected a path"),
        ([b"bytes"], "list of paths"),
    ],
)
def test_what_is_no_source_is_refused(source: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        modalities.load(source)
    with pytest.raises(ImageError, match=message):
        modalities.fingerprint(source)


def test_a_folder_without_dicom_is_refused(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(ImageError, match="no DICOM files"):
        modalities.load(tmp_path)


def test_pictures_in_a_list_are_no_series(picture: Path) -> None:
    with pytest.raises(ImageError, match="one by one"):
        modalities.load([picture, picture])


def test_a_picture_of_unknown_kind_is_a_photo_and_says_so(picture: Path) -> None:
    with pytest.warns(ImageWarning, match="taken as photo"):
        assert modalities.load(picture).modality == "photo"


def test_provenance_is_plain_json(picture: Path) -> None:
    provenance = modalities.load(picture, "xray", window=(100, 50)).provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["choices"] == {
        "modality": "xray",
        "window": "100/50 (asked)",
        "domain": "none (default)",
        "crop": "none (default)",
    }
    assert provenance["format"] == "png"


def test_rendering_reduces_and_never_enlarges(picture: Path) -> None:
    image = modalities.load(picture, "photo")
    assert image.render().shape == (10, 20, 3)
    assert image.render(8).shape == (4, 8, 3)
    assert image.render(400).shape == (10, 20, 3)


def test_rendering_rounds() -> None:
    # 0.5 / 255 below a step is the step below, above it the step above: truncation would differ.
    values = torch.tensor([[[99.4, 99.6, 100.4]]]) / 255
    assert MedicalImage(values, "display", "photo").render()[0, :, 0].tolist() == [99, 100, 100]


def test_rendering_clips_what_a_degradation_pushed_out() -> None:
    image = MedicalImage(torch.tensor([[[-0.5, 1.5]]]), "display", "photo")
    assert image.render()[0, :, 0].tolist() == [0, 255]


def test_with_pixels_keeps_everything_else() -> None:
    window = Window(40, 80)
    image = MedicalImage(torch.zeros(1, 2, 2), "hu", "ct", (1.0, 1.0), window, {"a": 1})
    other = image.with_pixels(torch.ones(1, 2, 2))
    assert other.pixels.sum() == 4
    assert (other.domain, other.window, other.provenance) == ("hu", window, {"a": 1})


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(2, 4, 4)],
)
def test_an_image_of_another_layout_is_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="pixels"):
        MedicalImage(pixels, "display", "photo")
