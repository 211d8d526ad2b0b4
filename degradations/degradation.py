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

#: What pixels can be: ``display`` values in [0, 1], Hounsfield units, or ``linear``: measured
#: values that grow in proportion to a signal or an exposure.
DOMAINS = ("display", "hu", "linear")
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
        return low + share * (high - low)  # exact where both are equal


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

    @functools.cached_property
    def levels(self) -> int:
        """Highest severity."""
        return min(len(curve.values) for curve in self.curves.values())


class Operator(Protocol):
    """Degrades one image."""

    def __call__(self, image: Tensor, numbers: Numbers, key: Key) -> Tensor:
        """Return a new (C, H, W) tensor of the image's type, in any memory layout."""
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
        domain: What pixels must be, one of `DOMAINS`.
        modalities: Those it makes sense for; None for all.
        geometric: Whether anatomy moves, so that answers about place or side may change.
        channels: Number of channels it needs; None for any.
        eight_bit: Whether the operator takes uint8 as it is and returns uint8, rounded; others
            are handed float32 and their result is rounded for them.
        channelwise: Whether equal channels stay equal of themselves, to the bits that one of
            them alone would get; the engine then need not look whether an image is gray.
        volumetric: Whether the operator takes whole volumes (C, D, H, W), and nothing else.
        cause: What goes wrong in a clinic.
        formula: What the operator does, in one line of text.
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
    eight_bit: bool
    channelwise: bool
    volumetric: bool
    cause: str
    formula: str
    version: int
    curves: Mapping[str, Curve]
    constants: Mapping[str, float]
    source: str
    profiles: Mapping[str, Profile]
    operator: Operator = field(repr=False)
    resolve: Resolver = field(repr=False)
    _computed: dict[tuple[float, str | None], Numbers] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def profile(self, name: str | None = None) -> Profile:
        """The published profile of this name, or our own.

        Raises:
            DegradationError: There is no such profile.
        """
        if name is None:
            return self._own
        if name not in self.profiles:
            raise DegradationError(
                f"{self.name} has no profile {name!r}{_did_you_mean(name, self.profiles)}"
            )
        return self.profiles[name]

    @functools.cached_property
    def _own(self) -> Profile:
        return Profile(self.curves, self.source)

    def parameters(self, severity: float, profile: str | None = None) -> Numbers:
        """Parameters at a severity, constants included.

        Raises:
            DegradationError: Unknown profile, or a severity outside its levels.
        """
        # Interpolating curves would be much of the time that a small image takes.
        computed = self._computed.get((severity, profile))
        if computed is None:
            computed = self._computed[severity, profile] = self._interpolated(severity, profile)
        return dict(computed)

    def _interpolated(self, severity: float, profile: str | None) -> Numbers:
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
    eight_bit: bool = False,
    channelwise: bool = False,
    volumetric: bool = False,
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
        channels: Number of channels it needs; None for any.
        eight_bit: Whether the operator handles uint8 itself.
        channelwise: Whether the operator treats all channels alike, each by itself.
        volumetric: Whether the operator takes whole volumes, and nothing else.
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
            eight_bit=eight_bit,
            channelwise=channelwise,
            volumetric=volumetric,
            cause=entry.get("cause", ""),
            formula=entry.get("formula", ""),
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


def names(*, volumes: bool = False) -> list[str]:
    """Names of all degradations of single planes, sorted.

    Args:
        volumes: Whether to add those that need a volume.
    """
    return sorted(name for name, entry in _registry.items() if volumes or not entry.volumetric)


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


@functools.lru_cache(maxsize=1024)
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
    spacing_mm: Sequence[float] | None = None,
    *,
    id: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The numbers a spec comes to on an image, without applying it.

    Args:
        spec: What would be applied.
        shape: Of the image; the last two entries are height and width.
        spacing_mm: (row, column), as for `apply`.
        id: Image id; with it, numbers drawn per image (a direction, say) are told too, and
            `replay` can repeat the result.
        seed: As for `apply`.

    Returns:
        One JSON-able dict per step: ``name``, ``severity``, ``profile``, ``version``, ``domain``,
        ``source``, ``approximate``, ``id``, ``seed``, ``occurrence`` (how often the same
        degradation came before), ``parameters`` (from the table) and ``numbers`` (on this image,
        units in the names). A step of severity 0 has neither parameters nor numbers.

    Raises:
        DegradationError: As `parse`.
    """
    spacing = _checked_spacing(spacing_mm)
    size = (int(shape[-2]), int(shape[-1]))
    told = []
    for step, occurrence in _counted(parse(spec)):
        entry = get(step.name)
        parameters: Numbers = {}
        numbers: Numbers = {}
        if step.severity > 0:
            key = None if id is None else Key(seed, id, step.name, occurrence)
            parameters = entry.parameters(step.severity, step.profile)
            numbers = entry.resolve(parameters, size, spacing, key)
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
                "id": id,
                "seed": seed,
                "occurrence": occurrence,
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
    spacing_mm: Sequence[float] | None = None,
    modality: str | None = None,
    assume_window: tuple[float, float] | None = None,
) -> Tensor:
    """Degrade a batch of images.

    The result of an image depends on its pixels, id, spec and the seed only. An image whose
    channels are equal is degraded as one channel, and its channels stay equal (except by colour
    degradations, which need three). Images are worked on one at a time: on a CPU that stays in
    cache, and it makes the result exactly independent of the batch.

    Args:
        pixels: (B, C, H, W) on any device, of any memory layout, or volumes (B, C, D, H, W): each
            slice is then an image of its own, with the id ``<id>/slice<number>``, except for the
            degradations that need a volume. float32: ``display`` values in
            [0, 1], Hounsfield units, or ``linear`` values; uint8: ``display`` values times 255,
            which are rounded, not truncated, after every step. Not modified.
        spec: One for all images, or one for each.
        domain: What the pixels are, one of `DOMAINS`.
        ids: One per image; the same id gives the same random numbers.
        seed: Any integer.
        spacing_mm: (row, column) distance between pixels, for volumes also (slice, row, column).
            Degradations of physical size state in `explain` what they assume without it.
        modality: When given, degradations that do not fit it are refused.
        assume_window: (centre, width) in Hounsfield units that the display pixels of a CT were
            windowed with; lets ``hu`` degradations run on them. Values beyond the window are
            lost to it, so this is an approximation. Degradations of ``linear`` pixels run on
            display pixels as if these were proportional to the signal.

    Returns:
        The same shape and type, on the same device. ``display`` values are clamped to
        [0, 1], others are not clamped. At severity 0 a copy, bit for bit.

    Raises:
        DegradationError: A bad spec; pixels of a wrong shape, type or range; a degradation that
            fits neither domain nor modality.
    """
    specs = [spec] * len(ids) if isinstance(spec, str) else list(spec)
    _check_pixels(pixels, domain, ids, len(specs), volumes=True)
    shape = pixels.shape
    volumes = len(shape) == 5
    if volumes and spacing_mm is not None:
        spacing_mm = spacing_mm[-2:]
    spacing = _checked_spacing(spacing_mm)
    size = (shape[-2], shape[-1])
    chains = {text: _counted(parse(text)) for text in dict.fromkeys(specs)}
    for chain in chains.values():
        for step, _ in chain:
            entry = get(step.name)
            _check_fit(entry, domain, modality, assume_window, shape[1])
            if entry.volumetric and not volumes:
                raise DegradationError(
                    f"{entry.name} needs volumes (B, C, D, H, W), got shape {tuple(shape)}"
                )

    def one(image: Tensor, image_id: str, step: Step, occurrence: int) -> Tensor:
        entry = get(step.name)
        key = Key(seed, image_id, step.name, occurrence)
        parameters = entry.parameters(step.severity, step.profile)
        numbers = entry.resolve(parameters, size, spacing, key)
        return _operate(image, entry, numbers, key, domain, assume_window)

    def degrade(row: int) -> Tensor:
        image = pixels[row]
        for step, occurrence in chains[specs[row]]:
            if step.severity == 0:
                continue
            if volumes and not get(step.name).volumetric:
                alone = functools.partial(one, step=step, occurrence=occurrence)
                image = _slices(image, alone, ids[row])
            else:
                image = one(image, ids[row], step, occurrence)
        return image

    return _each(pixels, degrade)


def replay(
    pixels: Tensor,
    told: Sequence[Sequence[Mapping[str, Any]]],
    *,
    domain: str,
    assume_window: tuple[float, float] | None = None,
) -> Tensor:
    """Repeat what `explain` told, from its numbers alone.

    Args:
        pixels: As for `apply`.
        told: For each image what `explain` returned for it, with its ``id``.
        domain: As for `apply`.
        assume_window: As for `apply`.

    Returns:
        What `apply` returned, bit for bit.

    Raises:
        DegradationError: The record lacks the id, or was made by another version of a
            degradation, whose pixels would differ.

    Example:
        >>> import torch
        >>> image, spec = torch.rand(1, 1, 32, 32), "general/motion_blur:2"
        >>> told = explain(spec, image.shape, id="a", seed=7)
        >>> again = replay(image, [told], domain="display")
        >>> torch.equal(again, apply(image, spec, domain="display", ids=["a"], seed=7))
        True
    """
    ids = []
    for steps in told:
        for step in steps:
            entry = get(step["name"])
            if step["version"] != entry.version:
                raise DegradationError(
                    f"{entry.name} was version {step['version']} when this was recorded and is "
                    f"version {entry.version} now; its pixels differ"
                )
            if step["id"] is None:
                raise DegradationError(
                    f"{entry.name}: the record names no image; call explain with id and seed"
                )
            _check_fit(entry, domain, None, assume_window, pixels.shape[1])
        ids.append(str(steps[0]["id"]) if steps else "")
    _check_pixels(pixels, domain, ids, len(told))

    def degrade(row: int) -> Tensor:
        image = pixels[row]
        for step in told[row]:
            if step["severity"] > 0:
                key = Key(step["seed"], step["id"], step["name"], step["occurrence"])
                numbers = dict(step["numbers"])
                image = _operate(image, get(step["name"]), numbers, key, domain, assume_window)
        return image

    return _each(pixels, degrade)


def touched(clean: Tensor, degraded: Tensor, *, threshold: float | None = None) -> Tensor:
    """The mask of pixels that a degradation changed.

    Args:
        clean: (B, C, H, W) pixels before.
        degraded: The same after.
        threshold: Smallest difference of any channel that counts, in the pixels' own units; by
            default half a level of an 8-bit display, which suits display pixels.

    Returns:
        (B, 1, H, W) bool. Its mean is the fraction of pixels touched.

    Example:
        >>> import torch
        >>> half = torch.full((1, 3, 64, 64), 0.5)
        >>> noisy = apply(half, "general/gaussian_noise:5", domain="display", ids=["a"], seed=0)
        >>> bool(touched(half, noisy).float().mean() > 0.9)
        True
    """
    if clean.shape != degraded.shape or clean.dtype != degraded.dtype:
        raise DegradationError(
            f"clean and degraded pixels must be alike, got {tuple(clean.shape)} {clean.dtype} "
            f"and {tuple(degraded.shape)} {degraded.dtype}"
        )
    if threshold is None:
        threshold = 0.5 if not clean.is_floating_point() else 0.5 / 255.0
    difference = (degraded.float() - clean.float()).abs()
    return difference.amax(dim=1, keepdim=True) >= threshold


def _each(pixels: Tensor, degrade: Callable[[int], Tensor]) -> Tensor:
    """A new batch of what ``degrade`` makes of every row, in the layout of ``pixels``."""
    if pixels.requires_grad:
        import torch

        if torch.is_grad_enabled():
            with torch.no_grad():
                return _each(pixels, degrade)
    images = pixels.shape[0]
    if images == 1:
        alone = degrade(0)
        # One image that is new and lies as the batch does needs no copy.
        if alone.data_ptr() != pixels.data_ptr() and _lies_as(alone, pixels):
            return alone[None]
    from degradations.operators.planes import empty_like

    out: Tensor = empty_like(pixels)
    for row in range(images):
        out[row].copy_(alone if images == 1 else degrade(row))
    return out


def _lies_as(image: Tensor, pixels: Tensor) -> bool:
    """Whether an image has the strides of those in a batch; those of single channels are free."""
    own, theirs = image.stride(), pixels.stride()[1:]
    alike = own == theirs or (image.shape[0] == 1 and own[1:] == theirs[1:])
    return alike and 0 not in own


def _slices(volume: Tensor, degrade: Callable[[Tensor, str], Tensor], volume_id: str) -> Tensor:
    """A new volume of what ``degrade`` makes of every slice of (C, D, H, W)."""
    from degradations.operators.planes import empty_like

    out: Tensor = empty_like(volume)
    for number in range(volume.shape[1]):
        out[:, number] = degrade(volume[:, number], f"{volume_id}/slice{number}")
    return out


def _operate(
    image: Tensor,
    entry: Degradation,
    numbers: Numbers,
    key: Key,
    domain: str,
    assume_window: tuple[float, float] | None,
) -> Tensor:
    """One step on one image: gray as one channel, in the step's own domain and type."""
    import torch

    may_be_gray = not entry.channelwise and entry.channels is None and not entry.volumetric
    as_one = may_be_gray and len(image) > 1 and _is_gray(image)
    work = image[:1] if as_one else image
    if entry.domain == "hu" and work.shape[0] != 1:
        raise DegradationError(f"{entry.name} needs a gray image, got one in colour")
    eight_bit = image.dtype == torch.uint8
    if eight_bit and not entry.eight_bit:
        work = work.float().div_(255.0)
    if entry.domain == "hu" and domain != "hu":
        centre, width = assume_window or (0.0, 1.0)
        hu = (work - 0.5) * width + centre
        work = (entry.operator(hu, numbers, key) - centre) / width + 0.5
    else:
        work = entry.operator(work, numbers, key)
    if work.dtype != torch.uint8:
        if domain == "display":
            # In place, but for a result that was spread from fewer values.
            work = work.clamp(0.0, 1.0) if 0 in work.stride() else work.clamp_(0.0, 1.0)
        if eight_bit:
            work = work.mul(255.0).round_().to(torch.uint8)
    return work.expand(len(image), -1, -1) if as_one else work


def _is_gray(image: Tensor) -> bool:
    """Whether all channels are equal; a few pixels settle it for most colour pictures."""
    _, height, width = image.shape
    # NumPy needs a fraction of the time of several tensor operations on so few values.
    values: Any = image.numpy() if image.is_cpu else image
    few = values[:, :: height // 8 + 1, :: width // 8 + 1]
    return all(bool((part[1:] == part[:1]).all()) for part in (few, image))


def _counted(steps: Sequence[Step]) -> list[tuple[Step, int]]:
    """Steps with how often their degradation came before, so that repeats draw anew."""
    if len(steps) == 1:
        return [(steps[0], 0)]
    before = [step.name for step in steps]
    return [(step, before[:place].count(step.name)) for place, step in enumerate(steps)]


def _check_pixels(
    pixels: Tensor, domain: str, ids: Sequence[str], specs: int, *, volumes: bool = False
) -> None:
    import torch

    shape = tuple(pixels.shape)
    if len(shape) not in ((4, 5) if volumes else (4,)) or 0 in shape[1:]:
        or_volumes = " or (B, C, D, H, W)" if volumes else ""
        raise DegradationError(f"pixels must be (B, C, H, W){or_volumes}, got shape {shape}")
    dtype = pixels.dtype
    eight_bit = dtype == torch.uint8
    if not eight_bit and dtype != torch.float32:
        raise DegradationError(f"pixels must be float32 or uint8, got {dtype}")
    images = shape[0]
    if isinstance(ids, str) or len(ids) != images or specs != images:
        raise DegradationError(
            f"{images} images need as many ids and specs, got {len(ids)} ids and {specs} specs"
        )
    for own in ids:
        if not isinstance(own, str):
            raise DegradationError("ids must be strings")
    if domain not in DOMAINS:
        raise DegradationError(f"unknown domain {domain!r}; there are: {', '.join(DOMAINS)}")
    if eight_bit:
        if domain != "display":
            raise DegradationError(f"uint8 pixels are display values, got domain {domain!r}")
        return
    if images == 0:
        return
    low, high = (float(value) for value in torch.aminmax(pixels))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DegradationError("pixels must be finite; replace NaN and infinity before degrading")
    if domain == "display" and (low < 0.0 or high > 1.0):
        raise DegradationError(
            f"display pixels must lie in [0, 1], got [{low:g}, {high:g}]; "
            "scale them (8-bit values: pass uint8) or name their domain"
        )


def _checked_spacing(spacing_mm: Sequence[float] | None) -> Spacing | None:
    if spacing_mm is None:
        return None
    if len(spacing_mm) != 2 or not all(0.0 < float(mm) < math.inf for mm in spacing_mm):
        raise DegradationError(
            f"spacing_mm must be (row, column), positive millimetres, got {tuple(spacing_mm)}"
        )
    row, column = spacing_mm
    return float(row), float(column)


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
    if entry.domain == domain or (entry.domain, domain) == ("linear", "display"):
        return
    if domain != "display":
        raise DegradationError(
            f"{entry.name} works on {entry.domain} pixels, got {domain}; "
            "convert the image with to_display() before this step"
        )
    if assume_window is None:
        raise DegradationError(
            f"{entry.name} works on {entry.domain} pixels, got {domain}; degrade before "
            "windowing, or name the window of the picture with assume_window=(centre, width)"
        )
    if not assume_window[1] > 0.0:
        raise DegradationError(f"assume_window must have a positive width, got {assume_window}")
