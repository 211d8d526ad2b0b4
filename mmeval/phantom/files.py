"""Writes simulated patients as the files a clinic would have.

Chest film: DICOM, MONOCHROME2 or MONOCHROME1. CT: NIfTI or a DICOM series. MRI: NIfTI.
Retina: JPEG. Tissue: tiled pyramidal TIFF. Same patient, same bytes.
"""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmeval.phantom import anatomy
from mmeval.phantom.anatomy import (
    CT_WINDOWS,
    PIXEL_MM,
    SCENES,
    SIZE,
    SLICE_MM,
    SLICES,
    SLIDE_MPP,
    XRAY_STORED_MAX,
    XRAY_WINDOW,
    Patient,
)
from mmeval.phantom.questions import Case, build

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SLIDE_LEVELS = 3
TILE = 64


def write(out: Path | str, seed: int = 0, n: int = 100, *, progress: bool = False) -> Path:
    """Write a benchmark of ``n`` questions about simulated patients.

    Args:
        out: Folder to create; gets ``images/`` and ``samples.jsonl``.
        seed: Same seed, same bytes. Training used seeds of 900,000,000 and above.
        n: Number of questions; see :func:`mmeval.phantom.questions.build`.
        progress: Show a progress bar.

    Returns:
        The path of ``samples.jsonl``.

    Raises:
        ValueError: ``n`` or ``seed`` is negative, or ``n`` is zero.
        FileExistsError: ``out`` already holds another ``samples.jsonl``.
    """
    if n < 1 or seed < 0:
        raise ValueError(f"n must be at least 1 and seed at least 0, got n={n}, seed={seed}")
    root = Path(out)
    benchmark = build(seed, n)
    lines = [json.dumps(sample.to_dict(), ensure_ascii=False) for sample in benchmark.samples]
    text = "\n".join(lines) + "\n"
    target = root / "samples.jsonl"
    if target.exists():
        if target.read_text(encoding="utf-8") == text:
            return target
        raise FileExistsError(
            f"{target} holds another benchmark; choose an empty folder or remove it"
        )
    (root / "images").mkdir(parents=True, exist_ok=True)
    _write_images(root, benchmark.cases, progress)
    # Last, and at once: a folder with samples.jsonl is complete.
    partial = target.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
    return target


def _write_images(root: Path, cases: list[Case], progress: bool) -> None:
    from tqdm import tqdm

    workers = min(os.cpu_count() or 1, 8)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(cases), desc="phantom", unit="image", disable=not progress) as bar,
    ):
        for _ in pool.map(_write_case, [root] * len(cases), cases):
            bar.update()


def _write_case(root: Path, case: Case) -> None:
    path = root / case.image.path
    writer = {
        "xray": _write_film,
        "ct": _write_ct,
        "mri": _write_mri,
        "fundus": _write_retina,
        "pathology": _write_slide,
    }[SCENES[case.patient.scene].modality]
    writer(path, case)


def display(patient: Patient) -> npt.NDArray[np.uint8]:
    """What a viewer shows of a patient: uint8 RGB of shape (256, 256, 3).

    Equal, to within one grey level, to loading the written file and rendering it; training uses
    this to be spared the files.
    """
    modality = SCENES[patient.scene].modality
    if modality == "xray":
        stored = anatomy.stored_film(anatomy.chest_film(patient)).astype(np.float32)
        shown = anatomy.linear_window(stored, *XRAY_WINDOW)
    elif modality == "ct":
        window = CT_WINDOWS[SCENES[patient.scene].organ]
        shown = anatomy.linear_window(np.rint(_slices(patient, patient.slice_index)), *window)
    elif modality == "mri":
        values = np.rint(anatomy.brain_mri(patient, patient.slice_index))
        shown = anatomy.linear_window(values, *anatomy.mri_window(values))
    else:
        shown = anatomy.SIMULATORS[patient.scene](patient)
    grey = np.rint(shown * 255).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


def _slices(patient: Patient, index: int) -> npt.NDArray[np.float32]:
    simulate = anatomy.head_ct if patient.scene == "head CT" else anatomy.abdominal_ct
    return simulate(patient, index)


# --- DICOM ------------------------------------------------------------------------------------


def _dataset(case: Case, modality: str, sop_class: str, instance: int = 1) -> Dataset:
    """A DICOM data set with everything but pixels; identifiers follow from the case alone."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    def uid(*parts: object) -> UID:
        return generate_uid(entropy_srcs=[case.id, str(case.patient), *map(str, parts)])

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = uid("instance", instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["mmeval.phantom"])
    data = FileDataset(io.BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = uid("study")
    data.SeriesInstanceUID = uid("series")
    data.FrameOfReferenceUID = uid("frame of reference")
    data.Modality = modality
    data.PatientName = "Phantom^Simulated"
    data.PatientID = case.id
    data.StudyDate = data.SeriesDate = "20000101"
    data.SeriesNumber, data.InstanceNumber = 1, instance
    data.ImageComments = "Simulated; not a patient"
    data.SamplesPerPixel = 1
    data.Rows = data.Columns = SIZE
    data.BitsAllocated = 16
    data.PixelRepresentation = 0
    return data


def _save(data: Dataset, path: Path) -> None:
    data.save_as(path, enforce_file_format=True)


def _write_film(path: Path, case: Case) -> None:
    from pydicom.uid import DigitalXRayImageStorageForPresentation

    data = _dataset(case, "DX", DigitalXRayImageStorageForPresentation)
    stored = anatomy.stored_film(anatomy.chest_film(case.patient))
    centre, width = XRAY_WINDOW
    data.PhotometricInterpretation = "MONOCHROME2"
    if case.patient.noise_key % 2:
        # As many detectors do: small values are bright. Half of the films are stored so.
        stored = np.asarray(XRAY_STORED_MAX - stored, np.uint16)
        centre = XRAY_STORED_MAX - centre + 1
        data.PhotometricInterpretation = "MONOCHROME1"
    data.BodyPartExamined, data.ViewPosition = "CHEST", "PA"
    data.PatientOrientation = ["L", "F"]
    data.BitsStored, data.HighBit = 12, 11
    data.ImagerPixelSpacing = data.PixelSpacing = [360.0 / SIZE, 360.0 / SIZE]
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, 0, "US"
    data.PresentationLUTShape = (
        "INVERSE" if data.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"
    )
    data.WindowCenter, data.WindowWidth = centre, width
    data.PixelData = stored.tobytes()
    _save(data, path)


def _write_ct(path: Path, case: Case) -> None:
    slices = [np.rint(_slices(case.patient, index)) for index in range(SLICES)]
    if path.suffix:
        _write_nifti(path, np.stack(slices).astype(np.int16))
        return
    from pydicom.uid import CTImageStorage

    centre, width = CT_WINDOWS[SCENES[case.patient.scene].organ]
    path.mkdir(exist_ok=True)
    for index, hu in enumerate(slices):
        data = _dataset(case, "CT", CTImageStorage, instance=index + 1)
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsStored, data.HighBit = 12, 11
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        data.WindowCenter, data.WindowWidth = centre, width
        data.PixelSpacing, data.SliceThickness = [PIXEL_MM, PIXEL_MM], SLICE_MM
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [-SIZE * PIXEL_MM / 2, -SIZE * PIXEL_MM / 2, index * SLICE_MM]
        data.PixelData = np.clip(hu + 1024, 0, 4095).astype(np.uint16).tobytes()
        _save(data, path / f"slice{index:02d}.dcm")


# --- NIfTI ------------------------------------------------------------------------------------


def _write_nifti(path: Path, volume: npt.NDArray[np.int16]) -> None:
    """Write slices of shape (slice, row, column) as they would come from DICOM.

    Columns run to the patient's left and rows to the back, so two axes of the affine are negative.
    """
    import nibabel

    nib: Any = nibabel  # published without type information
    affine = np.diag([-PIXEL_MM, -PIXEL_MM, SLICE_MM, 1.0])
    affine[:3, 3] = [SIZE * PIXEL_MM / 2, SIZE * PIXEL_MM / 2, 0.0]
    image = nib.Nifti1Image(np.ascontiguousarray(volume.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)


def _write_mri(path: Path, case: Case) -> None:
    slices = [np.rint(anatomy.brain_mri(case.patient, index)) for index in range(SLICES)]
    _write_nifti(path, np.stack(slices).astype(np.int16))


# --- photographs and slides -------------------------------------------------------------------


def _write_retina(path: Path, case: Case) -> None:
    from PIL import Image

    Image.fromarray(display(case.patient)).save(path, quality=95, subsampling=0)


def _write_slide(path: Path, case: Case) -> None:
    """A pyramid of three levels in tiles of 64 pixels, deflate-compressed, with resolution."""
    import cv2
    import tifffile

    field = anatomy.tissue(case.patient)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(SLIDE_LEVELS):
            side = SIZE >> level
            pixels = cv2.resize(field, (side, side), interpolation=cv2.INTER_AREA)
            per_cm = 1e4 / (SLIDE_MPP * 2**level)
            tiff.write(
                np.rint(pixels * 255).astype(np.uint8),
                photometric="rgb",
                tile=(TILE, TILE),
                compression="adobe_deflate",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                metadata=None,
                software="mmeval.phantom",
            )
