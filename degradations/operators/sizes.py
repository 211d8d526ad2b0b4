"""Transform lengths."""

from __future__ import annotations


def fast_length(size: int) -> int:
    """Smallest even number >= ``size`` whose only prime factors are 2, 3 and 5."""
    length = size + size % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2
