"""Engines: what runs the shards of a sweep and other pieces of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from headwater.base.progress import Report
from headwater.gradients.reducer import R
from headwater.lm.capture import Capture
from headwater.sweep.shard_gradients import reduce_shard
from headwater.sweep.shards import Shard

if TYPE_CHECKING:
    from headwater.sweep.sweep import Sweep

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """This process, or a cluster. The results are the same bytes."""

    def reduce(
        self, sweep: Sweep, shards: Sequence[Shard], make: Callable[[], R], *, report: Report
    ) -> Iterator[tuple[Shard, R]]:
        """Each of `shards` with its reducer, made by `make`, in their order."""
        ...

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results of `work` on `items`, in their order. Items are taken as they are needed."""
        ...


class LocalEngine:
    """The engine that is this process. It runs one shard or item after the other."""

    def reduce(
        self, sweep: Sweep, shards: Sequence[Shard], make: Callable[[], R], *, report: Report
    ) -> Iterator[tuple[Shard, R]]:
        with Capture(sweep.lm, sweep.layers) as capture:
            for shard in shards:
                yield shard, reduce_shard(sweep, capture, shard, reducer=make(), report=report)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(work, items)


LOCAL_ENGINE = LocalEngine()
