"""Kinds of file that independent readers showed to be easy to get wrong."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGBaseline8Bit

import modalities
from modalities import ImageError, ImageWarning

Writer = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore::modalities.ImageWarning")

INDICES = np.array([[0, 1, 2, 2]], np.uint8)
# What the three entries of the palette look like.
COLOURS = [[255, 0, 7], [1, 128, 9], [0, 64, 200], [0, 64, 200]]


def palette(order: str, dtype: str = "u2", shift: int = 8) -> dict[str, Any]:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in (("Red", (255, 1, 0)), ("Green", (0, 128, 64)), ("Blue", (7, 9, 200))):
        keyword = f"{colour}PaletteColorLookupTable"
        data = (np.array(entries, np.uint16) << shift).astype(order + dtype).tobytes()
        tags[f"{keyword}Descriptor"] = [3, 0, 16 if shift else 8]
        tags[f"{keyword}Data"] = data + b"\0" * (len(data) % 2)
    return tags


def big_endian(path: Path, **tags: Any) -> Path:
    """A big-endian file of 8-bit indices, its OW values written as they are given."""
    ds = Dataset()
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 1, 4, 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.add_new("PixelData", "OB", INDICES.tobytes())
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.save_as(path, enforce_file_format=True)
    return path


def test_a_palette_of_a_big_endian_file_is_read_in_its_byte_order(tmp_path: Path) -> None:
    path = big_endian(tmp_path / "a.dcm", **palette(">"))
    assert modalities.load(path).render()[0].tolist() == COLOURS


@pytest.mark.parametrize(
    ("dtype", "shift"), [("u2", 8), ("u2", 0), ("u1", 0)], ids=["16 bit", "8 in 16", "8 bit, odd"]
)
def test_a_palette_has_8_or_16_bits_and_any_length(
    write_dicom: Writer, dtype: str, shift: int
) -> None:
    path = write_dicom("a.dcm", INDICES, **palette("<", dtype, shift))
    assert modalities.load(path).render()[0].tolist() == COLOURS


def test_indices_beyond_a_palette_take_its_last_entry(write_dicom: Writer) -> None:
    path = write_dicom("a.dcm", np.array([[0, 300]], np.uint16), **palette("<", "u1", 0))
    assert modalities.load(path).render()[0].tolist() == [COLOURS[0], COLOURS[2]]


def test_a_segmented_palette_of_a_big_endian_file_is_unfolded(tmp_path: Path) -> None:
    tags = palette(">")
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTable"
        del tags[f"{keyword}Data"]
        # One entry of 100, then a straight line over two to 200: 100, 150, 200.
        words = (0, 1, 100 << 8, 1, 2, 200 << 8)
        tags[f"Segmented{keyword}Data"] = struct.pack(">6H", *words)
    path = big_endian(tmp_path / "a.dcm", **tags)
    assert modalities.load(path).render()[0, :, 0].tolist() == [100, 150, 200, 200]


def test_a_voi_lut_of_a_big_endian_file_is_read_in_its_byte_order(tmp_path: Path) -> None:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [3, 0, 16])
    lut.add_new("LUTData", "OW", struct.pack(">3H", 0, 65535, 0x8000))
    path = big_endian(
        tmp_path / "a.dcm",
        PhotometricInterpretation="MONOCHROME2",
        VOILUTSequence=Sequence([lut]),
    )
    assert modalities.load(path).render()[0, :, 0].tolist() == [0, 255, 128, 128]


def test_an_overlay_of_a_big_endian_file_is_read_in_its_byte_order(tmp_path: Path) -> None:
    path = big_endian(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME2")
    file = dcmread(path)
    file.add_new((0x6000, 0x0010), "US", 1)
    file.add_new((0x6000, 0x0011), "US", 4)
    file.add_new((0x6000, 0x0050), "SS", [1, 1])
    file.add_new((0x6000, 0x3000), "OW", b"\x00\x02")  # the word 0x0002: the second pixel
    file.save_as(path)
    assert modalities.load(path, overlay=True).render()[0, :, 0].tolist() == [0, 255, 2, 2]


def test_colour_jpeg_2000_of_more_than_8_bits_keeps_them(write_dicom: Writer) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(np.uint16)
    stream = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")
    path = write_dicom("a.dcm", pixels, PhotometricInterpretation="YBR_RCT")
    file = dcmread(path)
    file.file_meta.TransferSyntaxUID = JPEG2000Lossless
    file.PixelData = encapsulate([stream])
    file["PixelData"].is_undefined_length = True
    file.save_as(path)
    shown = modalities.load(path).pixels.numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(shown, pixels / 65535, atol=1e-6)


def groups(places: list[tuple[float, list[int]]]) -> Sequence:
    """Functional groups of frames at a height, with an orientation."""
    found = []
    for height, cosines in places:
        position, orientation, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, height]
        orientation.ImageOrientationPatient = cosines
        group.PlanePositionSequence = Sequence([position])
        group.PlaneOrientationSequence = Sequence([orientation])
        found.append(group)
    return Sequence(found)


AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]


def test_a_multi_frame_of_several_phases_is_their_first_volume(write_dicom: Writer) -> None:
    frames = np.stack([np.full((3, 4), value, np.int16) for value in (11, 21, 12, 22, 13, 23)])
    heights = [(z, AXIAL) for z in (0.0, 0.0, 5.0, 5.0, 10.0, 10.0)]
    path = write_dicom(
        "a.dcm",
        frames,
        Modality="MR",
        NumberOfFrames=6,
        PerFrameFunctionalGroupsSequence=groups(heights),
    )
    with pytest.warns(ImageWarning, match="2 volumes of 3 slices"):
        first = modalities.load(path)
    assert first.pixels[0, :, 0, 0].tolist() == [11, 12, 13]
    second = modalities.load(path, volume=1)
    assert second.pixels[0, :, 0, 0].tolist() == [21, 22, 23]
    assert second.provenance["choices"]["volume"] == "1 of 2 (asked)"
    with pytest.raises(ImageError, match=r"volume: 2 is outside 0\.\.1"):
        modalities.load(path, volume=2)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([(0.0, AXIAL), (5.0, CORONAL), (10.0, AXIAL)], "parallel"),
        ([(0.0, AXIAL), (0.0, AXIAL), (10.0, AXIAL)], "some lie at the same position"),
        ([(0.0, AXIAL), (0.0, AXIAL), (0.0, AXIAL)], "all lie at one position"),
    ],
)
def test_frames_that_are_no_volume_are_shown_one_at_a_time(
    write_dicom: Writer, places: list[tuple[float, list[int]]], reason: str
) -> None:
    frames = np.stack([np.full((3, 4), value, np.int16) for value in (1, 2, 3)])
    path = write_dicom(
        "a.dcm",
        frames,
        Modality="MR",
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=groups(places),
    )
    with pytest.warns(ImageWarning, match=reason):
        image = modalities.load(path)
    assert image.pixels.shape == (1, 3, 4)
    assert modalities.load(path, frame=2).pixels.max() == 3


def test_an_index_of_the_medium_beside_a_series_is_no_slice(
    write_dicom: Writer, tmp_path: Path
) -> None:
    for z in (0, 5):
        write_dicom(
            f"s/{z}.dcm",
            np.full((3, 4), z, np.int16),
            Modality="CT",
            ImagePositionPatient=[0, 0, z],
            ImageOrientationPatient=AXIAL,
            RescaleSlope=1,
            RescaleIntercept=0,
        )
    (tmp_path / "s/DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(40))
    assert modalities.load(tmp_path / "s").pixels.shape[1] == 2


@pytest.mark.parametrize("keyword", ["BitsStored", "SamplesPerPixel"])
def test_a_missing_bit_depth_is_named(write_dicom: Writer, keyword: str) -> None:
    path = write_dicom("a.dcm", np.zeros((3, 4), np.int16), **{keyword: None})
    with pytest.raises(ImageError, match=f"{keyword}: is missing"):
        modalities.load(path)


def test_more_pixels_than_declared_are_said(write_dicom: Writer) -> None:
    path = write_dicom("a.dcm", np.zeros((4, 4), np.int16), Rows=2)
    with pytest.warns(ImageWarning, match="PixelData holds 32 bytes where 16 are declared"):
        modalities.load(path)


def test_more_frames_than_fragments_are_refused(write_dicom: Writer) -> None:
    path = write_dicom("a.dcm", np.zeros((8, 8), np.uint8), NumberOfFrames=3)
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    file = dcmread(path)
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file.PixelData = encapsulate([buffer.getvalue()])
    file["PixelData"].is_undefined_length = True
    file.save_as(path)
    with pytest.raises(ImageError, match="3 frames declared, 1 present"):
        modalities.load(path)


def test_voxels_too_large_for_single_precision_are_refused(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 4))
    values[1, 1, 1] = 1e300
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ImageError, match="beyond all bounds"):
        modalities.load(tmp_path / "a.nii")


GREY = np.array([[0, 100, 200, 255]], np.uint8)
ALPHA = np.array([[255, 128, 0, 255]], np.uint8)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("unassalpha", [0, 50, 0, 255]),
        ("assocalpha", [0, 100, 200, 255]),  # over black already
        ("unspecified", [0, 100, 200, 255]),  # no alpha
    ],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_the_alpha_of_a_tiff_is_what_the_file_says(
    kind: str, expected: list[int], colours: int
) -> None:
    content = tiff(
        np.stack([*[GREY] * colours, ALPHA], axis=-1),
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig",
        extrasamples=[kind],
    )
    shown = modalities.load(content, "photo").render()
    assert shown[0, :, 0].tolist() == shown[0, :, 2].tolist() == expected


def test_an_ink_tiff_is_shown(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2), (255, 0, 0, 51)).save(tmp_path / "a.tif")
    assert modalities.load(tmp_path / "a.tif", "photo").render()[0, 0].tolist() == [0, 204, 204]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_tiled_tiff_that_no_slide_has_is_a_picture(dtype: type, planar: str) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 50, 3)).astype(dtype)
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    content = tiff(stored, tile=(16, 16), photometric="rgb", planarconfig=planar)
    image = modalities.load(content)
    top = float(np.iinfo(dtype).max)
    np.testing.assert_allclose(image.pixels.numpy().transpose(1, 2, 0), values / top, atol=1e-6)


def test_signed_measurements_in_a_tiff_are_shown_from_least_to_largest() -> None:
    image = modalities.load(tiff(np.array([[-1000, 0, 1000]], np.int16)), "photo")
    assert image.render()[0, :, 0].tolist() == [0, 128, 255]


def test_a_colour_table_of_8_bits_in_a_tiff_is_not_shown_black() -> None:
    table = np.zeros((3, 256), np.uint16)
    table[:, 1] = (200, 100, 50)
    content = tiff(np.array([[0, 1]], np.uint8), photometric="palette", colormap=table)
    assert modalities.load(content, "photo").render()[0].tolist() == [[0, 0, 0], [200, 100, 50]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_fax_page_stands_upright_as_any_other(tmp_path: Path, orientation: int) -> None:
    bits = np.random.default_rng(0).random((20, 30)) < 0.3
    for name, compression in (("fax", "group4"), ("plain", None)):
        Image.fromarray(bits).save(
            tmp_path / f"{name}.tif", compression=compression, tiffinfo={274: orientation}
        )
    shown = [modalities.load(tmp_path / f"{n}.tif", "photo").render() for n in ("fax", "plain")]
    np.testing.assert_array_equal(*shown)
    assert set(np.unique(shown[0])) == {0, 255}


def png(bits: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, colour, 0, 0, 0))
    body = b"".join(chunk(*part) for part in extra)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + body + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "rows", "clear"),
    [
        (2, b"\0\x1b", 3),  # 0, 1, 2, 3
        (4, b"\0\x05\xaf", 15),
        (8, b"\0\x00\x55\xaa\xff", 255),
        (16, b"\0" + struct.pack(">4H", 0, 0x5555, 0xAAAA, 0xFFFF), 0xFFFF),
    ],
)
def test_one_transparent_grey_is_black_at_every_depth(bits: int, rows: bytes, clear: int) -> None:
    content = png(bits, 0, rows, (b"tRNS", struct.pack(">H", clear)))
    assert modalities.load(content, "photo").render()[0, :, 0].tolist() == [0, 85, 170, 0]


def test_a_picture_without_its_palette_is_refused() -> None:
    with pytest.raises(ImageError, match="PLTE"):
        modalities.load(png(8, 3, b"\0\0\1\2\3"), "photo")


def test_a_text_called_gamma_is_no_gamma() -> None:
    content = png(8, 0, b"\0\0\1\2\3", (b"tEXt", b"gamma\0two"))
    assert modalities.load(content, "photo").render()[0, :, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("extra", [(), ((b"tEXt", b"Software\0any"),)])
@pytest.mark.parametrize(
    "damage",
    [
        zlib.compress(b"\0\0\1"),  # ends early
        zlib.compress(b"\7\0\1\2\3"),  # no filter has this number
        b"\0" + zlib.compress(b"\0\0\1\2\3"),
    ],
)
def test_damage_within_a_sound_chunk_is_refused(
    extra: tuple[tuple[bytes, bytes], ...], damage: bytes
) -> None:
    # With a text beside it the picture goes another way.
    sound = png(8, 0, b"\0\0\1\2\3", *extra)
    assert modalities.load(sound, "photo").render()[0, :, 0].tolist() == [0, 1, 2, 3]
    at = sound.index(b"IDAT") - 4
    body = b"IDAT" + damage
    chunk = struct.pack(">I", len(damage)) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(ImageError, match="damaged or cut"):
        modalities.load(sound[:at] + chunk + sound[-12:], "photo")


def test_a_gamma_that_is_not_applied_is_said() -> None:
    content = png(8, 0, b"\0\0\1\2\3", (b"gAMA", struct.pack(">I", 100000)))
    with pytest.warns(ImageWarning, match="gamma of 1,"):
        modalities.load(content, "photo")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 4 1 255\n" + GREY.tobytes(), [0, 100, 200, 255]),
        (b"P5 2 1 4095\n" + struct.pack(">2H", 0, 4095), [0, 255]),
        (b"P2\n# ward\n2 1 10\n0 5\n", [0, 128]),
        (b"P6 1 1 255\n\x07\x08\x09", [7]),
    ],
)
def test_portable_anymaps_are_read(content: bytes, expected: list[int]) -> None:
    assert modalities.load(content, "photo").render()[0, :, 0].tolist() == expected


def test_a_cut_anymap_is_refused() -> None:
    with pytest.raises(ImageError, match="damaged or cut"):
        modalities.load(b"P5 4 4 255\n" + GREY.tobytes(), "photo")
