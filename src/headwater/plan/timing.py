"""Times the stages of a probe and separates their cost by token, example and shard."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headwater.base.progress import Step
from headwater.plan.layout import Layout


@dataclass
class Clock:
    """A Report that records the time of each step of each stage."""

    stamps: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """stage -> times at which batches were done."""
    begun: dict[str, float] = field(default_factory=dict[str, float])
    """stage -> time of its first report."""

    def __call__(self, step: Step) -> None:
        now = time.perf_counter()
        self.begun.setdefault(step.stage, now)
        if step.tokens:
            self.stamps.setdefault(step.stage, []).append(now)


@dataclass(frozen=True)
class SweepCost:
    """Cost of a sweep, from which the time of a longer sweep over similar examples is computed."""

    start: float
    """Extra seconds of the first batch."""
    per_token: float
    """Seconds per token, including padding."""
    per_shard: float
    """Seconds to finish a shard: merging and writing."""
    per_example: float
    """Seconds to read an example from the corpus."""

    def seconds(self, layout: Layout) -> float:
        """Seconds of a sweep over `layout`."""
        work = self.per_token * layout.padded + self.per_example * layout.examples
        return self.start + work + self.per_shard * len(layout.shards)


def sweep_cost(layout: Layout, stamps: list[float], start: float, *, end: float, per_example: float) -> SweepCost:
    """The cost of a sweep over `layout` that began at `start`, finished batches at `stamps` and ended at `end`.

    The rate is that of batches in the middle of a shard. The extra time of a shard's first batch is the cost of
    finishing the previous shard. The extra time of the very first batch is warm-up.
    """
    assert len(stamps) == len(layout.batches)
    took = [after - before for before, after in zip([start, *stamps], [*stamps, end], strict=False)]
    inner = [(seconds, b.padded) for seconds, b in zip(took, layout.batches, strict=False) if not b.first]
    whole = inner or [(seconds, b.padded) for seconds, b in zip(took, layout.batches, strict=False)]
    rate = sum(seconds for seconds, _ in whole) / sum(padded for _, padded in whole)
    sizes = [shard.stop - shard.start for shard in layout.shards]
    begun = [
        seconds - rate * batch.padded - per_example * size
        for (seconds, batch), size in zip(
            ((s, b) for s, b in zip(took, layout.batches, strict=False) if b.first), sizes, strict=True
        )
    ]
    finishing = sum(begun[1:]) + took[-1]
    return SweepCost(max(0.0, begun[0]), rate, max(0.0, finishing / len(sizes)), per_example)


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
