"""Degradations of stained sections on glass and of their scans, on display pixels.

Dyes, cells, dust and ink absorb, so they add up in optical density (`operators.stain`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from degradations.degradation import Numbers, Spacing, register
from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

_ONLY = ("pathology",)


# --- the stain and the section


def _stain_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    fade = parameters["fade"]
    shift = fade * parameters["shift_over_fade"]
    numbers = {"tissue_density": parameters["tissue_density"]}
    if key is None:
        return numbers | {"fade": fade, "shift": shift}
    # The image id decides which stain suffers more; severity alone decides by how much.
    imbalance = parameters["imbalance"] * (2.0 * key.uniform("fade") - 1.0)
    sign = 1.0 if key.uniform("shift") < 0.5 else -1.0
    return numbers | {
        "haematoxylin_scale": 1.0 - fade * (1.0 + imbalance),
        "eosin_scale": 1.0 - fade * (1.0 - imbalance),
        "haematoxylin_shift": sign * shift,
        "eosin_shift": -sign * shift,
    }


@register("pathology/stain", modalities=_ONLY, channels=3, eight_bit=True, resolve=_stain_numbers)
def stain(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Haematoxylin and eosin faded and off balance, in optical density; glass stays white."""
    from degradations.operators import stain

    return stain.restain(
        image,
        scale=(numbers["haematoxylin_scale"], numbers["eosin_scale"]),
        shift=(numbers["haematoxylin_shift"], numbers["eosin_shift"]),
        tissue_density=numbers["tissue_density"],
    )


def _separation_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    angle = parameters["angle_deg"]
    if key is None:
        return {"angle_deg": angle}
    # The image id decides which dye turns further; together they close the same angle.
    share = 0.25 + 0.5 * key.uniform("share")
    return {"haematoxylin_deg": angle * share, "eosin_deg": angle * (1.0 - share)}


@register(
    "pathology/stain_separation",
    modalities=_ONLY,
    channels=3,
    eight_bit=True,
    resolve=_separation_numbers,
)
def stain_separation(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Colours of the two dyes turned towards each other, so that they are told apart less well."""
    from degradations.operators import stain

    return stain.turn(image, numbers["haematoxylin_deg"], numbers["eosin_deg"])


def _thickness_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    ratio = parameters["ratio"]
    if key is None:
        return {"ratio": ratio}
    return {"density_factor": ratio if key.uniform("sense") < 0.5 else 1.0 / ratio}


@register(
    "pathology/thickness",
    modalities=_ONLY,
    eight_bit=True,
    channelwise=True,
    resolve=_thickness_numbers,
)
def thickness(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Section cut too thick or too thin (drawn per image): optical density scaled."""
    from degradations.operators import tone

    return tone.curve(image, tone.power, numbers["density_factor"])


def _fold_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"width_px": parameters["width"] * max(size)}


@register("pathology/fold", modalities=_ONLY, resolve=_fold_numbers)
def fold(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Tissue folded over along a curved line: two layers absorb in a band beside it."""
    from degradations.operators import slide

    return slide.fold(image, numbers["width_px"], key)


def _mark_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"count": parameters["count"], "width_px": parameters["width"] * max(size)}


@register("pathology/knife_marks", modalities=_ONLY, resolve=_mark_numbers)
def knife_marks(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Parallel scratches of a nicked blade, where the tissue is gone and glass shines through."""
    from degradations.operators import slide

    return slide.knife_marks(image, numbers["count"], numbers["width_px"], key)


# --- on and under the coverslip


def _spot_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    """Radii as fractions of the longer side to pixels; the rest as it is."""
    scaled = ("smallest", "largest")
    kept = {name: value for name, value in parameters.items() if name not in scaled}
    return kept | {f"{name}_px": parameters[name] * max(size) for name in scaled}


@register("pathology/dark_spots", modalities=_ONLY, resolve=_spot_numbers)
def dark_spots(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Opaque specks of dust, pigment or precipitate, of soft edges."""
    from degradations.operators import slide

    radius = numbers["smallest_px"], numbers["largest_px"]
    return slide.dark_spots(image, numbers["count"], radius, numbers["density"], key)


@register("pathology/bubble", modalities=_ONLY, resolve=_spot_numbers)
def bubble(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Air bubbles under the coverslip: a pale veil, bent rays, and a dark rim."""
    from degradations.operators import slide

    radius = numbers["smallest_px"], numbers["largest_px"]
    return slide.bubbles(image, numbers["count"], radius, numbers["veil"], numbers["rim"], key)


def _cell_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    """A red cell has its size in the body; without a spacing, the field of view is assumed."""
    pixel_um = parameters["field_um"] / max(size)
    if spacing_mm is not None:
        pixel_um = 1000.0 * (spacing_mm[0] * spacing_mm[1]) ** 0.5
    return {
        "count": parameters["count"],
        "radius_px": 0.5 * parameters["diameter_um"] / pixel_um,
        "density": parameters["density"],
    }


@register("pathology/blood_cells", modalities=_ONLY, channels=3, resolve=_cell_numbers)
def blood_cells(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Red cells spilt over the tissue: eosin-coloured disks, paler in the middle."""
    from degradations.operators import slide

    return slide.blood_cells(image, numbers["count"], numbers["radius_px"], numbers["density"], key)


def _ink_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {
        "strokes": parameters["strokes"],
        "width_px": parameters["width"] * max(size),
        "density": parameters["density"],
        "black": parameters["black"],
    }


@register("pathology/marker_ink", modalities=_ONLY, channels=3, resolve=_ink_numbers)
def marker_ink(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Strokes of a blue, green or black pen on the glass, which add to the optical density."""
    from degradations.operators import slide

    return slide.marker_ink(
        image,
        numbers["strokes"],
        numbers["width_px"],
        numbers["density"],
        key,
        black=numbers["black"] >= 0.5,
    )


# --- in the scanner


def _defocus_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {"radius_px": parameters["radius"] * max(size)}


@register("pathology/defocus", modalities=_ONLY, eight_bit=True, resolve=_defocus_numbers)
def defocus(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Focal plane beside the section: every point becomes a disk, in linear light if in colour."""
    from degradations.operators import blur

    return blur.defocus(image, numbers["radius_px"], linear=image.shape[0] == 3)


def _stitching_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    offset = parameters["offset"]
    return {
        "offset_px": offset * max(size),
        "gain": offset * parameters["gain_over_offset"],
        "tiles": parameters["tiles"],
    }


@register("pathology/stitching", modalities=_ONLY, resolve=_stitching_numbers)
def stitching(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Tiles of the scan that lie and shine a little differently, with seams between them.

    Displacements are a percent of the picture, so nothing changes its place in the tissue.
    """
    from degradations.operators import slide

    return slide.stitching(image, numbers["offset_px"], numbers["gain"], numbers["tiles"], key)


def _balance_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    stops = parameters["red_over_blue_stops"]
    if key is None:
        return {"red_over_blue_stops": stops}
    return {"red_over_blue_stops": stops if key.uniform("sign") < 0.5 else -stops}


@register(
    "pathology/white_balance",
    modalities=_ONLY,
    channels=3,
    eight_bit=True,
    resolve=_balance_numbers,
)
def white_balance(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Lamp of another colour than the scanner was set to, warm or cold; glass is tinted too."""
    from degradations.operators import colour, tone

    gains = colour.balance(numbers["red_over_blue_stops"])
    # The brightest channel of glass keeps its value, as the exposure is set to glass.
    return tone.expose(image, *(stop - max(gains) for stop in gains))


def _jpeg_numbers(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return {
        "quality": round(parameters["quality"]),
        "tile_px": parameters["tile_px"],
        "share": parameters["share"],
    }


@register("pathology/scanner_jpeg", modalities=_ONLY, resolve=_jpeg_numbers)
def scanner_jpeg(image: Tensor, numbers: Numbers, key: Key) -> Tensor:
    """Tiles of the slide, each stored as a JPEG of its own, with seams of the codec between."""
    from degradations.operators import slide

    side = int(numbers["tile_px"])
    return slide.tiled_jpeg(image, int(numbers["quality"]), side, numbers["share"], key)
