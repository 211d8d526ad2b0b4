"""What backends share: option probabilities from token probabilities, and prices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from mmeval.errors import MmevalError

__all__ = ["checked_price", "from_first_token", "logsumexp", "renormalised", "spellings"]

# How an answer may be spelled by a model; the spellings' probabilities are added up. Letters keep
# their case: "a" is an article, not option A.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {"yes": ("yes", "Yes"), "no": ("no", "No")}


def spellings(candidate: str) -> tuple[str, ...]:
    """Returns the texts that count as a candidate, without blanks around them."""
    return _SPELLINGS.get(candidate, (candidate,))


def logsumexp(values: Sequence[float]) -> float:
    """Returns ``log(sum(exp(values)))``; minus infinity of nothing."""
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(value - top) for value in values))


def renormalised(totals: Mapping[str, float]) -> dict[str, float]:
    """Returns log-probabilities that sum to one over the candidates."""
    norm = logsumexp(list(totals.values()))
    return {candidate: total - norm for candidate, total in totals.items()}


def from_first_token(
    candidates: Sequence[str], alternatives: Iterable[tuple[str, float]]
) -> dict[str, float] | None:
    """Reads option log-probabilities from what a server tells about the first answer token.

    Args:
        candidates: Answers to compare.
        alternatives: Text and log-probability of the likeliest tokens.

    Returns:
        Candidate to log-probability, renormalised over the candidates. Servers tell the likeliest
        tokens only: a candidate that is not among them gets the smallest probability told, which
        is an upper bound of its own. None if no candidate is among them, as where an answer is
        spelled with several tokens or follows a preamble.
    """
    told = [(text.strip(), logprob) for text, logprob in alternatives]
    floor = min((logprob for _, logprob in told), default=-math.inf)
    found = {
        candidate: logsumexp([lp for text, lp in told if text in spellings(candidate)])
        for candidate in candidates
    }
    if all(total == -math.inf for total in found.values()):
        return None
    return renormalised(
        {name: floor if total == -math.inf else total for name, total in found.items()}
    )


def checked_price(price: object) -> dict[str, float]:
    """Returns a price in dollars per million tokens: ``{"prompt": 2.5, "completion": 10}``.

    Raises:
        MmevalError: Something else is written there.
    """
    if not isinstance(price, Mapping) or set(price) != {"prompt", "completion"}:
        raise MmevalError(
            "model.price: expected {prompt: ..., completion: ...} in dollars per million tokens, "
            f"got {price!r}"
        )
    for name, value in price.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise MmevalError(f"model.price.{name}: expected dollars, 0 or more, got {value!r}")
    return {name: float(value) for name, value in price.items()}
