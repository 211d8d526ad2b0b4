"""Degradations as data: the registry, spec strings, severities and the engine that applies them.

A spec is one or several steps joined by ``+``; a step is ``name:severity`` or
``name@profile:severity``. Severity is a number with up to four decimals, from 0 (identity) to the
number of levels, which is 5 except for profiles that publish fewer. Between levels, parameters are
interpolated.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from degradations.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

#: Numbers that describe one step on one image, with units in the names (``sigma_px``).
Numbers = dict[str, float]
#: (row, column) distance between pixel centres in millimetres.
Spacing = tuple[float, float]

_STEP = re.compile(
    r"(?P<name>[a-z0-9_]+/[a-z0-9_]+)(@(?P<profile>[a-z0-9_./-]+))?:(?P<severity>\d+(\.\d{1,4})?)"
)


class DegradationError(ValueError):
    """A degradation that does not exist, cannot be parsed, or does not fit the image."""


@dataclass(frozen=True)
class Curve:
    """How one parameter grows with severity.

    Attributes:
        values: The parameter at severities 1, 2, ...
        identity: Its value at severity 0, where it does nothing.
        unit: What it counts.
        scale: In which of its functions it is interpolated between levels.
    """

    values: tuple[float, ...]
    identity: float
    unit: str
    scale: Literal["linear", "reciprocal"] = "linear"

    def at(self, severity: float) -> float:
        """The parameter at a severity between 0 and the number of levels."""
        knots = (self.identity, *self.values)
        below = min(math.floor(severity), len(self.values) - 1)
        share = severity - below
        if share in (0.0, 1.0):
            return knots[below + round(share)]
        low, high = knots[below], knots[below + 1]
        if self.scale == "reciprocal":
            inverse = (1.0 - share) / low + share / high
            return 1.0 / inverse if inverse else math.inf
        return (1.0 - share) * low + share * high


@dataclass(frozen=True)
class Profile:
    """A set of curves: our own scale, or the settings that somebody published.

    Attributes:
        curves: By parameter name; all of one length.
        source: Where the values come from.
        approximate: Whether the published degradation is known to differ; ``source`` says how.
    """

    curves: Mapping[str, Curve]
    source: str
    approximate: bool = False

    @property
    def levels(self) -> int:
        """Highest severity."""
        return min(len(curve.values) for curve in self.curves.values())


class Operator(Protocol):
    """Degrades one image."""

    def __call__(self, image: Tensor, numbers: Numbers, key: Key) -> Tensor:
        """Return a new (C, H, W) float32 tensor."""
        ...


class Resolver(Protocol):
    """Turns parameters into the numbers that an operator needs on one image."""

    def __call__(
        self,
        parameters: Numbers,
        size: tuple[int, int],
        spacing_mm: Spacing | None,
        key: Key | None,
    ) -> Numbers:
        """Return the numbers; without a key, leave out those drawn per image."""
        ...


@dataclass(frozen=True)
class Degradation:
    """A named, graded corruption.

    Attributes:
        name: ``<modality or general>/<name>``.
        description: One line for people.
        domain: What pixels must be: ``display`` in [0, 1], or ``hu``.
        modalities: Those it makes sense for; None for all.
        geometric: Whether anatomy moves, so that answers about place or side may change.
        channels: Number of channels it needs; None for one or three.
        version: Rises whenever the same spec, seed and id would give other pixels.
        curves: Our own parameter curves over severities 1 to 5.
        constants: Parameters that do not grow with severity.
        source: Where formula and values come from.
        profiles: Published settings by name.
        operator: Does the work.
        resolve: Prepares the numbers for it.
    """

    name: str
    description: str
    domain: str
    modalities: tuple[str, ...] | None
    geometric: bool
    channels: int | None
    version: int
    curves: Mapping[str, Curve]
    constants: Mapping[str, float]
    source: str
    profiles: Mapping[str, Profile]
    operator: Operator = field(repr=False)
    resolve: Resolver = field(repr=False)

    def profile(self, name: str | None = None) -> Profile:
        """The published profile of this name, or our own.

        Raises:
            DegradationError: There is no such profile.
        """
        if name is None:
            return Profile(self.curves, self.source)
        if name not in self.profiles:
            raise DegradationError(
                f"{self.name} has no profile {name!r}{_did_you_mean(name, self.profiles)}"
            )
        return self.profiles[name]

    def parameters(self, severity: float, profile: str | None = None) -> Numbers:
        """Parameters at a severity, constants included.

        Raises:
            DegradationError: Unknown profile, or a severity outside its levels.
        """
        chosen = self.profile(profile)
        if not 0.0 <= severity <= chosen.levels:
            of = f"{self.name}@{profile}" if profile else self.name
            raise DegradationError(
                f"{of}: severity must lie between 0 and {chosen.levels}, got {severity:g}"
            )
        return {name: curve.at(severity) for name, curve in chosen.curves.items()} | dict(
            self.constants
        )


@dataclass(frozen=True)
class Step:
    """One link of a chain; ``str(step)`` is its spec."""

    name: str
    severity: float
    profile: str | None = None

    def __str__(self) -> str:
        """The step as it is written in a spec."""
        profile = f"@{self.profile}" if self.profile else ""
        return f"{self.name}{profile}:{self.severity:g}"


_registry: dict[str, Degradation] = {}


def register(
    name: str,
    *,
    domain: str = "display",
    modalities: tuple[str, ...] | None = None,
    geometric: bool = False,
    channels: int | None = None,
    resolve: Resolver | None = None,
) -> Callable[[Operator], Operator]:
    """Decorator: register an operator as a degradation.

    Its docstring's first line becomes the description; its curves are read from
    ``severities/<modality or general>.toml``.

    Args:
        name: ``<modality or general>/<name>``.
        domain: Domain of the pixels that the operator takes.
        modalities: Where it may be used; None for everywhere.
        geometric: Whether anatomy moves.
        channels: Number of channels it needs; None for one or three.
        resolve: Turns parameters into numbers for one image; by default they pass as they are.

    Returns:
        The decorator.

    Raises:
        DegradationError: The name is taken, or has no entry in the table.
    """

    def add(operator: Operator) -> Operator:
        if name in _registry:
            raise DegradationError(f"{name} is already registered")
        table = _table(name.partition("/")[0])
        if name not in table:
            raise DegradationError(
                f"{name} has no entry in severities/{name.partition('/')[0]}.toml"
            )
        entry = table[name]
        own = _profile(entry)
        _registry[name] = Degradation(
            name=name,
            description=(operator.__doc__ or "").partition("\n")[0],
            domain=domain,
            modalities=modalities,
            geometric=geometric,
            channels=channels,
            version=entry["version"],
            curves=own.curves,
            constants=entry.get("constants", {}),
            source=own.source,
            profiles={key: _profile(value) for key, value in entry.get("profiles", {}).items()},
            operator=operator,
            resolve=resolve or _as_they_are,
        )
        return operator

    return add


def _as_they_are(
    parameters: Numbers, size: tuple[int, int], spacing_mm: Spacing | None, key: Key | None
) -> Numbers:
    return parameters


@functools.cache
def _table(family: str) -> dict[str, Any]:
    path = Path(__file__).parent / "severities" / f"{family}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _profile(entry: Mapping[str, Any]) -> Profile:
    curves = {
        name: Curve(
            values=tuple(float(value) for value in row["values"]),
            identity=float(row["identity"]),
            unit=row["unit"],
            scale=row.get("scale", "linear"),
        )
        for name, row in entry["parameters"].items()
    }
    return Profile(curves, entry["source"], entry.get("approximate", False))


def names() -> list[str]:
    """Names of all degradations, sorted."""
    return sorted(_registry)


def get(name: str) -> Degradation:
    """The degradation of this name.

    Raises:
        DegradationError: There is none; the message suggests the closest.
    """
    if name not in _registry:
        raise DegradationError(f"unknown degradation {name!r}{_did_you_mean(name, _registry)}")
    return _registry[name]


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    import difflib

    if not known:
        return ""
    short = {key.rpartition("/")[2]: key for key in known}
    close = difflib.get_close_matches(name, known, 1) or [
        short[match] for match in difflib.get_close_matches(name.rpartition("/")[2], short, 1)
    ]
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(sorted(known))}"


def parse(spec: str) -> tuple[Step, ...]:
    """Read a spec such as ``ct/low_dose:3+general/jpeg:2``.

    Returns:
        Its steps, in order, all of them known and within their levels.

    Raises:
        DegradationError: Bad syntax, unknown name or profile, severity out of range.
    """
    steps = []
    for text in spec.split("+"):
        match = _STEP.fullmatch(text.strip())
        if match is None:
            raise DegradationError(
                f"cannot read {text.strip()!r} in degradation spec {spec!r}; "
                "write name:severity or name@profile:severity, joined by '+', "
                "for example general/gaussian_blur:3"
            )
        step = Step(match["name"], float(match["severity"]), match["profile"])
        get(step.name).parameters(step.severity, step.profile)
        steps.append(step)
    return tuple(steps)


def explain(
    spec: str,
    shape: Sequence[int],
    spacing_mm: Spacing | None = None,
    *,
    id: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The numbers a spec comes to on an image, without applying it.

    Args:
        spec: What would be applied.
        shape: Of the image; the last two entries are height and width.
        spacing_mm: (row, column), as for `apply`.
        id: Image id; with it, numbers drawn per image (a direction, say) are told too.
        seed: As for `apply`.

    Returns:
        One JSON-able dict per step: ``name``, ``severity``, ``profile``, ``version``, ``domain``,
        ``source``, ``approximate``, ``parameters`` (from the table) and ``numbers`` (on this
        image, units in the names). A step of severity 0 has neither parameters nor numbers.

    Raises:
        DegradationError: As `parse`.
    """
    _check_spacing(spacing_mm)
    size = (int(shape[-2]), int(shape[-1]))
    told = []
    for step, occurrence in _counted(parse(spec)):
        entry = get(step.name)
        parameters: Numbers = {}
        numbers: Numbers = {}
        if step.severity > 0:
            key = None if id is None else Key(seed, id, step.name, occurrence)
            parameters = entry.parameters(step.severity, step.profile)
            numbers = entry.resolve(parameters, size, spacing_mm, key)
        profile = entry.profile(step.profile)
        told.append(
            {
                "name": step.name,
                "severity": step.severity,
                "profile": step.profile,
                "version": entry.version,
                "domain": entry.domain,
                "source": profile.source,
                "approximate": profile.approximate,
                "parameters": parameters,
                "numbers": numbers,
            }
        )
    return told


def apply(
    pixels: Tensor,
    spec: str | Sequence[str],
    *,
    domain: str,
    ids: Sequence[str],
    seed: int,
    spacing_mm: Spacing | None = None,
    modality: str | None = None,
    assume_window: tuple[float, float] | None = None,
) -> Tensor:
    """Degrade a batch of images.

    The result of an image depends on its pixels, id, spec and the seed only. An image whose
    channels are equal is degraded as one channel, and its channels stay equal (except by colour
    degradations, which need three). Images are worked on one at a time: on a CPU that stays in
    cache, and it makes the result exactly independent of the batch.

    Args:
        pixels: (B, C, H, W) float32 on any device, C 1 or 3. ``display``: values in [0, 1];
            ``hu``: Hounsfield units. Not modified.
        spec: One for all images, or one for each.
        domain: What the pixels are.
        ids: One per image; the same id gives the same random numbers.
        seed: Any integer.
        spacing_mm: (row, column) distance between pixels. Degradations of physical size state in
            `explain` what they assume without it.
        modality: When given, degradations that do not fit it are refused.
        assume_window: (centre, width) in Hounsfield units that the display pixels of a CT were
            windowed with; lets ``hu`` degradations run on them. Values beyond the window are
            lost to it, so this is an approximation.

    Returns:
        (B, C, H, W) float32 on the same device. ``display`` values are clamped to [0, 1], ``hu``
        values are not clamped. At severity 0 a copy, bit for bit.

    Raises:
        DegradationError: A bad spec; pixels of a wrong shape, type or range; a degradation that
            fits neither domain nor modality.
    """
    import torch

    specs = [spec] * len(ids) if isinstance(spec, str) else list(spec)
    _check_pixels(pixels, domain, ids, specs)
    _check_spacing(spacing_mm)
    chains = {text: _counted(parse(text)) for text in set(specs)}
    for chain in chains.values():
        for step, _ in chain:
            _check_fit(get(step.name), domain, modality, assume_window, pixels.shape[1])
    with torch.no_grad():
        out = pixels.detach().clone()
        for row, (image_id, text) in enumerate(zip(ids, specs, strict=True)):
            image = out[row]
            for step, occurrence in chains[text]:
                if step.severity > 0:
                    key = Key(seed, image_id, step.name, occurrence)
                    image = _apply_step(image, step, key, domain, spacing_mm, assume_window)
            out[row] = image
    return out


def _apply_step(
    image: Tensor,
    step: Step,
    key: Key,
    domain: str,
    spacing_mm: Spacing | None,
    assume_window: tuple[float, float] | None,
) -> Tensor:
    """One step on one image: gray as one channel, and in the step's own domain."""
    entry = get(step.name)
    channels = image.shape[0]
    work = image
    if channels == 3 and entry.channels is None and bool((image[1:] == image[:1]).all()):
        work = image[:1]
    if entry.domain == "hu" and work.shape[0] != 1:
        raise DegradationError(f"{entry.name} needs a gray image, got one in colour")
    parameters = entry.parameters(step.severity, step.profile)
    numbers = entry.resolve(parameters, (work.shape[-2], work.shape[-1]), spacing_mm, key)
    if entry.domain != domain and assume_window is not None:
        centre, width = assume_window
        hu = (work - 0.5) * width + centre
        work = (entry.operator(hu, numbers, key) - centre) / width + 0.5
    else:
        work = entry.operator(work, numbers, key)
    if domain == "display":
        work = work.clamp(0.0, 1.0)
    return work.expand(channels, -1, -1)


def _counted(steps: Sequence[Step]) -> list[tuple[Step, int]]:
    """Steps with how often their degradation came before, so that repeats draw anew."""
    before = [step.name for step in steps]
    return [(step, before[:place].count(step.name)) for place, step in enumerate(steps)]


def _check_pixels(pixels: Tensor, domain: str, ids: Sequence[str], specs: Sequence[str]) -> None:
    import torch

    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape[2:]:
        raise DegradationError(
            f"pixels must be (B, C, H, W) with C 1 or 3, got shape {tuple(pixels.shape)}"
        )
    if pixels.dtype != torch.float32:
        raise DegradationError(f"pixels must be float32, got {pixels.dtype}")
    if isinstance(ids, str) or len(ids) != len(pixels) or len(specs) != len(pixels):
        raise DegradationError(
            f"{len(pixels)} images need as many ids and specs, got {len(ids)} ids "
            f"and {len(specs)} specs"
        )
    if not all(isinstance(image_id, str) for image_id in ids):
        raise DegradationError("ids must be strings")
    if domain not in ("display", "hu"):
        raise DegradationError(f"unknown domain {domain!r}; did you mean 'display' or 'hu'?")
    if len(pixels) == 0:
        return
    low, high = (float(value) for value in torch.aminmax(pixels))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DegradationError("pixels must be finite; replace NaN and infinity before degrading")
    if domain == "display" and (low < 0.0 or high > 1.0):
        raise DegradationError(
            f"display pixels must lie in [0, 1], got [{low:g}, {high:g}]; "
            "scale them (8-bit values: divide by 255) or pass domain='hu'"
        )


def _check_spacing(spacing_mm: Spacing | None) -> None:
    if spacing_mm is None:
        return
    if len(spacing_mm) != 2 or not all(0.0 < float(mm) < math.inf for mm in spacing_mm):
        raise DegradationError(
            f"spacing_mm must be (row, column), positive millimetres, got {tuple(spacing_mm)}"
        )


def _check_fit(
    entry: Degradation,
    domain: str,
    modality: str | None,
    assume_window: tuple[float, float] | None,
    channels: int,
) -> None:
    if modality is not None and entry.modalities is not None and modality not in entry.modalities:
        raise DegradationError(
            f"{entry.name} is for {', '.join(entry.modalities)} images, not for {modality}"
        )
    if entry.channels is not None and channels != entry.channels:
        raise DegradationError(f"{entry.name} needs {entry.channels} channels, got {channels}")
    if entry.domain == domain:
        return
    if domain != "display":
        raise DegradationError(
            f"{entry.name} works on {entry.domain} pixels, got {domain}; "
            "convert the image with to_display() before this step"
        )
    if entry.domain != "hu" or assume_window is None:
        raise DegradationError(
            f"{entry.name} works on {entry.domain} pixels, got {domain}; degrade before "
            "windowing, or name the window of the picture with assume_window=(centre, width)"
        )
    if not assume_window[1] > 0.0:
        raise DegradationError(f"assume_window must have a positive width, got {assume_window}")
