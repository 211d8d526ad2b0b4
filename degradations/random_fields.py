"""Counter-based random fields: every value is a pure function of (key, stream, position).

There is no generator state, so a field does not depend on batch size, order, worker or chunk.
The bits come from 32-bit integer arithmetic, which is exact on every device; uniform and normal
fields are therefore identical on CPU and GPU. Poisson counts pass through ``exp`` in double
precision and may differ by one count where a cumulative probability is hit to 1e-15.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from degradations.keys import Key

#: Words hashed at a time on the CPU: 256 KiB of int32 stays in the second-level cache.
_CPU_CHUNK = 1 << 16
#: Rate from which Poisson counts come from a normal deviate instead of exact inversion.
POISSON_EXACT_BELOW = 32.0


def _signed(word: int) -> int:
    """A 32-bit word as the int32 with the same bits."""
    return word - (1 << 32) if word >= 1 << 31 else word


def _xor_shift(x: Tensor, bits: int) -> None:
    """``x ^= x >> bits`` with a logical shift; torch shifts int32 arithmetically."""
    shifted = x >> bits
    x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - bits)) - 1))


def _hash(counter: Tensor, low: int, high: int) -> Tensor:
    """Hash int32 counters in place, under a 64-bit key.

    The mixing constants are those of C. Wellons' ``triple32`` permutation (public domain); the
    two key words enter before its first and second multiplication, so that two keys do not
    merely permute one sequence.
    """
    counter.bitwise_xor_(_signed(low))
    _xor_shift(counter, 17)
    counter.mul_(_signed(0xED5AD4BB)).add_(_signed(high))
    _xor_shift(counter, 11)
    counter.mul_(_signed(0xAC4C1B51))
    _xor_shift(counter, 15)
    counter.mul_(_signed(0x31848BAB))
    _xor_shift(counter, 14)
    return counter


def _words(key: Key, stream: str, count: int, device: torch.device) -> Iterator[Tensor]:
    """The first ``count`` random int32 words of a stream, in chunks."""
    low, high = key.words(stream)
    chunk = _CPU_CHUNK if device.type == "cpu" else max(count, 1)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        yield _hash(torch.arange(start, stop, dtype=torch.int32, device=device), low, high)


@functools.cache
def _normal_table(device: torch.device) -> Tensor:
    """Standard normal values of 65536 equally likely bins: bin means, scaled to variance 1.

    Built on the CPU in double precision and then moved, so that every device reads one table.
    """
    edges = torch.special.ndtri(torch.linspace(0.0, 1.0, (1 << 16) + 1, dtype=torch.float64))
    density = torch.exp(-0.5 * edges.square()) / math.sqrt(2.0 * math.pi)
    means = (density[:-1] - density[1:]) * (1 << 16)
    means = (means - means.flip(0)) / 2.0
    return (means / means.square().mean().sqrt()).float().to(device)


def normal(key: Key, stream: str, shape: Sequence[int], device: torch.device | str) -> Tensor:
    """Standard normal field by table inversion of the distribution.

    Each value uses 16 random bits, so the tails end at 4.4 standard deviations.

    Args:
        key: Whose field.
        stream: Name of the field within the degradation, for those that need several.
        shape: Shape of the result; positions count in row-major order.
        device: Where the field is made.

    Returns:
        float32 tensor of mean 0 and variance 1, the same bits on every device.
    """
    device = torch.device(device)
    count = math.prod(shape)
    table = _normal_table(device)
    out = torch.empty(count + count % 2, dtype=torch.float32, device=device)
    start = 0
    for words in _words(key, stream, (count + 1) // 2, device):
        index = words.view(torch.int16).to(torch.int32).add_(1 << 15)
        stop = start + index.numel()
        torch.index_select(table, 0, index, out=out[start:stop])
        start = stop
    return out[:count].reshape(tuple(shape))


def uniform(key: Key, stream: str, shape: Sequence[int], device: torch.device | str) -> Tensor:
    """Uniform float32 field in the open interval (0, 1), a multiple of 2**-24; see `normal`."""
    device = torch.device(device)
    parts = [
        (words >> 9).bitwise_and_((1 << 23) - 1).float().add_(0.5).mul_(2.0**-23)
        for words in _words(key, stream, math.prod(shape), device)
    ]
    return _join(parts, shape, torch.float32, device)


def poisson(key: Key, stream: str, rate: Tensor) -> Tensor:
    """Poisson counts with the given rates.

    Below a rate of `POISSON_EXACT_BELOW` the distribution function is inverted exactly. Above,
    the quantile is its third-order Cornish-Fisher expansion about the normal, rounded; the
    distribution function is then off by less than 4e-4, and less at higher rates. Both read the
    same uniform number, so counts of two rates under one key rise and fall together.

    Args:
        key: Whose field.
        stream: Name of the field within the degradation.
        rate: Expected counts, at least 0, any shape.

    Returns:
        float64 tensor of whole numbers, on the device of ``rate``.
    """
    parts = [
        words.to(torch.int64).bitwise_and_((1 << 32) - 1).double().add_(0.5).mul_(2.0**-32)
        for words in _words(key, stream, rate.numel(), rate.device)
    ]
    level = _join(parts, (rate.numel(),), torch.float64, rate.device)
    flat = rate.reshape(-1).double()
    low = flat < POISSON_EXACT_BELOW
    counts = torch.empty_like(flat)
    counts[low] = _poisson_inverse(level[low], flat[low])
    counts[~low] = _poisson_expansion(level[~low], flat[~low])
    return counts.reshape(rate.shape)


def _poisson_inverse(level: Tensor, rate: Tensor) -> Tensor:
    """Smallest count whose cumulative probability reaches ``level``, by summing upward."""
    probability = torch.exp(-rate)
    cumulative = probability.clone()
    counts = torch.zeros_like(rate)
    # 32-bit levels end 1.2e-10 below 1, less than 6.4 standard deviations; 12 leave room.
    last = math.ceil(POISSON_EXACT_BELOW + 12.0 * math.sqrt(POISSON_EXACT_BELOW))
    for count in range(1, last):
        above = level > cumulative
        if not bool(above.any()):
            break
        counts += above
        probability.mul_(rate).div_(count)
        cumulative += probability
    return counts


def _poisson_expansion(level: Tensor, rate: Tensor) -> Tensor:
    z: Tensor = torch.special.ndtri(level)
    root = rate.sqrt()
    quantile = rate + root * z + (z.square() - 1.0) / 6.0 + z * (1.0 - z.square()) / (72.0 * root)
    return quantile.round().clamp_(min=0.0)


def _join(
    parts: list[Tensor], shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    if not parts:
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    joined: Tensor = torch.cat(parts)
    return joined.reshape(tuple(shape))
