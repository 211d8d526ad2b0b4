"""DICOM whole-slide images: tiles put together, levels chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

import modalities
from modalities import ImageError

Writer = Callable[..., Path]

RNG = np.random.default_rng(11)
PLANE = np.kron(RNG.integers(0, 256, (11, 15, 3)), np.ones((4, 4, 1))).astype(np.uint8)  # 44 x 60
HALF = PLANE[::2, ::2]


def item(**tags: Any) -> Sequence:
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return Sequence([ds])


def cut(plane: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Tiles row by row, those at the edge filled up with 7, and where they lie (x, y)."""
    height, width = plane.shape[:2]
    padded = np.pad(plane, ((0, -height % rows), (0, -width % columns), (0, 0)), constant_values=7)
    at = [(x, y) for y in range(0, height, rows) for x in range(0, width, columns)]
    return np.stack([padded[y : y + rows, x : x + columns] for x, y in at]), at


def tags(plane: np.ndarray, count: int, mpp: float, **more: Any) -> dict[str, Any]:
    return {
        "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
        "Modality": "SM",
        "SeriesInstanceUID": "1.2.3",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "DimensionOrganizationType": "TILED_FULL",
        "TotalPixelMatrixColumns": plane.shape[1],
        "TotalPixelMatrixRows": plane.shape[0],
        "NumberOfFrames": count,
        "SharedFunctionalGroupsSequence": item(
            PixelMeasuresSequence=item(PixelSpacing=[mpp / 1000, mpp / 1000])
        ),
        **more,
    }


@pytest.fixture
def level(write_dicom: Writer) -> Path:
    tiles, _ = cut(PLANE, 16, 24)
    return write_dicom("l0.dcm", tiles, **tags(PLANE, len(tiles), 0.5))


@pytest.fixture
def slide(write_dicom: Writer, level: Path) -> list[Path]:
    tiles, _ = cut(HALF, 8, 8)
    label = np.zeros((1, 4, 6, 3), np.uint8)
    kind = {"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}
    return [
        write_dicom("l1.dcm", tiles, **tags(HALF, len(tiles), 1.0)),
        level,
        write_dicom("label.dcm", label, **tags(label[0], 1, 0.5, **kind)),
    ]


def test_tiles_make_up_the_plane(level: Path) -> None:
    image = modalities.load(level)
    np.testing.assert_array_equal(image.render(), PLANE)
    assert image.modality == "pathology"
    assert image.spacing_mm == pytest.approx((0.0005, 0.0005))
    assert image.provenance["mpp"] == pytest.approx([0.5, 0.5])


def test_a_region_is_in_pixels_of_the_finest_level(level: Path) -> None:
    image = modalities.load(level, region=(20, 10, 30, 25))
    np.testing.assert_array_equal(image.render(), PLANE[10:35, 20:50])
    assert image.provenance["choices"]["region"] == "20,10,30,25 (asked)"


def test_the_files_of_a_slide_are_its_levels_whatever_their_order(slide: list[Path]) -> None:
    for files in (slide, slide[::-1]):
        assert modalities.load(files).provenance["levels"] == [[60, 44], [30, 22]]
        half = modalities.load(files, level=1)
        np.testing.assert_array_equal(half.render(), HALF)
        assert half.spacing_mm == pytest.approx((0.001, 0.001))
        np.testing.assert_array_equal(modalities.load(files, mpp=1.0).render(), HALF)
        part = modalities.load(files, level=1, region=(16, 12, 20, 16))
        np.testing.assert_array_equal(part.render(), HALF[6:14, 8:18])


def test_sparse_tiles_lie_where_they_say_and_white_between(write_dicom: Writer) -> None:
    tiles, at = cut(PLANE, 16, 24)
    order = [4, 0, 8, 2]
    groups = Sequence(
        [
            item(
                PlanePositionSlideSequence=item(
                    ColumnPositionInTotalImagePixelMatrix=at[i][0] + 1,
                    RowPositionInTotalImagePixelMatrix=at[i][1] + 1,
                )
            )[0]
            for i in order
        ]
    )
    more = {
        "DimensionOrganizationType": "TILED_SPARSE",
        "PerFrameFunctionalGroupsSequence": groups,
    }
    path = write_dicom("s.dcm", tiles[order], **tags(PLANE, len(order), 0.5, **more))
    expected = np.full_like(PLANE, 255)
    for x, y in (at[i] for i in order):
        expected[y : y + 16, x : x + 24] = PLANE[y : y + 16, x : x + 24]
    np.testing.assert_array_equal(modalities.load(path).render(), expected)


def test_one_tile_is_still_a_frame(level: Path) -> None:
    image = modalities.load(level, frame=4)
    np.testing.assert_array_equal(image.render(), PLANE[16:32, 24:48])


def test_a_second_focal_plane_is_left_out_and_said(write_dicom: Writer) -> None:
    tiles, _ = cut(PLANE, 16, 24)
    both = np.concatenate([tiles, 255 - tiles])
    image = modalities.load(write_dicom("z.dcm", both, **tags(PLANE, len(both), 0.5)))
    np.testing.assert_array_equal(image.render(), PLANE)
    assert any("focal planes" in note for note in image.provenance["warnings"])


def test_missing_tiles_are_refused(write_dicom: Writer) -> None:
    tiles, _ = cut(PLANE, 16, 24)
    path = write_dicom("m.dcm", tiles[:-1], **tags(PLANE, len(tiles) - 1, 0.5))
    with pytest.raises(ImageError, match=r"m\.dcm: NumberOfFrames: 8, but 9 tiles"):
        modalities.load(path)


def test_an_absurd_number_of_tiles_is_refused_before_memory_is_taken(
    write_dicom: Writer, level: Path
) -> None:
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    ds = pydicom.dcmread(level)
    ds.TotalPixelMatrixColumns = ds.TotalPixelMatrixRows = 2**31
    ds.NumberOfFrames = 2**31 - 1
    ds.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.Rows = ds.Columns = 16
    ds.save_as(level)
    with pytest.raises(ImageError, match="NumberOfFrames: 2147483647 declared"):
        modalities.load(level)


def test_what_is_no_level_of_the_slide_is_refused(
    write_dicom: Writer, slide: list[Path], level: Path
) -> None:
    tiles, _ = cut(PLANE[:20], 16, 24)
    odd = write_dicom("odd.dcm", tiles, **tags(PLANE[:20, :50], len(tiles), 0.5))
    with pytest.raises(ImageError, match="not two levels of one slide"):
        modalities.load([level, odd])
    other = write_dicom("o.dcm", tiles, **tags(PLANE[:20], 6, 0.5, SeriesInstanceUID="1.9"))
    with pytest.raises(ImageError, match="not the levels of one slide"):
        modalities.load([level, other])
    ct = write_dicom("ct.dcm", np.zeros((4, 4), np.int16), Modality="CT")
    with pytest.raises(ImageError, match="some files are of a slide"):
        modalities.load([level, ct])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_grey_tiles_make_up_the_plane_and_are_shown_through_a_window(
    write_dicom: Writer, kind: type
) -> None:
    grey = PLANE[..., :1].astype(kind) * (1 if kind is np.uint8 else 17)
    tiles, _ = cut(grey, 16, 24)
    window = {"WindowCenter": 1000, "WindowWidth": 2000} if kind is np.uint16 else {}
    path = write_dicom("g.dcm", tiles[..., 0].copy(), **tags(PLANE, len(tiles), 0.5, **window))
    image = modalities.load(path)
    values = grey[..., 0].astype(float)
    if kind is np.uint16:  # PS3.3 C.11.2.1.2.1
        values = np.clip((values - 999.5) / 1999 + 0.5, 0, 1) * 255
    assert np.abs(image.render()[..., 0] - values).max() <= 1
    assert image.spacing_mm == pytest.approx((0.0005, 0.0005))
    part = modalities.load(path, region=(20, 10, 30, 25))
    np.testing.assert_array_equal(part.render(), image.render()[10:35, 20:50])
    assert not any("one tile is shown" in note for note in image.provenance["warnings"])
    half = modalities.load(path, mpp=1.0)
    np.testing.assert_allclose(
        half.pixels[0], image.pixels[0].reshape(22, 2, 30, 2).mean(axis=(1, 3)), atol=0.01
    )
    tile = modalities.load(path, frame=4)
    assert tuple(tile.pixels.shape) == (1, 16, 24)
    assert any("one tile is shown" in note for note in tile.provenance["warnings"])
    with pytest.raises(ImageError, match="patch: is for slides in colour"):
        modalities.load(path, patch="tissue")


def test_sixteen_bit_colour_tiles_keep_their_precision(write_dicom: Writer) -> None:
    deep = PLANE.astype(np.uint16) * 257
    tiles, _ = cut(deep, 16, 24)
    path = write_dicom("d.dcm", tiles, **tags(PLANE, len(tiles), 0.5))
    np.testing.assert_array_equal(modalities.load(path).render(), PLANE)


def test_tiles_far_too_small_to_be_read_are_refused(
    level: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modalities.formats.dicom_slide.MAX_READ", 4)
    modalities.load(level, region=(0, 0, 48, 32))
    with pytest.raises(ImageError, match="9 tiles of 24x16 are more than the 4 read"):
        modalities.load(level)


def test_a_choice_for_slides_is_refused_elsewhere(write_dicom: Writer, level: Path) -> None:
    ct = write_dicom("ct.dcm", np.zeros((4, 4), np.int16), Modality="CT")
    with pytest.raises(ImageError, match=r"ct\.dcm: level: is for slides with a TotalPixelMatrix"):
        modalities.load(ct, level=0)
    with pytest.raises(ImageError, match=r"level: expected 0\.\.0"):
        modalities.load(level, level=1)
