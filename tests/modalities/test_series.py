"""CT series: slices sorted, turned and checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

import modalities
from modalities import ImageError, ImageWarning

Writer = Callable[..., Path]

SERIES: dict[str, Any] = {
    "Modality": "CT",
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
    "SeriesInstanceUID": "1.2.3",
    "PixelSpacing": [0.5, 0.25],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
}
HEIGHTS = (30.0, -10.0, 10.0, 20.0, 0.0)


def plane(value: int) -> np.ndarray:
    """The first pixel, patient right and anterior, stands out."""
    pixels = np.full((4, 6), value, np.int16)
    pixels[0, 0] = value + 1000
    return pixels


@pytest.fixture
def series(write_dicom: Writer) -> list[Path]:
    """Five slices in no order, each with its height in mm as its value."""
    return [
        write_dicom(
            f"series/{i}.dcm",
            plane(int(z)),
            **{**SERIES, "ImagePositionPatient": [0, 0, z], "InstanceNumber": i},
        )
        for i, z in enumerate(HEIGHTS)
    ]


def test_slices_run_from_inferior_to_superior_whatever_the_order(series: list[Path]) -> None:
    volume = modalities.load(series)
    assert tuple(volume.pixels.shape) == (1, 5, 4, 6)
    assert volume.pixels[0, :, 1, 1].tolist() == sorted(HEIGHTS)
    assert volume.spacing_mm == (10.0, 0.5, 0.25)


def test_a_folder_is_its_dicom_files(series: list[Path]) -> None:
    (series[0].parent / "README.md").write_text("not a slice")
    folder, listed = modalities.load(series[0].parent), modalities.load(series)
    assert folder.pixels.equal(listed.pixels)
    assert folder.provenance["sha256"] == listed.provenance["sha256"]


def test_the_fingerprint_of_a_series_knows_no_order(series: list[Path]) -> None:
    assert modalities.fingerprint(series) == modalities.fingerprint(series[::-1])
    assert modalities.fingerprint(series) != modalities.fingerprint(series[1:])


@pytest.mark.parametrize(
    ("choice", "height"), [(0, -10), ("middle", 10), (4, 30), (0.0, -10), (1.0, 30), (0.26, 0)]
)
def test_a_slice_is_chosen_by_index_fraction_or_middle(
    series: list[Path], choice: object, height: int
) -> None:
    image = modalities.load(series, slice=choice)
    assert tuple(image.pixels.shape) == (1, 4, 6)
    assert image.pixels[0, 1, 1] == height
    assert image.spacing_mm == (0.5, 0.25)
    assert image.provenance["choices"]["slice"].endswith("of 5 (asked)")


@pytest.mark.parametrize("choice", [5, -1, 1.5, True, "centre"])
def test_a_slice_that_is_not_there_is_refused(series: list[Path], choice: object) -> None:
    with pytest.raises(ImageError, match="slice"):
        modalities.load(series, slice=choice)


def test_patient_right_is_at_image_left_and_anterior_on_top(write_dicom: Writer) -> None:
    # The same slices written with rows towards posterior-to-anterior and left-to-right.
    files = [
        write_dicom(
            f"s/{z}.dcm",
            plane(z),
            **{
                **SERIES,
                "ImageOrientationPatient": [-1, 0, 0, 0, -1, 0],
                "ImagePositionPatient": [0, 0, z],
            },
        )
        for z in (0, 5, 10)
    ]
    volume = modalities.load(files)
    # The stored first pixel is the patient's left and posterior: bottom right.
    assert volume.pixels[0, :, 3, 5].tolist() == [1000, 1005, 1010]
    assert volume.pixels[0, :, 0, 0].tolist() == [0, 5, 10]


def test_coronal_and_sagittal_planes_have_superior_on_top(series: list[Path]) -> None:
    volume = modalities.load(series)
    coronal = volume.to_slice(0, "coronal")
    assert tuple(coronal.pixels.shape) == (1, 5, 6)
    assert coronal.pixels[0, :, 1].tolist() == sorted(HEIGHTS, reverse=True)
    assert coronal.pixels[0, 0, 0] == 1030  # anterior plane: right is at image left
    assert coronal.spacing_mm == (10.0, 0.25)
    sagittal = volume.to_slice(0, "sagittal")
    assert sagittal.pixels[0, :, 0].tolist() == [h + 1000 for h in sorted(HEIGHTS, reverse=True)]
    assert sagittal.spacing_mm == (10.0, 0.5)


def test_a_missing_slice_is_reported(series: list[Path]) -> None:
    with pytest.warns(ImageWarning, match=r"10\.00 mm apart, but 1 gaps differ: 20\.0 mm"):
        modalities.load([path for path, z in zip(series, HEIGHTS, strict=True) if z != 10])


def test_two_slices_at_one_position_are_refused(series: list[Path], write_dicom: Writer) -> None:
    twin = write_dicom("twin.dcm", plane(7), **{**SERIES, "ImagePositionPatient": [0, 0, 10]})
    with pytest.raises(ImageError, match="one position"):
        modalities.load([*series, twin])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"SeriesInstanceUID": "9.9"}, "5 x series 1: 6x4; 1 x series 2: 6x4"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "ImageOrientationPatient"),
        ({"PixelSpacing": [1, 1]}, "PixelSpacing"),
    ],
)
def test_a_mixed_series_is_refused_and_what_was_found_listed(
    series: list[Path], write_dicom: Writer, change: dict[str, Any], found: str
) -> None:
    odd = write_dicom(
        "odd.dcm", plane(7), **{**SERIES, "ImagePositionPatient": [0, 0, 40], **change}
    )
    with pytest.raises(ImageError, match=found) as error:
        modalities.load([*series, odd])
    assert "9.9" not in str(error.value)  # a UID leads to the patient


def test_a_volume_is_not_rendered_before_a_slice_is_chosen(series: list[Path]) -> None:
    with pytest.raises(ImageError, match="slice="):
        modalities.load(series).render()


def test_a_multi_frame_ct_is_a_volume(write_dicom: Writer) -> None:
    frames = np.stack([plane(z) for z in (20, 0, 10)])
    groups = Sequence([])
    for z in (20, 0, 10):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        group.PlanePositionSequence = Sequence([position])
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = 1, -z  # differs from frame to frame
        group.PixelValueTransformationSequence = Sequence([transform])
        groups.append(group)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.5]
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    path = write_dicom(
        "enhanced.dcm",
        frames,
        Modality="CT",
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    volume = modalities.load(path)
    assert volume.spacing_mm == (10.0, 0.5, 0.5)
    assert volume.pixels[0, :, 1, 1].tolist() == [0, 0, 0]
    assert modalities.load(path, frame=0).pixels[0, 0, 0] == 1000


def report(path: Path, modality: str, sop_class: str) -> Path:
    """A file of an examination that holds no image."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, "1.2.3.4", modality
    ds.PatientName, ds.SeriesInstanceUID = "Doe^Jane", "1.2.9"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("SR", "1.2.840.10008.5.1.4.1.1.88.67"),  # X-ray dose report
        ("KO", "1.2.840.10008.5.1.4.1.1.88.59"),  # key object selection
        ("PR", "1.2.840.10008.5.1.4.1.1.11.1"),  # presentation state
        ("CT", "1.2.840.10008.5.1.4.1.1.11.1"),  # the class tells, whatever the Modality
    ],
)
def test_reports_and_presentation_states_beside_a_series_are_left_out(
    series: list[Path], modality: str, sop_class: str
) -> None:
    alone = modalities.load(series)
    folder = series[0].parent
    report(folder / "a_report.dcm", modality, sop_class)
    with pytest.warns(modalities.ImageWarning, match="1 file that is no image") as caught:
        beside = modalities.load(folder)
    assert beside.pixels.equal(alone.pixels)
    assert "Doe" not in "".join(str(warning.message) for warning in caught)


def test_one_image_beside_its_report_is_that_image(write_dicom: Writer, tmp_path: Path) -> None:
    path = write_dicom(
        "study/film.dcm", np.arange(24, dtype=np.uint16).reshape(4, 6), Modality="DX"
    )
    alone = modalities.load(path)
    report(path.with_name("report.dcm"), "SR", "1.2.840.10008.5.1.4.1.1.88.11")
    with pytest.warns(modalities.ImageWarning, match="left out"):
        beside = modalities.load(path.parent)
    assert beside.pixels.equal(alone.pixels)
    assert beside.modality == "xray"


def test_reports_alone_are_no_images(tmp_path: Path) -> None:
    files = [report(tmp_path / f"{n}.dcm", "SR", "1.2.840.10008.5.1.4.1.1.88.11") for n in range(2)]
    with pytest.raises(ImageError, match="none of the 2 files holds an image"):
        modalities.load(tmp_path)
    with pytest.raises(ImageError, match=r"holds no image \(Modality SR\)"):
        modalities.load(files[0])


def test_a_slice_that_lost_its_pixels_is_not_left_out(series: list[Path]) -> None:
    ds = dcmread(series[1])
    del ds.PixelData
    ds.save_as(series[1])
    with pytest.raises(ImageError, match="PixelData: is missing or cut short"):
        modalities.load(series[0].parent)
