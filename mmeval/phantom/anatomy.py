"""Patients with known findings, and the physics that turns them into images.

Every image is computed from a small physical model, never painted: a chest film is a set of
line integrals and photon counts (Beer-Lambert), CT is in Hounsfield units with reconstruction
noise, MRI is a magnitude with Rician noise, tissue is two stains in optical density. The ground
truth is what was put in. These are test instruments; they are not, and do not look like, patients.

Coordinates: ``x`` runs from -1 at the image's left to 1 at its right, ``y`` from -1 (top) to 1.
Radiological images show the patient's right side at the image's left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SIZE = 256
"""Rows and columns of every simulated image, slice and slide."""

SLICES = 8
"""Axial slices of a CT or MRI volume; the findings sit in ``Patient.slice_index``."""

SLICE_MM = 5.0
PIXEL_MM = 1.0
SLIDE_MPP = 1.0
"""Microns per pixel of the tissue slide's full-resolution level."""


class Finding(NamedTuple):
    """How a finding is named in questions."""

    singular: str
    plural: str


FINDINGS: dict[str, Finding] = {
    "nodule": Finding("a nodule", "nodules"),
    "effusion": Finding("a pleural effusion", "pleural effusions"),
    "haemorrhage": Finding("a haemorrhage", "haemorrhages"),
    "cyst": Finding("a cyst", "cysts"),
    "tumour": Finding("a tumour", "tumours"),
    "exudate": Finding("an exudate", "exudates"),
    "necrosis": Finding("an area of necrosis", "areas of necrosis"),
    "follicle": Finding("a lymphoid follicle", "lymphoid follicles"),
}


class Scene(NamedTuple):
    """One kind of examination: how it was made, of what, and what can be found in it."""

    modality: str
    organ: str
    findings: tuple[str, ...]
    radius: tuple[float, float]


SCENES: dict[str, Scene] = {
    "chest film": Scene("xray", "chest", ("nodule", "effusion"), (0.10, 0.17)),
    "head CT": Scene("ct", "brain", ("haemorrhage",), (0.10, 0.18)),
    "abdominal CT": Scene("ct", "abdomen", ("cyst",), (0.10, 0.17)),
    "brain MRI": Scene("mri", "brain", ("tumour",), (0.10, 0.18)),
    "retina": Scene("fundus", "eye", ("haemorrhage", "exudate"), (0.10, 0.17)),
    "tissue": Scene("pathology", "colon", ("necrosis", "follicle"), (0.13, 0.21)),
}


class Lesion(NamedTuple):
    """A finding's place: centre and radius in image coordinates."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Patient:
    """One simulated patient as seen at one visit.

    Attributes:
        scene: Key of :data:`SCENES`.
        finding: Key of :data:`FINDINGS`, or None for a patient without any.
        lesions: Where the finding is; empty when ``finding`` is None.
        eye: ``"left"`` or ``"right"`` (used by the retina only).
        shape: Twelve anatomy numbers in [-1, 1], the same at every visit of one patient.
        noise_key: Key of this visit's noise, texture and positioning.
        slice_index: Which axial slice holds the lesions, counted from inferior.
    """

    scene: str
    finding: str | None
    lesions: tuple[Lesion, ...]
    eye: str
    shape: tuple[float, ...]
    noise_key: int
    slice_index: int = SLICES // 2

    @property
    def side(self) -> str | None:
        """Side of a single finding: the patient's, or the image's half; None otherwise."""
        if len(self.lesions) != 1:
            return None
        at_image_left = self.lesions[0].x < 0
        if SCENES[self.scene].modality in ("xray", "ct", "mri"):
            return "right" if at_image_left else "left"
        return "left" if at_image_left else "right"

    def box(self) -> tuple[int, int, int, int]:
        """Bounding box of the first lesion as percent of image width and height."""
        x, y, radius = self.lesions[0]
        edges = (x - radius, y - radius, x + radius, y + radius)
        if self.finding == "effusion":
            top = _fluid_level(radius) - 0.08
            inner = 0.12 if x > 0 else -0.76
            edges = (inner, top, inner + 0.64, 0.56)
        left, top, right, bottom = (int(np.clip(round(50 * (edge + 1)), 0, 100)) for edge in edges)
        return left, top, right, bottom


def generator(*key: int) -> np.random.Generator:
    """A random generator that depends on ``key`` alone, whatever was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def make_patient(
    rng: np.random.Generator, *, scene: str, finding: str | None = None, count: int = 1
) -> Patient:
    """Draw a patient of the given scene with ``count`` lesions of ``finding``."""
    shape = tuple(float(v) for v in rng.uniform(-1, 1, 12))
    eye = "right" if rng.random() < 0.5 else "left"
    slice_index = int(rng.integers(2, SLICES - 2))
    patient = Patient(scene, None, (), eye, shape, int(rng.integers(2**62)), slice_index)
    if finding is None:
        return patient
    return replace(patient, finding=finding, lesions=_place(rng, patient, finding, count))


def follow_up(rng: np.random.Generator, patient: Patient, change: str) -> tuple[Patient, Patient]:
    """The same patient at two visits between which the lesion grew, shrank or stayed.

    Args:
        rng: Source of the second visit's noise.
        patient: A patient with exactly one lesion.
        change: ``"larger"``, ``"smaller"`` or ``"unchanged"``; the diameter changes by a factor
            of 1.7, far beyond the 1.2 of the RECIST 1.1 rule for progression.
    """
    (lesion,) = patient.lesions
    low, high = 0.09, 0.153
    middle = float(rng.uniform(0.10, 0.15))
    first, second = {
        "larger": (low, high),
        "smaller": (high, low),
        "unchanged": (middle, middle),
    }[change]
    earlier = replace(patient, lesions=(lesion._replace(radius=first),))
    later = replace(
        patient,
        lesions=(lesion._replace(radius=second),),
        noise_key=int(rng.integers(2**62)),
    )
    return earlier, later


def _place(
    rng: np.random.Generator, patient: Patient, finding: str, count: int
) -> tuple[Lesion, ...]:
    """Put ``count`` separate lesions inside the organ."""
    low, high = SCENES[patient.scene].radius
    if count > 1:
        low, high = 0.75 * low, low
    side = -1.0 if rng.random() < 0.5 else 1.0
    if finding == "effusion":
        radius = float(rng.uniform(0.16, 0.24))
        return (Lesion(side * 0.45, 0.44, radius),)
    for _ in range(10_000):
        lesions: list[Lesion] = []
        for _ in range(60):
            if len(lesions) == count:
                return tuple(lesions)
            radius = float(rng.uniform(low, high))
            if count > 1:
                side = -1.0 if rng.random() < 0.5 else 1.0
            x, y = side * float(rng.uniform(0.1, 0.8)), float(rng.uniform(-0.75, 0.75))
            apart = all(np.hypot(x - o.x, y - o.y) > radius + o.radius + 0.05 for o in lesions)
            if apart and _allowed(patient, x, y, radius):
                lesions.append(Lesion(x, y, radius))
    raise RuntimeError(f"could not place {count} lesions in {patient.scene!r}")


def _allowed(patient: Patient, x: float, y: float, radius: float) -> bool:
    """Whether a lesion fits into the organ that can carry it."""
    if patient.scene == "chest film":
        inside = ((abs(x) - 0.44) / (0.30 - radius)) ** 2 + ((y + 0.07) / (0.56 - radius)) ** 2
        beside_heart = x < 0 or y < -0.15
        return inside < 1 and beside_heart
    if patient.scene in ("head CT", "brain MRI"):
        reach = np.hypot(x / 0.60, y / 0.74)
        return bool(reach < 1 - radius / 0.6 and abs(x) > radius + 0.04)
    if patient.scene == "abdominal CT":
        return bool(np.hypot((abs(x) - 0.42) / 0.30, (y + 0.02) / 0.42) < 1 - radius / 0.36)
    if patient.scene == "retina":
        disc = _disc_x(patient)
        clear = np.hypot(x - disc, y) > radius + 0.24
        return bool(clear and np.hypot(x, y) < 0.82 - radius)
    return bool(abs(x) < 0.92 - radius and abs(y) < 0.92 - radius and abs(x) > radius + 0.03)


# --- fields -----------------------------------------------------------------------------------


def _grid(patient: Patient, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Image coordinates under this visit's positioning error (a small shift)."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    dx, dy = rng.uniform(-0.012, 0.012, 2)
    return (axis[None, :] - np.float32(dx)), (axis[:, None] - np.float32(dy))


def _ellipse(x: Array, y: Array, cx: float, cy: float, a: float, b: float) -> Array:
    """Squared elliptical radius: below 1 inside."""
    return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2


def _inside(radius_squared: Array, edge: float = 0.06) -> Array:
    """Soft indicator of an ellipse, 1 inside and 0 outside, with a relative edge width."""
    return np.clip((1 - np.sqrt(radius_squared)) / edge + 0.5, 0, 1)


def _chord(radius_squared: Array) -> Array:
    """Thickness of an ellipsoid seen along z, as a fraction of its full depth."""
    return np.sqrt(np.maximum(1 - radius_squared, 0))


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Band-limited texture with zero mean and about unit variance."""
    import cv2

    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def _lesion_mask(patient: Patient, x: Array, y: Array, edge: float = 0.12) -> Array:
    """Union of the lesions as a soft mask."""
    mask = np.zeros((y.shape[0], x.shape[1]), np.float32)
    for lesion in patient.lesions:
        disc = _ellipse(x, y, lesion.x, lesion.y, lesion.radius, lesion.radius)
        mask = np.maximum(mask, _inside(disc, edge))
    return mask


# --- chest film -------------------------------------------------------------------------------

MU_SOFT, MU_LUNG, MU_BONE = 0.20, 0.05, 0.50
"""Linear attenuation at about 70 keV in 1/cm (soft tissue as water; NIST XCOM)."""


def _fluid_level(radius: float) -> float:
    """Height of a pleural effusion's surface; the radius stands for its amount."""
    return 0.62 - 1.5 * radius


def chest_film(patient: Patient, size: int = SIZE) -> Array:
    """Line integral ``p = ln(I0/I)`` of a chest film, measured with photon noise.

    Ellipsoids give the path lengths in closed form; the detector counts
    ``N ~ Poisson(I0 exp(-p))`` and the processed image is ``ln(I0/N)``.

    Returns:
        Array of shape (size, size), dimensionless, about 0 (air) to 6 (mediastinum).
    """
    rng = generator(patient.noise_key, 1)
    x, y = _grid(patient, size, rng)
    s = patient.shape
    half_cm = 18.0
    torso = _chord(_ellipse(x, y, 0.0, 0.15, 0.94 + 0.03 * s[0], 1.5)) * 2 * (9.5 + s[1])
    p = MU_SOFT * torso * 0.55
    lung_cm = np.zeros_like(p)
    for side in (-1.0, 1.0):
        lung = _ellipse(x, y, side * (0.44 + 0.02 * s[2]), -0.07, 0.33, 0.62 + 0.03 * s[3])
        dome = _inside(_ellipse(x, y, side * 0.46, 0.98 + 0.05 * s[4], 0.62, 0.55), 0.05)
        lung_cm = np.maximum(lung_cm, _chord(lung) * 15.0 * (1 - dome))
    lost = MU_SOFT - MU_LUNG
    for lesion in patient.lesions:
        if patient.finding == "effusion":
            # Fluid collects at the base; capillary action draws it up at the chest wall.
            level = _fluid_level(lesion.radius)
            rise = 0.28 * np.abs(x - np.sign(lesion.x) * 0.30)
            wet = np.clip((y - (level - rise)) / 0.05, 0, 1) * (np.sign(x) == np.sign(lesion.x))
            lung_cm = lung_cm * (1 - 0.95 * wet)
        else:
            ball = _ellipse(x, y, lesion.x, lesion.y, lesion.radius, lesion.radius)
            # A nodule displaces air, so it counts only as deep as the lung around it.
            depth_cm = np.minimum(_chord(ball) * 2 * lesion.radius * half_cm * 1.6, lung_cm)
            lung_cm = lung_cm - depth_cm
    p = p - lost * lung_cm * 0.55
    heart = _ellipse(x, y, 0.14, 0.30, 0.30 + 0.03 * s[5], 0.30 + 0.02 * s[6])
    p = p + lost * _chord(heart) * 7.0
    p = p + lost * _chord(_ellipse(x, y, 0.0, -0.1, 0.13, 0.9)) * 8.0
    spine = np.clip(1 - (np.abs(x) / 0.075) ** 4, 0, 1) * (0.75 + 0.25 * np.cos(y * 34 + s[7]))
    p = p + (MU_BONE - MU_SOFT) * 1.6 * spine
    ribs = np.zeros_like(p)
    for k in range(7):
        centre = -0.62 + 0.19 * k + 0.02 * s[8]
        arc = y - (centre - 0.22 + 0.9 * (np.abs(x) - 0.1) ** 2)
        cage = (np.abs(x) > 0.1) & (np.abs(x) < 0.84)
        ribs = ribs + np.exp(-((arc / 0.022) ** 2)) * cage
    p = p + (MU_BONE - MU_SOFT) * 0.45 * ribs
    p = p + 0.03 * _smooth_noise(rng, size, 24) * (torso > 0)
    photons = 4.0e4
    counts = rng.poisson(photons * np.exp(-np.maximum(p, 0))).astype(np.float32)
    return np.asarray(np.log(photons / np.maximum(counts, 1.0)), np.float32)


# --- computed tomography ----------------------------------------------------------------------


def _reconstruction_noise(rng: np.random.Generator, size: int, sd: float) -> Array:
    """Noise with the rising spectrum that filtered back-projection gives (ramp below the cut)."""
    import cv2

    white = rng.standard_normal((size, size)).astype(np.float32)
    blue = cv2.GaussianBlur(white, (0, 0), 0.8) - cv2.GaussianBlur(white, (0, 0), 2.5)
    return np.asarray(blue * (sd / float(blue.std())), np.float32)


def _through_plane(patient: Patient, index: int) -> float:
    """How much of a lesion a slice cuts: 1 in its own slice, less beside it."""
    return float(np.clip(1 - 0.55 * abs(index - patient.slice_index), 0, 1))


def head_ct(patient: Patient, index: int, size: int = SIZE) -> Array:
    """One axial slice of a head CT in Hounsfield units, shape (size, size)."""
    rng = generator(patient.noise_key, 2, index)
    x, y = _grid(patient, size, rng)
    s = patient.shape
    narrow = 1 - 0.02 * (index - SLICES // 2)
    a, b = (0.70 + 0.02 * s[0]) * narrow, (0.86 + 0.02 * s[1]) * narrow
    hu = np.full((size, size), -1000.0, np.float32)
    scalp = _inside(_ellipse(x, y, 0, 0, a + 0.06, b + 0.06), 0.03)
    bone = _inside(_ellipse(x, y, 0, 0, a + 0.02, b + 0.02), 0.03)
    brain = _inside(_ellipse(x, y, 0, 0, a - 0.06, b - 0.06), 0.03)
    hu = hu + scalp * (1000.0 + 20.0)
    hu = hu * (1 - bone) + 900.0 * bone
    folds = 3.0 * _smooth_noise(generator(int((s[11] + 2) * 1e9), 3), size, 22)
    hu = hu * (1 - brain) + (34.0 + folds) * brain
    for side in (-1.0, 1.0):
        horn = _ellipse(x - side * 0.25 * y, y, side * 0.11, -0.05, 0.05, 0.26 + 0.03 * s[2])
        hu = hu + (6.0 - hu) * _inside(horn, 0.2)
    bleed = _lesion_mask(patient, x, y) * _through_plane(patient, index)
    hu = hu + (72.0 - hu) * bleed
    return np.asarray(hu + _reconstruction_noise(rng, size, 4.0), np.float32)


def abdominal_ct(patient: Patient, index: int, size: int = SIZE) -> Array:
    """One axial slice of a contrast-enhanced abdominal CT in Hounsfield units, (size, size)."""
    rng = generator(patient.noise_key, 4, index)
    x, y = _grid(patient, size, rng)
    s = patient.shape
    hu = np.full((size, size), -1000.0, np.float32)
    a, b = 0.93 + 0.02 * s[0], 0.70 + 0.03 * s[1]
    skin = _inside(_ellipse(x, y, 0, 0, a, b), 0.02)
    wall = _inside(_ellipse(x, y, 0, 0, a - 0.07, b - 0.07), 0.03)
    hu = hu + skin * (1000.0 - 100.0)
    hu = hu * (1 - wall) + (-60.0 * wall)
    for cx, ca, value in ((-0.42, 0.40, 115.0), (0.44, 0.34, 125.0)):
        organ = _inside(_ellipse(x, y, cx + 0.02 * s[2], -0.02, ca, 0.50), 0.06)
        grain = 4.0 * _smooth_noise(rng, size, 40)
        hu = hu * (1 - organ) + (value + grain) * organ
    spine = _inside(_ellipse(x, y, 0, 0.36, 0.13, 0.12), 0.1)
    hu = hu * (1 - spine) + 420.0 * spine
    aorta = _inside(_ellipse(x, y, 0.05, 0.14, 0.07, 0.07), 0.15)
    hu = hu * (1 - aorta) + 190.0 * aorta
    cyst = _lesion_mask(patient, x, y) * _through_plane(patient, index)
    hu = hu + (4.0 - hu) * cyst
    return np.asarray(hu + _reconstruction_noise(rng, size, 11.0), np.float32)


# --- magnetic resonance -----------------------------------------------------------------------


def brain_mri(patient: Patient, index: int, size: int = SIZE) -> Array:
    """One axial T2-weighted slice: magnitude with coil shading and Rician noise, (size, size).

    Signal is in arbitrary units, about 0 (air) to 1000 (fluid).
    """
    rng = generator(patient.noise_key, 5, index)
    x, y = _grid(patient, size, rng)
    s = patient.shape
    narrow = 1 - 0.02 * (index - SLICES // 2)
    a, b = (0.70 + 0.02 * s[0]) * narrow, (0.86 + 0.02 * s[1]) * narrow
    scalp = _inside(_ellipse(x, y, 0, 0, a + 0.06, b + 0.06), 0.03)
    bone = _inside(_ellipse(x, y, 0, 0, a + 0.01, b + 0.01), 0.03)
    fluid = _inside(_ellipse(x, y, 0, 0, a - 0.05, b - 0.05), 0.03)
    brain = _inside(_ellipse(x, y, 0, 0, a - 0.08, b - 0.08), 0.04)
    white = _inside(_ellipse(x, y, 0, 0, a - 0.24, b - 0.26), 0.25)
    texture = _smooth_noise(generator(int((s[11] + 2) * 1e9), 6), size, 26)
    signal = 330.0 * scalp * (1 - bone) + 620.0 * fluid * (1 - brain)
    signal = signal + brain * (430.0 + 55.0 * texture) * (1 - 0.32 * white)
    for side in (-1.0, 1.0):
        horn = _ellipse(x - side * 0.25 * y, y, side * 0.11, -0.05, 0.05, 0.26 + 0.03 * s[2])
        signal = signal + (760.0 - signal) * _inside(horn, 0.2)
    mass = _lesion_mask(patient, x, y) * _through_plane(patient, index)
    signal = signal + (860.0 - signal) * mass
    shading = np.exp(0.12 * s[3] * x + 0.12 * s[4] * y + 0.08 * s[5] * (x**2 + y**2))
    signal = signal * shading
    noise = rng.standard_normal((2, size, size)).astype(np.float32) * 14.0
    return np.asarray(np.hypot(signal + noise[0], noise[1]), np.float32)


# --- retina -----------------------------------------------------------------------------------


def _disc_x(patient: Patient) -> float:
    """The optic disc is nasal: at the image's right in a right eye."""
    return 0.46 if patient.eye == "right" else -0.46


def retina(patient: Patient, size: int = SIZE) -> Array:
    """A fundus photograph as RGB in [0, 1], shape (size, size, 3).

    Vessels and blood absorb by Beer-Lambert, green most, as haemoglobin does.
    """
    rng = generator(patient.noise_key, 7)
    x, y = _grid(patient, size, rng)
    s = patient.shape
    toward_nose = 1.0 if patient.eye == "right" else -1.0
    fixed = generator(int((s[11] + 2) * 1e9), 8)
    rho = np.hypot(x, y)
    tint = np.array([0.86 + 0.06 * s[0], 0.43 + 0.05 * s[1], 0.20 + 0.04 * s[2]], np.float32)
    light = (1 - 0.32 * rho**2 + 0.05 * s[3] * x) * (1 + 0.025 * _smooth_noise(fixed, size, 30))
    image = light[..., None] * tint
    macula = np.exp(-(_ellipse(x, y, -0.14 * toward_nose, 0.04, 0.20, 0.20)))
    image = image * (1 - 0.38 * macula[..., None])
    disc = _inside(_ellipse(x, y, _disc_x(patient), 0.0, 0.155, 0.175), 0.15)
    pale = np.array([1.0, 0.82, 0.52], np.float32)
    image = image * (1 - disc[..., None]) + pale * disc[..., None]
    blood = np.zeros((size, size), np.float32)
    u = (x - _disc_x(patient)) * -toward_nose
    for sign in (-1.0, 1.0):
        for bend, width, reach in ((0.62, 0.026, 1.5), (0.30, 0.016, 1.1), (0.95, 0.014, 0.7)):
            wave = 0.03 * np.sin(9 * u + 6.0 * fixed.random())
            path = sign * (bend + 0.06 * s[4]) * np.sqrt(np.maximum(u + 0.02, 0)) + wave
            vessel = np.exp(-(((y - path) / width) ** 2)) * ((u > -0.02) & (u < reach))
            blood = np.maximum(blood, vessel)
    absorbance = np.array([0.25, 0.95, 0.75], np.float32)
    image = image * np.exp(-blood[..., None] * absorbance)
    mask = _lesion_mask(patient, x, y, edge=0.3)[..., None]
    if patient.finding == "haemorrhage":
        image = image * np.exp(-mask * absorbance * 1.7)
    elif patient.finding == "exudate":
        image = image * (1 - 0.85 * mask) + np.array([1.0, 0.92, 0.45], np.float32) * 0.85 * mask
    image = image + rng.standard_normal(image.shape).astype(np.float32) * 0.012
    stop = _inside(_ellipse(x, y, 0, 0, 0.97, 0.97), 0.015)
    return np.asarray(np.clip(image * stop[..., None], 0, 1), np.float32)


# --- tissue -----------------------------------------------------------------------------------

STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], np.float32)
"""Optical density of haematoxylin and eosin per RGB channel (Ruifrok and Johnston, 2001)."""


def tissue(patient: Patient, size: int = SIZE) -> Array:
    """A haematoxylin-and-eosin field as transmitted RGB in [0, 1], shape (size, size, 3)."""
    import cv2

    rng = generator(patient.noise_key, 9)
    x, y = _grid(patient, size, rng)
    s = patient.shape
    lesion = _lesion_mask(patient, x, y, edge=0.2)
    eosin = 0.42 + 0.05 * s[0] + 0.07 * _smooth_noise(rng, size, 20)
    glands = np.zeros((size, size), np.float32)
    nuclei = np.zeros((size, size), np.float32)
    centres = [
        ((i + 0.5 + 0.22 * rng.uniform(-1, 1)) / 4 * 2 - 1, (j + 0.5) / 4 * 2 - 1)
        for i in range(4)
        for j in range(4)
    ]
    seeds: list[tuple[float, float, float]] = []
    for cx, cy in centres:
        lumen = 0.085 + 0.02 * rng.random()
        glands = np.maximum(glands, _inside(_ellipse(x, y, cx, cy, lumen, lumen), 0.2))
        for angle in np.arange(0, 2 * np.pi, 0.42):
            ring = lumen + 0.05
            seeds.append((cx + ring * np.cos(angle), cy + ring * np.sin(angle), 0.021))
    for _ in range(170):
        px, py = rng.uniform(-1, 1, 2)
        seeds.append((float(px), float(py), 0.017))
    for spot in patient.lesions if patient.finding == "follicle" else ():
        crowd = int(2600 * spot.radius**2)
        angle = rng.uniform(0, 2 * np.pi, crowd)
        reach = spot.radius * np.sqrt(rng.random(crowd)) * 0.97
        seeds += [
            (float(spot.x + r * np.cos(t)), float(spot.y + r * np.sin(t)), 0.023)
            for r, t in zip(reach, angle, strict=True)
        ]
    to_pixel = 16 * size / 2
    for px, py, radius in seeds:
        centre = (round((px + 1) * to_pixel - 8), round((py + 1) * to_pixel - 8))
        cv2.circle(nuclei, centre, round(radius * to_pixel), 1.0, -1, cv2.LINE_AA, 4)
    soft = np.asarray(cv2.GaussianBlur(nuclei, (0, 0), 0.8), np.float32)
    haematoxylin = 0.06 + (0.95 + 0.1 * s[1]) * soft
    eosin = eosin * (1 - 0.85 * glands)
    if patient.finding == "necrosis":
        # Dead tissue has lost its nuclei and stains a flat, pale pink.
        haematoxylin = haematoxylin * (1 - 0.97 * lesion)
        eosin = eosin * (1 - lesion) + 0.16 * lesion
    elif patient.finding == "follicle":
        haematoxylin = haematoxylin + 0.45 * lesion
        eosin = eosin * (1 - 0.5 * lesion)
    od = haematoxylin[..., None] * STAINS[0] + np.maximum(eosin, 0)[..., None] * STAINS[1]
    light = 10.0 ** (-od)
    light = light + rng.standard_normal(light.shape).astype(np.float32) * 0.008
    return np.asarray(np.clip(light, 0, 1), np.float32)


# --- what a model sees ------------------------------------------------------------------------

XRAY_STORED_MAX = 4095
XRAY_WINDOW = (1450.0, 2300.0)
"""Centre and width written into the chest film's DICOM file, in stored values."""
CT_WINDOWS: dict[str, tuple[float, float]] = {"brain": (40.0, 80.0), "abdomen": (50.0, 400.0)}
"""Display windows by organ in HU: centre, width."""


def stored_film(p: Array) -> npt.NDArray[np.uint16]:
    """12-bit stored values of a chest film; 700 per unit of ``p``."""
    return np.asarray(np.clip(np.rint(p * 700.0), 0, XRAY_STORED_MAX), np.uint16)


def linear_window(values: Array, centre: float, width: float) -> Array:
    """DICOM linear VOI function (PS3.3 C.11.2.1.2.1) to [0, 1]."""
    shown = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.asarray(shown, np.float32)


def mri_window(volume: Array) -> tuple[float, float]:
    """Centre and width of an MRI display: from zero to the volume's 99.5th percentile."""
    top = float(np.percentile(volume, 99.5))
    return top / 2, top


SIMULATORS: dict[str, Callable[..., Array]] = {
    "chest film": chest_film,
    "head CT": head_ct,
    "abdominal CT": abdominal_ct,
    "brain MRI": brain_mri,
    "retina": retina,
    "tissue": tissue,
}
