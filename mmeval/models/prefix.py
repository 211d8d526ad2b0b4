"""Questions on the same pictures: the pictures and the text before the questions run once.

Every group of questions has one prefix: the tokens up to where its questions part, the pictures
among them. The prefixes run through the model as a batch and leave their keys and values in its
cache. The cache is then copied from groups to questions, and each question goes on from its copy::

    prefixes   [ pad | pictures of A ]        questions   [ pad | pictures of A | pad | A, 1st ]
               [ pictures of B       ]   ->               [ pad | pictures of A |     A, 2nd   ]
                                                          [ pictures of B       | pad | B, 1st ]

Padding is masked and takes no position, so each question sees what it would see alone. That holds
where attention is causal and positions follow the mask; `mmeval.models.transformers` compares both
ways before it relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Group", "NotShareableError", "Split", "grouped", "prefixes", "questions", "split"]


class NotShareableError(ValueError):
    """These questions cannot go on from one prefix."""


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that share their pictures.

    Attributes:
        rows: Their places in the batch; the first one's prompt stands for all.
        tail: Tokens of that prompt behind the prefix.
    """

    rows: tuple[int, ...]
    tail: int


@dataclass(frozen=True, slots=True)
class Split:
    """A batch taken apart.

    Attributes:
        groups: One prefix each.
        of_row: The group of each question.
        suffixes: Tokens of each question behind its group's prefix, at least one.
    """

    groups: tuple[Group, ...]
    of_row: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]


def grouped(shared: Sequence[str]) -> list[list[int]]:
    """Returns the places of equal values, in the order of their first ones."""
    places: dict[str, list[int]] = {}
    for row, value in enumerate(shared):
        places.setdefault(value, []).append(row)
    return list(places.values())


def split(
    groups: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]], image_tokens: frozenset[int]
) -> Split:
    """Finds where the questions of each group part.

    Args:
        groups: Places of the questions that share pictures.
        tokens: Prompts, each picture still the mark that the chat template made.
        image_tokens: What stands for pictures.

    Raises:
        NotShareableError: Questions part before the last picture.
    """
    found: list[Group] = []
    of_row = [0] * len(tokens)
    suffixes: list[tuple[int, ...]] = [()] * len(tokens)
    for number, rows in enumerate(groups):
        first = tokens[rows[0]]
        ends = [
            max((i + 1 for i, token in enumerate(tokens[row]) if token in image_tokens), default=0)
            for row in rows
        ]
        common = ends[0] if len(rows) == 1 else len(first) - 1
        for row in rows[1:]:
            common = min(common, len(tokens[row]) - 1)
            same = (i for i in range(common) if tokens[row][i] != first[i])
            common = next(same, common)
        if not 0 < max(ends) <= common < min(len(tokens[row]) for row in rows):
            raise NotShareableError("the questions part before the last picture")
        found.append(Group(tuple(rows), len(first) - common))
        for row in rows:
            of_row[row] = number
            suffixes[row] = tuple(tokens[row][common:])
    return Split(tuple(found), tuple(of_row), tuple(suffixes))


def prefixes(
    inputs: Mapping[str, Any], parts: Split, tokens: Sequence[Sequence[int]], pad: int
) -> dict[str, Any]:
    """Takes the questions off the prompts that stand for the groups.

    Args:
        inputs: What the processor made of these prompts, padded on the left.
        parts: The batch taken apart.
        tokens: All prompts, as given to `split`.
        pad: Token that fills rows up.

    Returns:
        The inputs with everything that runs along the tokens cut and padded on the left again.

    Raises:
        NotShareableError: The processor changes the text behind the pictures as well.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    height, width = ids.shape
    lengths = mask.sum(1).tolist()
    for row, group in enumerate(parts.groups):
        tail = list(tokens[group.rows[0]][-group.tail :])
        if group.tail >= lengths[row] or ids[row, -group.tail :].tolist() != tail:
            raise NotShareableError("the processor changes the text behind the pictures")
    kept = [length - group.tail for length, group in zip(lengths, parts.groups, strict=True)]
    longest = max(kept)
    cut = dict(inputs)
    for name, value in inputs.items():
        if getattr(value, "shape", None) != (height, width):
            continue
        filled = value.new_full((height, longest), pad if name == "input_ids" else 0)
        for row, (keep, group) in enumerate(zip(kept, parts.groups, strict=True)):
            filled[row, longest - keep :] = value[row, width - group.tail - keep : -group.tail]
        cut[name] = filled
    return cut


def questions(
    cut: Mapping[str, Any], parts: Split, pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns each question's tokens, their mask and its group, all as tensors of the batch."""
    import torch

    device = cut["input_ids"].device
    of_row = torch.tensor(parts.of_row, device=device)
    longest = max(map(len, parts.suffixes))
    gaps = [longest - len(suffix) for suffix in parts.suffixes]
    rows = zip(gaps, parts.suffixes, strict=True)
    ids = torch.tensor([[*[pad] * gap, *suffix] for gap, suffix in rows], device=device)
    mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], device=device)
    before, seen = cut["input_ids"][of_row], cut["attention_mask"][of_row]
    return (
        torch.cat([before, ids.to(before.dtype)], dim=1),
        torch.cat([seen, mask.to(seen.dtype)], dim=1),
        of_row,
    )


def copy_state(model: torch.nn.Module, cache: Any, of_row: torch.Tensor, groups: int) -> None:  # noqa: ANN401
    """Copies what a model remembers of the groups to their questions, in place.

    Beside the cache, models whose positions have several axes (Qwen2-VL and its kin) remember how
    far a picture's positions fall behind its tokens, in the attribute `rope_deltas`.
    """
    import torch

    cache.batch_select_indices(of_row)
    for module in model.modules():
        deltas = getattr(module, "rope_deltas", None)
        if isinstance(deltas, torch.Tensor) and deltas.shape[0] == groups:
            module.rope_deltas = deltas[of_row.to(deltas.device)]
