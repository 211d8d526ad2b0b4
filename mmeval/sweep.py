"""Degraded copies of files and folders, and contact sheets: what `mmeval degrade` does.

Example:
    >>> from pathlib import Path
    >>> written, failures = degrade_folder(  # doctest: +SKIP
    ...     Path("films"), Path("films-noisy"), "general/gaussian_noise:3", seed=7
    ... )
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeval.errors import MmevalError
from mmeval.running import render
from mmeval.schema import ImageRef

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modalities import MedicalImage

    Picture = npt.NDArray[np.uint8]

__all__ = ["contact_sheet", "degrade_file", "degrade_folder", "fitting", "write_png"]

#: Beside the pictures of a folder: one JSON line per picture, with all numbers that made it.
MANIFEST = "degraded.jsonl"
SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)


def degrade_file(
    source: Path,
    target: Path,
    spec: str,
    *,
    modality: str | None = None,
    choices: Mapping[str, Any] | None = None,
    seed: int = 0,
    size: int | None = None,
) -> dict[str, Any]:
    """Writes a degraded copy of one image, as a model would be shown it.

    Args:
        source: An image file, or the folder of a series.
        target: A ``.png`` file.
        spec: Steps joined by ``+``, for example ``general/jpeg:2``.
        modality: How the image was made; by default what the file says.
        choices: How it is read, as for `modalities.load`.
        seed: Of the degradations.
        size: Longest edge of the picture in pixels; by default the image's own.

    Returns:
        What was done: ``sha256`` of the source, ``spec``, ``seed`` and ``steps`` with every number
        used. The random fields are keyed by the image's bytes, so the same file under any name
        gives the same picture.

    Raises:
        MmevalError: The target is not ``.png`` or cannot be written.
        modalities.ImageError: The source cannot be read.
        degradations.DegradationError: The spec is wrong, or does not fit the image.
    """
    import degradations

    reference = ImageRef(str(source), modality, dict(choices or {}))
    image = render.load(source, reference)
    identity = _identity(image, reference)
    worse = render.degrade(image, spec, id=identity, seed=seed)
    write_png(target, worse.render(size))
    spacing = image.spacing_mm
    steps = degradations.explain(
        spec,
        image.pixels.shape,
        None if spacing is None else (spacing[-2], spacing[-1]),
        id=identity,
        seed=seed,
    )
    sha256 = str(image.provenance["sha256"])
    return {
        "sha256": sha256,
        "spec": spec,
        "seed": seed,
        "modality": image.modality,
        "steps": steps,
    }


def degrade_folder(
    source: Path,
    target: Path,
    spec: str,
    *,
    modality: str | None = None,
    choices: Mapping[str, Any] | None = None,
    seed: int = 0,
    size: int | None = None,
    progress: bool = True,
) -> tuple[list[Path], dict[Path, str]]:
    """Writes degraded copies of all images in a folder and below it.

    Args:
        source: A folder; every file in it is one image.
        target: A folder, made if need be. ``a/b.dcm`` becomes ``a/b.dcm.png``, and
            ``degraded.jsonl`` gets one line per picture with the numbers that made it.
        spec: As for `degrade_file`.
        modality: As for `degrade_file`.
        choices: As for `degrade_file`.
        seed: As for `degrade_file`.
        size: As for `degrade_file`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The pictures written, and for each file that failed the reason.

    Raises:
        MmevalError: The folder is empty, or holds the target.
        degradations.DegradationError: The spec is wrong.
    """
    from tqdm import tqdm

    import degradations

    degradations.parse(spec)
    files = list(_files(source, target))
    written, failures = [], {}
    target.mkdir(parents=True, exist_ok=True)
    with (target / MANIFEST).open("w", encoding="utf-8") as manifest:
        for file in tqdm(files, unit="image", disable=not progress):
            relative = file.relative_to(source)
            out = target / relative.with_name(relative.name + ".png")
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                done = degrade_file(
                    file, out, spec, modality=modality, choices=choices, seed=seed, size=size
                )
            except (ValueError, OSError) as error:
                failures[relative] = str(error)
                continue
            picture = str(out.relative_to(target))
            manifest.write(json.dumps({"source": str(relative), "picture": picture} | done) + "\n")
            written.append(out)
    return written, failures


def _files(source: Path, target: Path) -> Iterator[Path]:
    """Files below a folder, sorted, without those below the target."""
    if source.resolve().is_relative_to(target.resolve()):
        raise MmevalError(f"{target}: holds the pictures to degrade; name another folder")
    outputs = target.resolve()
    found = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and not path.resolve().is_relative_to(outputs)
    ]
    if not found:
        raise MmevalError(f"{source}: holds no files")
    yield from found


def _identity(image: MedicalImage, reference: ImageRef) -> str:
    return render.image_id(str(image.provenance["sha256"]), reference)


def fitting(image: MedicalImage, patterns: Sequence[str] = ()) -> list[str]:
    """Names of the degradations that an image can be given.

    Args:
        image: A single plane.
        patterns: Names, or shell patterns such as ``ct/*`` and ``general/gaussian_noise@*``; a
            profile follows ``@``. Without patterns all names, profiles left out.

    Returns:
        Names, with their profile where one was asked for, in the order of the patterns.

    Raises:
        degradations.DegradationError: A pattern fits nothing.
    """
    import degradations

    def fits(name: str) -> bool:
        entry = degradations.get(name.partition("@")[0])
        if entry.modalities is not None and image.modality not in entry.modalities:
            return False
        if entry.channels is not None and image.pixels.shape[0] != entry.channels:
            return False
        if image.domain == "display" and entry.domain == "linear":
            return True
        return entry.domain in (image.domain, "display")

    plain = degradations.names()
    if not patterns:
        return [name for name in plain if fits(name)]
    profiles = [f"{name}@{each}" for name in plain for each in degradations.get(name).profiles]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        known = profiles if "@" in pattern else plain
        matches = [name for name in fnmatch.filter(known, pattern) if fits(name)]
        if not matches:
            name, _, profile = pattern.partition("@")
            if not set("*?[") & set(pattern):
                degradations.get(name).profile(profile or None)
            raise degradations.DegradationError(
                f"{pattern}: no degradation of this name fits a {image.modality} image in the "
                f"domain {image.domain} with {image.pixels.shape[0]} channels"
            )
        chosen |= dict.fromkeys(matches)
    return list(chosen)


def contact_sheet(
    source: Path,
    names: Sequence[str] = (),
    *,
    modality: str | None = None,
    choices: Mapping[str, Any] | None = None,
    seed: int = 0,
    tile: int = 224,
    progress: bool = True,
) -> Picture:
    """An image under many degradations: a row each, severity growing to the right.

    Args:
        source: As for `degrade_file`.
        names: Names or patterns, as for `fitting`; by default all that fit the image.
        modality: As for `degrade_file`.
        choices: As for `degrade_file`.
        seed: Of the degradations.
        tile: Longest edge of a tile, in pixels. Damage is done at full size first.
        progress: Whether to show a progress bar on standard error.

    Returns:
        uint8 RGB of shape (H, W, 3). Under each tile: the parameter that leads, and PSNR in dB and
        SSIM (Wang et al. 2004) of the full-size rendering against the clean one.
    """
    from tqdm import tqdm

    import degradations
    from degradations import sheet
    from degradations.similarity import psnr, ssim

    reference = ImageRef(str(source), modality, dict(choices or {}))
    image = render.load(source, reference)
    identity = _identity(image, reference)
    rows = fitting(image, names)
    clean = image.render()

    def tiles(name: str) -> Iterator[tuple[Picture, list[str]] | None]:
        base, _, title = name.partition("@")
        entry, profile = degradations.get(base), title or None
        lead = next(iter(entry.profile(profile).curves))
        yield clean, []
        for severity in SEVERITIES:
            if severity > entry.profile(profile).levels:
                yield None
                continue
            bad = render.degrade(image, f"{name}:{severity:g}", id=identity, seed=seed).render()
            yield (
                bad,
                [
                    f"{lead} {entry.parameters(severity, profile)[lead]:.4g}",
                    f"{psnr(clean, bad):.1f} dB  SSIM {ssim(clean, bad):.3f}",
                ],
            )

    return sheet.draw(
        ["clean", *(f"severity {level:g}" for level in SEVERITIES)],
        rows,
        (list(tiles(name)) for name in tqdm(rows, unit="row", disable=not progress)),
        tile=tile,
        lines=2,
        widest="99.99 dB  SSIM 0.999",
    )


def write_png(path: Path, pixels: Picture) -> None:
    """Writes uint8 RGB of shape (H, W, 3), without loss.

    Raises:
        MmevalError: The name does not end in ``.png``, or the file cannot be written.
    """
    from PIL import Image

    if path.suffix.lower() != ".png":
        raise MmevalError(f"{path}: pictures are written as .png, without loss")
    try:
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise MmevalError(f"{path}: cannot be written: {error.strerror}") from None
