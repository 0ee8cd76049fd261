"""Batches by token budget. One forward–backward pass runs on one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenSequence:
    """A tokenised sequence with its loss mask, as the model reads it."""

    id: str
    input_ids: NDArray[np.int64]
    """[T]"""
    targets: NDArray[np.bool_]
    """[T] True where the prediction of this token is part of the loss. The first is False: nothing predicts it."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B sequences, padded on the right to the longest. Padding carries no loss, and the causal mask hides it."""

    rows: NDArray[np.int64]
    """[B] position of each sequence in the batched list."""
    ids: list[str]
    keys: NDArray[np.uint64]
    """[B] a number made from the id, which seeds everything random about the example."""
    input_ids: NDArray[np.int64]
    """[B, T]"""
    lengths: NDArray[np.int64]
    """[B]"""
    targets: NDArray[np.bool_]
    """[B, T]"""

    @property
    def tokens(self) -> int:
        """Number of tokens without padding."""
        return int(self.lengths.sum())


def all_targets(input_ids: Sequence[int] | NDArray[Any], id: str) -> TokenSequence:
    """A sequence in which every token but the first is predicted, as in training a language model on text."""
    ids = np.asarray(input_ids, dtype=np.int64)
    targets = np.ones(len(ids), dtype=np.bool_)
    targets[:1] = False
    return TokenSequence(id, ids, targets)


def make_batches(sequences: Sequence[TokenSequence], token_budget: int) -> Iterator[Batch]:
    """Group sequences of similar length into batches of at most `token_budget` tokens, including padding.

    The longest come first, so running out of memory shows at once. A sequence longer than the budget has its own batch.
    """
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i].input_ids), i))
    start = 0
    while start < len(order):
        width = max(1, len(sequences[order[start]].input_ids))
        stop = start + max(1, token_budget // width)
        yield pad(sequences, order[start:stop])
        start = stop


def pad(sequences: Sequence[TokenSequence], rows: Sequence[int]) -> Batch:
    """The batch of the given rows of `sequences`."""
    chosen = [sequences[i] for i in rows]
    lengths = np.array([len(s.input_ids) for s in chosen], dtype=np.int64)
    input_ids = np.zeros((len(chosen), int(lengths.max())), dtype=np.int64)
    targets = np.zeros(input_ids.shape, dtype=np.bool_)
    for row, sequence in enumerate(chosen):
        input_ids[row, : lengths[row]] = sequence.input_ids
        targets[row, : lengths[row]] = sequence.targets
    keys = np.array([example_key(s.id) for s in chosen], dtype=np.uint64)
    return Batch(
        rows=np.array(rows, dtype=np.int64),
        ids=[s.id for s in chosen],
        keys=keys,
        input_ids=input_ids,
        lengths=lengths,
        targets=targets,
    )


def example_key(id: str) -> int:
    """A 64-bit number made from an id."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")
