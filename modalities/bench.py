"""How fast files are read, beside the plain decoders: `python -m modalities.bench`.

The same files are decoded by pydicom, nibabel, Pillow or tifffile alone and loaded by
`modalities.load`, in turn, several times; each pair of medians gives an overhead. A load does
more than a decode: it hashes and checks the file, converts to float32 in physical units, and
chooses a window. Paths may be given; without any, the files are made here.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import modalities
from modalities.formats.source import Format, detect, resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def measure(path: Path, repeats: int = 7) -> Row:
    """Time both ways of reading one file.

    Raises:
        ImageError: The file cannot be read.
    """
    (source, *_), _ = resolve(path)
    decoder, decode = _decoder(path, detect(source))
    times: dict[str, list[float]] = {"raw": [], "load": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(repeats + 1):
            for name, read in (("raw", decode), ("load", lambda: modalities.load(path))):
                start = time.perf_counter()
                read()
                if turn:  # the first imports the libraries
                    times[name].append(time.perf_counter() - start)
    raw, load = (statistics.median(times[name]) for name in ("raw", "load"))
    size = path.stat().st_size / 1e6
    return Row(path.name, decoder, size, 1 / raw, 1 / load, load / raw - 1)


def _decoder(path: Path, kind: Format) -> tuple[str, Callable[[], Any]]:
    """The library that reads this format, and a function that has it decode the file."""
    import numpy as np

    if kind == "dicom":
        from pydicom import dcmread

        return "pydicom", lambda: dcmread(path).pixel_array
    if kind == "nifti":
        import nibabel

        untyped: Any = nibabel
        return "nibabel", lambda: untyped.load(path).get_fdata(dtype=np.float32)
    if kind == "tiff":
        import tifffile

        return "tifffile", lambda: tifffile.imread(path)
    from PIL import Image

    return "Pillow", lambda: np.asarray(Image.open(path))


def make(folder: Path) -> list[Path]:
    """Files of the sizes a clinic has: a slice, a film, a volume, photographs."""
    import nibabel
    import numpy as np
    import tifffile
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    untyped: Any = nibabel
    rng = np.random.default_rng(0)

    def smooth(*shape: int) -> NDArray[np.float64]:
        ramps = [np.linspace(0, 5 + i, n) for i, n in enumerate(shape)]
        grid = np.sin(np.add.outer(ramps[0], ramps[1]))
        shown: NDArray[np.float64] = 500 * grid + rng.normal(0, 20, shape)
        return shown

    paths = []
    for name, side, code, syntax in (
        ("ct_slice.dcm", 512, "CT", ExplicitVRLittleEndian),
        ("ct_slice_rle.dcm", 512, "CT", RLELossless),
        ("film.dcm", 2048, "DX", ExplicitVRLittleEndian),
        ("film_j2k.dcm", 2048, "DX", JPEG2000Lossless),
    ):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, "1.2.3", code
        ds.Rows = ds.Columns = side
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (smooth(side, side) + 1024).clip(0, 4095).astype("<u2").tobytes()
        if syntax == JPEG2000Lossless:
            from pydicom.encaps import encapsulate

            pixels = np.frombuffer(ds.PixelData, "<u2").reshape(side, side)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True)
            ds.PixelData = encapsulate([stream.getvalue()])
            ds["PixelData"].is_undefined_length = True
            ds.BitsStored, ds.HighBit = 16, 15
            ds.file_meta.TransferSyntaxUID = syntax
        elif syntax == RLELossless:
            ds.compress(RLELossless)
        ds.save_as(folder / name, enforce_file_format=True)
        paths.append(folder / name)
    volume = np.stack([smooth(256, 256) for _ in range(64)], axis=-1).astype(np.int16)
    for name in ("volume.nii", "volume.nii.gz"):
        untyped.save(untyped.Nifti1Image(volume, np.diag([-1.0, 1.0, 3.0, 1.0])), folder / name)
        paths.append(folder / name)
    colour = np.stack([smooth(1500, 2000) / 5 + 128] * 3, axis=-1).clip(0, 255).astype(np.uint8)
    for name in ("photo.jpg", "photo.png"):
        Image.fromarray(colour).save(folder / name)
        paths.append(folder / name)
    tifffile.imwrite(folder / "photo.tif", colour, compression="lzw")
    return [*paths, folder / "photo.tif"]


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
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = [measure(path, args.repeats) for path in args.files or make(Path(folder))]
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
