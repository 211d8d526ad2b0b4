"""How fast files are read, beside the plain decoders: `python -m modalities.bench`.

The same files are decoded by pydicom, nibabel, Pillow, tifffile or tiffslide alone and loaded by
`modalities.load`, in turn, several times; each pair of medians gives an overhead. A load does
more than a decode: it hashes and checks the file, converts to float32 in physical units, and
chooses a window. Paths may be given; without any, the files are made here. What is timed is the
clock on the wall; on a machine that does other work too, `--clock cpu` tells more: the processor
time of all threads, which hides nothing that is done beside.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import modalities
from modalities.formats import codecs
from modalities.formats.source import Format, detect, resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom.uid import UID


class Row(NamedTuple):
    """What was measured of one file.

    Attributes:
        file: Its name.
        decoder: What decoded it alone.
        megabytes: Its size on disk.
        raw: Files per second of the decoder.
        load: Files per second of `modalities.load`.
        overhead: Time of a load over time of a decode, less 1.
    """

    file: str
    decoder: str
    megabytes: float
    raw: float
    load: float
    overhead: float


class Case(NamedTuple):
    """A file, what is chosen of it, and why it is in the mix."""

    path: Path
    choices: Mapping[str, Any] = MappingProxyType({})
    why: str = ""


_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(
    path: Path,
    repeats: int = 7,
    *,
    choices: Mapping[str, Any] | None = None,
    clock: str = "wall",
) -> Row:
    """Time both ways of reading one file.

    Args:
        path: The file.
        repeats: How often each way.
        choices: Of `load`; the decoder too reads only this `frame` or `region`.
        clock: `wall` or `cpu`.

    Raises:
        ImageError: The file cannot be read.
    """
    (source, *_), _ = resolve(path)
    chosen = dict(choices or {})
    decoder, decode = _decoder(path, detect(source), chosen)
    times: dict[str, list[float]] = {"raw": [], "load": []}
    now = _CLOCKS[clock]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(repeats + 1):
            ways = [("raw", decode), ("load", lambda: modalities.load(path, **chosen))]
            for name, read in ways[:: 1 if turn % 2 else -1]:
                start = now()
                read()
                if turn:  # the first imports the libraries
                    times[name].append(now() - start)
    raw, load = (statistics.median(times[name]) for name in ("raw", "load"))
    size = path.stat().st_size / 1e6
    return Row(path.name, decoder, size, 1 / raw, 1 / load, load / raw - 1)


def _decoder(path: Path, kind: Format, choices: Mapping[str, Any]) -> tuple[str, Callable[[], Any]]:
    """The library that reads this format, and a function that has it decode the file."""
    import numpy as np

    if kind == "dicom":
        from pydicom import dcmread
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.pixels.utils import pixel_array

        # Lossless JPEG and JPEG-LS, which pydicom decodes through a plugin.
        codecs.add_to(
            get_decoder(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
        )
        if "frame" in choices:
            return "pydicom", lambda: pixel_array(path, index=choices["frame"])
        return "pydicom", lambda: dcmread(path).pixel_array
    if kind == "nifti":
        import nibabel

        untyped: Any = nibabel
        return "nibabel", lambda: untyped.load(path).get_fdata(dtype=np.float32)
    if kind == "tiff" and "region" in choices:
        from tiffslide import TiffSlide

        def region() -> object:
            x, y, width, height = choices["region"]
            with TiffSlide(path) as slide:
                return slide.read_region((x, y), 0, (width, height), as_array=True)

        return "tiffslide", region
    if kind == "tiff":
        import tifffile

        return "tifffile", lambda: tifffile.imread(path)
    from PIL import Image

    return "Pillow", lambda: np.asarray(Image.open(path))


def make(folder: Path) -> list[Case]:
    """Files of the sizes and kinds a clinic has, each with the reason it is in the mix."""
    import imagecodecs
    import nibabel
    import numpy as np
    import tifffile
    from PIL import Image
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
    )

    untyped: Any = nibabel
    rng = np.random.default_rng(0)

    def smooth(*shape: int) -> NDArray[np.float64]:
        ramps = [np.linspace(0, 5 + i, n) for i, n in enumerate(shape)]
        grid = np.sin(np.add.outer(ramps[0], ramps[1]))
        shown: NDArray[np.float64] = 500 * grid + rng.normal(0, 20, shape)
        return shown

    def stored(side: int) -> NDArray[np.uint16]:
        return (smooth(side, side) + 1024).clip(0, 4095).astype("<u2")

    def jpeg2000(pixels: NDArray[np.uint16]) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True)
        return stream.getvalue()

    def jpeg_lossless(pixels: NDArray[np.uint16]) -> bytes:
        return bytes(imagecodecs.ljpeg_encode(pixels, bitspersample=12))

    def jpeg_ls(pixels: NDArray[np.uint16]) -> bytes:
        return bytes(imagecodecs.jpegls_encode(pixels))

    cases: list[Case] = []
    for name, side, code, syntax, encode, why in (
        ("ct_slice.dcm", 512, "CT", ExplicitVRLittleEndian, None, "what scanners send"),
        ("ct_slice_rle.dcm", 512, "CT", RLELossless, None, "the codec of every toolkit"),
        ("ct_slice_jpegll.dcm", 512, "CT", JPEGLosslessSV1, jpeg_lossless, "most archives"),
        ("ct_slice_jpegls.dcm", 512, "CT", JPEGLSLossless, jpeg_ls, "newer archives"),
        ("film.dcm", 2048, "DX", ExplicitVRLittleEndian, None, "radiographs as sent"),
        ("film_j2k.dcm", 2048, "DX", JPEG2000Lossless, jpeg2000, "radiographs as archived"),
    ):
        pixels = stored(side)
        bits = 16 if syntax == JPEG2000Lossless else 12
        streams = [encode(pixels)] if encode else None
        _dicom(folder / name, pixels, streams, syntax, code, bits)
        cases.append(Case(folder / name, {}, why))
    frames = np.stack([stored(512) for _ in range(16)])
    _dicom(folder / "ct_enhanced.dcm", frames, None, ExplicitVRLittleEndian, "CT", 12)
    cases.append(Case(folder / "ct_enhanced.dcm", {}, "multi-frame with functional groups"))
    screens = np.stack([smooth(600, 800)] * 3, axis=-1)
    screen = (screens / 5 + 128).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(screen).save(stream, "JPEG", quality=90)
    cine = np.broadcast_to(screen, (30, *screen.shape))
    _dicom(folder / "cine_us.dcm", cine, [stream.getvalue()] * 30, JPEGBaseline8Bit, "US", 8)
    cases.append(Case(folder / "cine_us.dcm", {"frame": 12}, "ultrasound: one frame of a cine"))
    volume = np.stack([smooth(256, 256) for _ in range(64)], axis=-1).astype(np.int16)
    for name, why in (
        ("volume.nii", "research, unpacked"),
        ("volume.nii.gz", "research as it is shared"),
    ):
        untyped.save(untyped.Nifti1Image(volume, np.diag([-1.0, 1.0, 3.0, 1.0])), folder / name)
        cases.append(Case(folder / name, {}, why))
    colour = np.stack([smooth(1500, 2000) / 5 + 128] * 3, axis=-1).clip(0, 255).astype(np.uint8)
    for name, why in (
        ("photo.jpg", "fundus, skin and endoscopy data sets"),
        ("photo.png", "the same without loss"),
    ):
        Image.fromarray(colour).save(folder / name)
        cases.append(Case(folder / name, {}, why))
    Image.fromarray(stored(2048) * 16).save(folder / "film16.png")
    cases.append(Case(folder / "film16.png", {}, "radiographs of public data sets"))
    tifffile.imwrite(folder / "photo.tif", colour, compression="lzw")
    cases.append(Case(folder / "photo.tif", {}, "microscopes and laboratories"))
    with tifffile.TiffWriter(folder / "slide.tif") as writer:
        for step in (1, 2, 4):
            writer.write(
                np.tile(colour, (2, 2, 1))[::step, ::step],
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(step > 1),
            )
    region = (700, 500, 1024, 1024)
    cases.append(Case(folder / "slide.tif", {"region": region}, "a region of a whole slide"))
    return cases


def _dicom(
    path: Path,
    pixels: NDArray[Any],
    streams: list[bytes] | None,
    syntax: UID,
    code: str,
    bits: int,
) -> None:
    """Write an image, or the frames of a multi-frame one, compressed as in `streams`."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, "1.2.3", code
    colour = pixels.shape[-1] == 3
    shape = pixels.shape[:-1] if colour else pixels.shape
    ds.Rows, ds.Columns = shape[-2:]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "YBR_FULL_422" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    else:
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    if len(shape) == 3 and not colour:
        shared, place, scale = Dataset(), Dataset(), Dataset()
        place.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PlaneOrientationSequence = Items([place])
        scale.RescaleSlope, scale.RescaleIntercept = 1, -1024
        shared.PixelValueTransformationSequence = Items([scale])
        ds.SharedFunctionalGroupsSequence = Items([shared])
        groups = []
        for index in range(shape[0]):
            group, position = Dataset(), Dataset()
            position.ImagePositionPatient = [0, 0, 2.5 * index]
            group.PlanePositionSequence = Items([position])
            groups.append(group)
        ds.PerFrameFunctionalGroupsSequence = Items(groups)
    if streams:
        ds.PixelData = encapsulate(streams)
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
    else:
        ds.PixelData = pixels.tobytes()
    if syntax == RLELossless:
        ds.compress(RLELossless)
    ds.save_as(path, enforce_file_format=True)


def table(rows: Sequence[Row]) -> str:
    """The rows and their median overhead as text.

    >>> print(table([Row("a.png", "Pillow", 1.5, 40.0, 32.0, 0.25)]))
    file               MB  decoder    files/s  load/s  overhead
    a.png            1.50  Pillow        40.0    32.0     +25 %
    median overhead +25 %
    """
    wide = max(16, *(len(row.file) for row in rows))
    lines = [
        f"{'file':<{wide}} {'MB':>4}  {'decoder':<9}{'files/s':>9}{'load/s':>8}{'overhead':>10}"
    ]
    lines += [
        f"{r.file:<{wide}} {r.megabytes:>4.2f}  {r.decoder:<9}{r.raw:>9.1f}{r.load:>8.1f}"
        f"{100 * r.overhead:>+8.0f} %"
        for r in rows
    ]
    return "\n".join([*lines, f"median overhead {100 * _median(rows):+.0f} %"])


def _median(rows: Sequence[Row]) -> float:
    return statistics.median(row.overhead for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m modalities.bench", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: files made on the spot")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clock", choices=sorted(_CLOCKS), default="wall")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            cases = [Case(path) for path in args.files] or make(Path(folder))
            rows = [
                measure(case.path, args.repeats, choices=case.choices, clock=args.clock)
                for case in cases
            ]
        except modalities.ImageError as error:
            print(error, file=sys.stderr)
            return 1
    if args.json:
        found = {"files": [row._asdict() for row in rows], "median_overhead": _median(rows)}
        print(json.dumps(found, indent=2))
    else:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
