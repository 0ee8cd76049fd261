"""Shards: the runs of consecutive examples that a sweep is divided into."""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST_SHARD, LARGEST_SHARD = 256, 4096
"""Bounds of the examples in a shard by default. Sorting by length pays with many; an interruption loses few."""


@dataclass(frozen=True)
class Shard:
    """The examples from `start` up to `stop`."""

    index: int
    start: int
    stop: int


def shards_of(total: int, shard_examples: int | None = None) -> list[Shard]:
    """The shards of `total` sequences.

    Each has `shard_examples` sequences, or by default a sixteenth of all, from SMALLEST_SHARD to LARGEST_SHARD.
    """
    size = shard_examples or min(max(-(-total // 16), SMALLEST_SHARD), LARGEST_SHARD)
    return [Shard(k, start, min(start + size, total)) for k, start in enumerate(range(0, total, size))]
