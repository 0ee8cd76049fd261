"""The batches that a sweep will make, known from the lengths of the examples alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.corpus import Corpus
from headwater.sweep.shards import Shard


@dataclass(frozen=True)
class PlannedBatch:
    """A batch that a sweep will make."""

    rows: NDArray[np.int64]
    """[B] places of its examples among those swept, longest first."""
    width: int
    """T: tokens of the longest."""
    first: bool
    """Whether it is the first of its shard."""

    @property
    def padded(self) -> int:
        """Tokens that are computed, padding included."""
        return len(self.rows) * self.width


@dataclass(frozen=True)
class Layout:
    """The examples that a sweep reads, cut into its shards and batches."""

    lengths: NDArray[np.int64]
    """[n] tokens of each example, in order."""
    shards: Sequence[Shard]
    token_budget: int

    @cached_property
    def batches(self) -> list[PlannedBatch]:
        """Every batch in the order of the sweep; they are those of `corpus.batches.make_batches`."""
        return [batch for shard in self.shards for batch in self._batches(shard)]

    @property
    def examples(self) -> int:
        return len(self.lengths)

    @cached_property
    def padded(self) -> int:
        """Tokens that one sweep computes, padding included."""
        return sum(batch.padded for batch in self.batches)

    @property
    def shard_examples(self) -> int:
        """Examples in the largest shard."""
        return max(shard.stop - shard.start for shard in self.shards)

    def _batches(self, shard: Shard) -> Iterator[PlannedBatch]:
        lengths = self.lengths[shard.start : shard.stop]
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            width = max(1, int(lengths[order[start]]))
            stop = min(start + max(1, self.token_budget // width), len(order))
            yield PlannedBatch(order[start:stop] + shard.start, width, start == 0)
            start = stop

    def sample(self, count: int) -> NDArray[np.int64]:
        """Places of the examples of `count` whole batches: the widest, and others spread evenly over all widths.

        Longest first, so that a sweep over them makes the same batches again, but for where a shard ends.
        """
        by_width = sorted(self.batches, key=lambda batch: (-batch.width, -batch.padded))
        rest = by_width[1:]
        wanted = min(count - 1, len(rest))
        chosen = [rest[(2 * k + 1) * len(rest) // (2 * wanted)] for k in range(wanted)]
        return np.concatenate([batch.rows for batch in (by_width[0], *chosen)])


def lengths_of(corpus: Corpus) -> NDArray[np.int64]:
    """[N] tokens of every example of a corpus, read without its texts."""
    return np.concatenate([segment.lengths for segment in corpus.segments])[corpus.keys]


def evenly_spaced(count: int, among: int) -> NDArray[np.int64]:
    """`count` of the numbers 0 to `among` − 1, evenly spread and rising; with more than `among`, repeatedly."""
    return np.arange(count, dtype=np.int64) * among // count
