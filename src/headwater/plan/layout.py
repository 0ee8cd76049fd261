"""Predicts the batches of a sweep from the lengths of the examples."""

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
    """[B] positions of its examples among those swept, longest first."""
    width: int
    """T, the tokens of the longest example."""
    first: bool
    """Whether it is the first of its shard."""

    @property
    def padded(self) -> int:
        """Number of tokens including padding."""
        return len(self.rows) * self.width


@dataclass(frozen=True)
class Layout:
    """The examples of a sweep, divided into shards and batches."""

    lengths: NDArray[np.int64]
    """[n] tokens of each example."""
    shards: Sequence[Shard]
    token_budget: int

    @cached_property
    def batches(self) -> list[PlannedBatch]:
        """All batches in the order of the sweep. They are those of `corpus.batches.make_batches`."""
        return [batch for shard in self.shards for batch in self._batches(shard)]

    @property
    def examples(self) -> int:
        return len(self.lengths)

    @cached_property
    def padded(self) -> int:
        """Tokens of one sweep, including padding."""
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
        """Positions of the examples of `count` whole batches: the widest, and others spread evenly over all widths.

        The longest come first, so that a sweep over them makes the same batches, except at the end of a shard.
        """
        by_width = sorted(self.batches, key=lambda batch: (-batch.width, -batch.padded))
        rest = by_width[1:]
        wanted = min(count - 1, len(rest))
        chosen = [rest[(2 * k + 1) * len(rest) // (2 * wanted)] for k in range(wanted)]
        return np.concatenate([batch.rows for batch in (by_width[0], *chosen)])


def lengths_of(corpus: Corpus) -> NDArray[np.int64]:
    """[N] tokens of each example of a corpus, read without the texts."""
    return np.concatenate([segment.lengths for segment in corpus.segments])[corpus.keys]


def evenly_spaced(count: int, among: int) -> NDArray[np.int64]:
    """`count` of the numbers 0 to `among` − 1, evenly spaced and ascending. Numbers repeat if `count` > `among`."""
    return np.arange(count, dtype=np.int64) * among // count
