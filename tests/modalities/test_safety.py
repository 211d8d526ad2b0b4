"""Files that attack: pipes, links out of a folder, bombs; and patients who stay unnamed."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

import modalities
from modalities import ImageError
from modalities.formats.source import Source

Writer = Callable[..., Path]
CT: dict[str, Any] = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}
GREY = np.arange(80, dtype=np.uint8).reshape(8, 10)


def png(path: Path) -> Path:
    Image.fromarray(GREY).save(path, "PNG")
    return path


# --- what is no file


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "link to a fifo"])
def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "fifo":
        os.mkfifo(path)  # opening it would wait for a writer for ever
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    for attempt in (modalities.load, modalities.fingerprint):
        with pytest.raises(ImageError, match="not a regular file") as caught:
            attempt(path)
        assert caught.value.file == str(path)


def test_a_pipe_put_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    source = Source("a.png", path=png(tmp_path / "a.png"))
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        source.open()


# --- root


def test_a_file_within_the_root_loads(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(path)
    image = modalities.load(tmp_path / "b.png", root=tmp_path)
    assert image.provenance["sha256"] == modalities.fingerprint(path, root=str(tmp_path))


@pytest.mark.parametrize("way", ["link", "linked folder", "dots", "absolute", "list", "companion"])
def test_nothing_outside_the_root_is_read(tmp_path: Path, way: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    secret = png(outside / "a.png")
    (root / "link.png").symlink_to(secret)
    (root / "folder").symlink_to(outside)
    (root / "pair.hdr").write_bytes(b"x")
    (root / "pair.img").symlink_to(secret)
    source = {
        "link": root / "link.png",
        "linked folder": root / "folder" / "a.png",
        "dots": root / ".." / "outside" / "a.png",
        "absolute": secret,
        "list": [root / "link.png"],
        "companion": root / "pair.hdr",
    }[way]
    for attempt in (modalities.load, modalities.fingerprint):
        with pytest.raises(ImageError, match=r"outside the root folder|'\.\.' is not allowed"):
            attempt(source, root=root)


def test_a_series_folder_with_a_link_out_of_the_root_is_refused(
    tmp_path: Path, write_dicom: Writer
) -> None:
    write_dicom("root/a.dcm", GREY, **CT)
    (tmp_path / "root/b.dcm").symlink_to(write_dicom("b.dcm", GREY, **CT))
    with pytest.raises(ImageError, match=r"b\.dcm: lies outside the root"):
        modalities.load(tmp_path / "root", root=tmp_path / "root")


# --- the error


def test_an_error_knows_its_file_cause_and_mend(tmp_path: Path) -> None:
    path = tmp_path / "a: b; c.png"
    path.write_bytes(png(tmp_path / "whole.png").read_bytes()[:-20])
    with pytest.raises(ImageError) as caught:
        modalities.load(path)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.file, error.mend) == (str(path), "fetch the file again")
    assert str(error) == f"{error.file}: {error.cause}; {error.mend}"


def test_an_error_about_no_file_has_none() -> None:
    with pytest.raises(ImageError) as caught:
        modalities.load(b"\x89PNG\r\n\x1a\n", "xrya")
    assert caught.value.file is None
    with pytest.raises(ImageError) as caught:
        modalities.load(b"nothing")
    assert caught.value.file == "<bytes>"


# --- bombs


def tiff(array: np.ndarray, **options: Any) -> bytearray:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return bytearray(buffer.getvalue())


def patched(content: bytearray, **tags: int) -> bytes:
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        for name, value in tags.items():
            tag = file.pages[0].aspage().tags[name]
            struct.pack_into("<HII", content, tag.offset + 2, 4, 1, value)
    return bytes(content)


def test_a_tiff_with_tiles_larger_than_any_image_is_refused() -> None:
    content = tiff(np.zeros((16, 16, 3), np.uint8), tile=(16, 16), photometric="rgb")
    with pytest.raises(ImageError, match="TileWidth/TileLength: far too large"):
        modalities.load(patched(content, TileWidth=60000, TileLength=60000))


@pytest.mark.parametrize(("compression", "encode"), [(33005, "jpeg2k"), (7, "jpeg8")])
def test_a_tiff_whose_strip_holds_a_far_larger_picture_is_refused(
    compression: int, encode: str
) -> None:
    inner = getattr(imagecodecs, f"{encode}_encode")(np.zeros((2000, 2000), np.uint8))
    content = tiff(np.zeros((16, 16), np.uint8))
    size = len(content)
    content = bytearray(
        patched(content, Compression=compression, StripOffsets=size, StripByteCounts=len(inner))
    )
    with pytest.raises(ImageError, match="2000x2000 pixels, more than the page"):
        modalities.load(bytes(content) + inner)


def test_a_progressive_jpeg_of_very_many_scans_is_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2000, 2000), np.uint8)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = content[content.rfind(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match=r"a JPEG of \d+ scans"):
        modalities.load(content[:-2] + last * 1000 + content[-2:])


def test_more_frames_than_a_compressed_file_has_room_for_are_refused(write_dicom: Writer) -> None:
    ds = dcmread(write_dicom("a.dcm", GREY, **CT))
    ds.compress(RLELossless)
    ds.NumberOfFrames = 2**31 - 1
    ds.save_as(ds.filename)
    with pytest.raises(ImageError, match="NumberOfFrames: 2147483647 declared"):
        modalities.load(ds.filename)


def test_a_palette_that_unfolds_without_end_is_refused(write_dicom: Writer) -> None:
    packed = struct.pack("<3H", 0, 1, 0) + struct.pack("<3H", 1, 65535, 9) * 50
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"Segmented{colour}PaletteColorLookupTableData"] = packed
    with pytest.raises(ImageError, match="unfolds to more than 65536 entries"):
        modalities.load(write_dicom("a.dcm", GREY, **tags))


@pytest.mark.parametrize("deep", [500, 50_000])
def test_sequences_without_end_are_an_image_or_a_refusal(write_dicom: Writer, deep: int) -> None:
    content = write_dicom("a.dcm", GREY, **CT).read_bytes()
    nested = (b"\x28\x00\x10\x30SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * deep
    at = content.index(b"\xe0\x7f\x10\x00")
    with pytest.raises(ImageError):
        modalities.load(content[:at] + nested + content[at:])


def test_a_deflated_data_set_that_unpacks_without_end_is_refused(
    write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom("a.dcm", GREY, syntax=DeflatedExplicitVRLittleEndian, **CT)
    modalities.load(path)
    monkeypatch.setattr("modalities.formats.dicom_header.MAX_BYTES", 200)
    with pytest.raises(ImageError, match="unpacks to more than 200 bytes"):
        modalities.load(path)


# --- patients

NAME = "ZZTOPSECRET"
# A value that holds the name or stands for it, for each kind of text and date.
VALUES = {
    **dict.fromkeys(("PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE", "UR"), NAME),
    "DA": "19431207",
    "TM": "235911.777001",
    "DT": "19431207235911.777001",
    "AS": "087Y",
    "CS": NAME,
    "IS": "987654321",
    "DS": "98765.4321",
    "UI": "1.2.98765432199",
}
# What the image itself needs; wrong here, they are damage, which is tested below.
NEEDED = ("CS", "IS", "DS", "UI")


def everything_said(
    attempt: Callable[[], modalities.MedicalImage],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> str:
    caplog.clear()  # making the file may have said something
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image = attempt()
            said = json.dumps(dict(image.provenance)) + repr(image.window)
        except ImageError as error:
            said = traceback.format_exc() + repr((error.file, error.cause, error.mend))
    said += "".join(str(w.message) for w in caught) + caplog.text
    return said + "".join(capfd.readouterr())


def planted(ds: Any, kinds: tuple[str, ...]) -> int:
    count = 0
    for tag, (vr, vm, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        apt = vr in kinds and not retired and keyword and vm[0] == "1" and tag not in ds
        if apt and group not in (0, 2, 4):
            ds.add_new(tag, vr, VALUES[vr])
            count += 1
    return count


def assert_no_patient(said: str) -> None:
    for value in VALUES.values():
        assert value not in said


TEXTS = tuple(vr for vr in VALUES if vr not in NEEDED)


@pytest.mark.parametrize(
    "broken", ["", "Rows", "BitsStored", "PixelData", "window", "TransferSyntaxUID"]
)
def test_no_text_or_date_of_a_file_is_ever_said(
    write_dicom: Writer,
    broken: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ds = dcmread(write_dicom("a.dcm", GREY, **CT, WindowCenter=40, WindowWidth=400))
    assert planted(ds, TEXTS) > 500
    inner = dcmread(write_dicom("b.dcm", GREY, **CT))
    planted(inner, ("PN", "LO", "DA"))
    del inner.PixelData
    ds.RequestAttributesSequence = ds.ModalityLUTSequence = Sequence([inner])
    if broken == "Rows":
        del ds.Rows
    elif broken == "BitsStored":
        ds.BitsStored = 99
    elif broken == "PixelData":
        ds.PixelData = b"\0\0"
    elif broken == "TransferSyntaxUID":
        ds.file_meta.TransferSyntaxUID = "1.2.98765432199"
    ds.save_as(ds.filename, enforce_file_format=False, implicit_vr=False, little_endian=True)
    choices = {"window": "nonsense"} if broken == "window" else {}
    said = everything_said(lambda: modalities.load(ds.filename, **choices), caplog, capfd)
    assert said
    assert_no_patient(said)


@pytest.mark.parametrize("vr", NEEDED)
def test_values_where_they_do_not_belong_are_not_quoted(
    write_dicom: Writer,
    vr: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each attribute of the kind in turn holds a name instead of what it should."""
    from modalities.formats.dicom_header import _TAGS

    path = write_dicom("a.dcm", GREY, **CT, WindowCenter=40, WindowWidth=400)
    tried = 0
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        if kind != vr or keyword not in _TAGS:
            continue
        ds = dcmread(path)
        ds.add_new(tag, "LO", NAME)  # the wrong kind of value, as broken writers do
        broken = path.with_name("broken.dcm")
        ds.save_as(broken, enforce_file_format=False)
        said = everything_said(lambda: modalities.load(broken), caplog, capfd)  # noqa: B023
        assert_no_patient(said)
        tried += 1
    assert tried > 0


@pytest.mark.parametrize("name", ["a\nERROR: b.png", "a\x1b[2Jb.png", "a\u2028b.png", "a\rb.png"])
def test_a_file_name_cannot_break_a_message_in_two(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        modalities.load(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "\x1b" not in message
    assert caught.value.file == str(path)
    assert caught.value.cause.startswith("not an image in a known format")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, "PNG")
    with pytest.warns(modalities.ImageWarning) as warned:
        modalities.load(path)
    assert all(len(str(warning.message).splitlines()) == 1 for warning in warned)
