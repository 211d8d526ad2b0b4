"""Single DICOM files: units, windows, bits, colours, frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

import modalities
from modalities import ImageError, ImageWarning

Writer = Callable[..., Path]

CT: dict[str, Any] = {"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1024}


def ramp(rows: int = 8, columns: int = 10, dtype: str = "int16") -> np.ndarray:
    return np.arange(rows * columns).reshape(rows, columns).astype(dtype)


def item(**tags: Any) -> Sequence:
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return Sequence([ds])


def test_ct_pixels_are_hounsfield_units(write_dicom: Writer) -> None:
    image = modalities.load(write_dicom("a.dcm", ramp(), **CT, PixelSpacing=[0.5, 0.25]))
    assert (image.domain, image.modality, image.spacing_mm) == ("hu", "ct", (0.5, 0.25))
    np.testing.assert_array_equal(image.pixels.numpy()[0], ramp() * 2 - 1024)


def test_a_ct_without_a_window_takes_the_default_preset_and_says_so(write_dicom: Writer) -> None:
    image = modalities.load(write_dicom("a.dcm", ramp(), **CT))
    assert image.provenance["choices"]["window"] == "mediastinum 40/400 (default)"


def test_a_named_window_wins_over_the_files_own(write_dicom: Writer) -> None:
    path = write_dicom("a.dcm", ramp(), **CT, WindowCenter=300, WindowWidth=1500)
    assert modalities.load(path).provenance["choices"]["window"] == "300/1500 (file)"
    brain = modalities.load(path, window="brain")
    assert brain.provenance["choices"]["window"] == "brain 40/80 (asked)"


@pytest.mark.parametrize("asked", [[40, 80], (40, 80), "40/80"])
def test_a_window_can_be_given_as_centre_and_width(write_dicom: Writer, asked: object) -> None:
    image = modalities.load(write_dicom("a.dcm", ramp(), **CT), window=asked)
    assert (image.window.center, image.window.width) == (40, 80)


def test_the_first_of_several_windows_is_used_unless_another_is_asked_for(
    write_dicom: Writer,
) -> None:
    path = write_dicom("a.dcm", ramp(), **CT, WindowCenter=[40, -600], WindowWidth=[400, 1500])
    assert modalities.load(path).provenance["choices"]["window"] == "40/400 (file, first of 2)"
    assert modalities.load(path, window=1).window.center == -600
    with pytest.raises(ImageError, match="2 windows"):
        modalities.load(path, window=2)


def test_an_unknown_window_is_refused_with_the_known_ones(write_dicom: Writer) -> None:
    with pytest.raises(ImageError, match=r"a\.dcm: window: .*'brian'.*brain"):
        modalities.load(write_dicom("a.dcm", ramp(), **CT), window="brian")


def test_monochrome1_renders_as_the_negative(write_dicom: Writer) -> None:
    plain = write_dicom("2.dcm", ramp(dtype="uint8"), Modality="CR")
    inverted = write_dicom(
        "1.dcm", ramp(dtype="uint8"), Modality="CR", PhotometricInterpretation="MONOCHROME1"
    )
    total = modalities.load(plain).render().astype(int) + modalities.load(inverted).render()
    assert (total == 255).all()


def test_a_radiograph_is_brightness_and_its_padding_is_black(write_dicom: Writer) -> None:
    pixels = ramp(dtype="uint16")
    pixels[0] = 4000
    image = modalities.load(
        write_dicom(
            "a.dcm",
            pixels,
            Modality="DX",
            BitsStored=12,
            HighBit=11,
            PixelPaddingValue=4000,
            PhotometricInterpretation="MONOCHROME1",
        )
    )
    shown = image.pixels.numpy()[0]
    assert image.domain == "display"
    assert (shown[0] == 0).all()
    # Padding does not count for the default window: 10..79 is the whole range.
    assert (shown[1, 0], shown[7, 9]) == (1.0, 0.0)


def test_bits_above_bits_stored_are_no_pixels(write_dicom: Writer) -> None:
    # An overlay in the top bits, and a signed 12-bit value below them.
    pixels = np.array([[0x8FFF, 0x1005], [0x0800, 0x07FF]], np.uint16)
    path = write_dicom(
        "a.dcm",
        pixels,
        Modality="CT",
        RescaleSlope=1,
        RescaleIntercept=0,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=1,
    )
    assert modalities.load(path).pixels[0].tolist() == [[-1, 5], [-2048, 2047]]


def test_a_high_bit_above_shifts_the_pixels_down(write_dicom: Writer) -> None:
    pixels = np.array([[0x0010, 0xFFF0]], np.uint16)
    path = write_dicom("a.dcm", pixels, **CT, BitsStored=12, HighBit=15)
    assert modalities.load(path).pixels[0].tolist() == [[2 * 1 - 1024, 2 * 4095 - 1024]]


def test_a_modality_lut_is_applied(write_dicom: Writer) -> None:
    lut = item(LUTDescriptor=[3, 1, 16], ModalityLUTType="HU", LUTData=[100, 200, 300])
    lut[0]["LUTDescriptor"].VR = lut[0]["LUTData"].VR = "US"
    pixels = np.array([[0, 1, 2, 3, 9, 0]], np.uint16)
    path = write_dicom("a.dcm", pixels, Modality="CT", ModalityLUTSequence=lut)
    assert modalities.load(path).pixels[0, 0].tolist() == [100, 100, 200, 300, 300, 100]


def test_a_voi_lut_is_used_where_there_is_no_window(write_dicom: Writer) -> None:
    lut = item(LUTDescriptor=[4, 0, 8], LUTData=[0, 51, 102, 255])
    lut[0]["LUTDescriptor"].VR = lut[0]["LUTData"].VR = "US"
    path = write_dicom(
        "a.dcm", np.array([[0, 1], [2, 3]], np.uint16), Modality="DX", VOILUTSequence=lut
    )
    assert modalities.load(path).render()[..., 0].tolist() == [[0, 51], [102, 255]]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_the_way_a_file_is_written_does_not_change_its_pixels(
    write_dicom: Writer, tmp_path: Path, syntax: str
) -> None:
    pixels = ramp()
    if syntax == ExplicitVRBigEndian:
        pixels = pixels.astype(">i2")
    path = write_dicom("a.dcm", pixels, syntax=syntax, **CT)
    image = modalities.load(path)
    np.testing.assert_array_equal(image.pixels.numpy()[0], ramp() * 2.0 - 1024)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression_keeps_every_pixel(
    write_dicom: Writer, tmp_path: Path, syntax: str
) -> None:
    import imagecodecs
    from pydicom import dcmread
    from pydicom.encaps import encapsulate

    pixels = ramp(64, 64, "uint16")
    path = write_dicom("a.dcm", pixels, **CT, BitsStored=12, HighBit=11)
    ds = dcmread(path)
    if syntax == RLELossless:
        ds.compress(RLELossless)
    else:
        encode = {
            JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
                pixels, codecformat="j2k", reversible=True, bitspersample=12
            ),
            JPEGLSLossless: lambda: imagecodecs.jpegls_encode(pixels),
        }[syntax]
        ds.PixelData = encapsulate([encode()])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(tmp_path / "b.dcm")
    image = modalities.load(tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.pixels.numpy()[0], pixels * 2.0 - 1024)
    assert image.provenance["transfer_syntax"] == syntax.name


def test_colour_is_shown_as_it_is(write_dicom: Writer) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = modalities.load(write_dicom("a.dcm", rgb, Modality="XC"))
    assert (image.modality, image.domain, tuple(image.pixels.shape)) == (
        "photo",
        "display",
        (3, 6, 8),
    )
    np.testing.assert_array_equal(image.render(), rgb)
    with pytest.raises(ImageError, match="colour image"):
        modalities.load(write_dicom("a.dcm", rgb, Modality="XC"), window="minmax")


def test_ybr_full_becomes_rgb(write_dicom: Writer) -> None:
    # Pure red in the full-range YCbCr of PS3.3 C.7.6.3.1.2.
    ybr = np.full((2, 2, 3), (76, 85, 255), np.uint8)
    image = modalities.load(
        write_dicom("a.dcm", ybr, Modality="US", PhotometricInterpretation="YBR_FULL")
    )
    np.testing.assert_allclose(image.render()[0, 0], (255, 0, 0), atol=2)


def test_a_frame_is_chosen_and_the_choice_recorded(write_dicom: Writer) -> None:
    frames = np.stack([np.full((4, 6), value, np.uint8) for value in (10, 20, 30)])
    path = write_dicom("a.dcm", frames, Modality="US", NumberOfFrames=3)
    chosen = modalities.load(path, frame=2)
    assert chosen.provenance["choices"]["frame"] == "2 of 3 (asked)"
    assert chosen.render()[0, 0, 0] == 30
    with pytest.warns(ImageWarning, match="3 frames"):
        assert modalities.load(path).render()[0, 0, 0] == 10
    with pytest.raises(ImageError, match=r"a\.dcm: frame: 3 is outside 0\.\.2"):
        modalities.load(path, frame=3)


def test_an_axial_slice_is_turned_to_radiological_convention(write_dicom: Writer) -> None:
    # Stored with columns towards the patient's right and rows towards anterior: upside down.
    pixels = ramp()
    turned = {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0], "ImagePositionPatient": [0, 0, 0]}
    image = modalities.load(write_dicom("a.dcm", pixels, **CT, **turned))
    np.testing.assert_array_equal(image.pixels.numpy()[0], pixels[::-1, ::-1] * 2.0 - 1024)
    assert "radiological" in image.provenance["choices"]["orientation"]


def test_bytes_load_like_the_file(write_dicom: Writer) -> None:
    path = write_dicom("a.dcm", ramp(), **CT)
    from_bytes = modalities.load(path.read_bytes())
    assert from_bytes.pixels.equal(modalities.load(path).pixels)
    assert from_bytes.provenance["sha256"] == modalities.fingerprint(path)


def test_reading_as_another_modality_is_said(write_dicom: Writer) -> None:
    path = write_dicom("a.dcm", ramp(), Modality="MR")
    with pytest.warns(ImageWarning, match="although the file says mri"):
        image = modalities.load(path, "ct")
    assert image.domain == "linear"  # signal is not Hounsfield units


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        ({"BitsAllocated": None}, "BitsAllocated"),
        ({"Rows": 0}, "Rows"),
        ({"Rows": 60000, "Columns": 60000}, "Rows x Columns"),
        ({"Rows": 100}, "PixelData"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"HighBit": 20}, "HighBit"),
        ({"PhotometricInterpretation": "XYZ"}, "PhotometricInterpretation"),
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "RescaleSlope"),
        ({"NumberOfFrames": 4}, "PixelData"),
    ],
)
def test_a_wrong_header_is_refused_by_the_name_of_its_field(
    write_dicom: Writer, tags: dict[str, Any], field: str
) -> None:
    path = write_dicom("wrong.dcm", ramp(), Modality="CT", **tags)
    with pytest.raises(ImageError, match=rf"wrong\.dcm: .*{field}"):
        modalities.load(path)


PATIENT = {
    "PatientName": "SECRET^NAME",
    "PatientID": "SECRET-ID",
    "PatientBirthDate": "SECRETDATE",  # not a date: pydicom would quote it in a warning
    "InstitutionName": "SECRET HOSPITAL",
    "AccessionNumber": "SECRET-ACCESSION-LONGER-THAN-ALLOWED",
}


@pytest.mark.parametrize("tags", [{}, {"Rows": 100}, {"RescaleSlope": None, "HighBit": 40}])
def test_patient_data_reaches_no_message(
    write_dicom: Writer,
    tags: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    import traceback
    import warnings

    warnings.simplefilter("ignore")  # writing such a file is not what is tested
    path = write_dicom("a.dcm", ramp(), **{**CT, **PATIENT, "BurnedInAnnotation": "YES"})
    warnings.simplefilter("always")
    recwarn.clear(), caplog.clear(), capfd.readouterr()
    said = ""
    try:
        said += repr(modalities.load(path, **({"frame": 7} if tags else {})).provenance)
    except ImageError:
        said += traceback.format_exc()
    said += caplog.text + "".join(capfd.readouterr()) + " ".join(str(w.message) for w in recwarn)
    assert "BurnedInAnnotation" in said or tags
    assert "SECRET" not in said


@pytest.mark.parametrize("bits", [8, 16])
def test_a_segmented_palette_unfolds_as_the_standard_says(write_dicom: Writer, bits: int) -> None:
    scale = 1 if bits == 8 else 257
    # PS3.3 C.7.9.2: three entries as they are, a line of four from the last of them to 90, and
    # both segments once more; the line then starts from where the copy's three entries end.
    start, wide = 0, bits // 8
    discrete, line = [0, 3, 10, 200, 50], [1, 4, 90]
    table = [10, 200, 50, 60, 70, 80, 90, 10, 200, 50, 60, 70, 80, 90]
    entries = [0, 3, *(scale * n for n in discrete[2:]), 1, 4, scale * line[2], 2, 2]
    entries += [start, 0, 0, 0] if bits == 8 else [start, 0]
    packed = np.array(entries, f"<u{wide}").tobytes()
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [len(table), 0, bits]
        palette[f"Segmented{colour}PaletteColorLookupTableData"] = packed + b"\0" * (
            len(packed) % 2
        )
    pixels = np.arange(len(table), dtype=np.uint8)[None]
    image = modalities.load(write_dicom("a.dcm", pixels, **palette), "photo")
    np.testing.assert_array_equal(image.render()[0], np.repeat(np.array(table)[:, None], 3, axis=1))


@pytest.mark.parametrize("entries", [[2, 1, 0, 0], [0, 1, 5, 2, 1, 6, 0], [0, 1, 5, 2, 9, 0, 0]])
def test_an_indirect_segment_that_copies_itself_is_refused(
    write_dicom: Writer, entries: list[int]
) -> None:
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        words = np.array(entries, "<u2").tobytes()
        palette[f"Segmented{colour}PaletteColorLookupTableData"] = words
    with pytest.raises(ImageError, match="a segment is not sound"):
        modalities.load(write_dicom("a.dcm", np.zeros((4, 4), np.uint8), **palette))
