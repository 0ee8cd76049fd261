"""Retrains without a method's top examples and measures what happens to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.base.progress import Report, silent
from headwater.evaluate.metrics import top_positions
from headwater.training.retrain import Retraining

SHARE = 100
"""One in this many examples is removed."""
CONTROLS = 4
"""Number of random removals for comparison, the same for all methods and queries."""


@dataclass(frozen=True, kw_only=True)
class Removals:
    """The retrainings of a corpus, and the queries for which examples are removed."""

    retraining: Retraining
    queries: Sequence[int]
    """Positions of the queries."""
    jobs: int = 1
    report: Report = silent
    seed: int = 0

    @property
    def count(self) -> int:
        """Number of removed examples, 1 % of the corpus."""
        return max(1, len(self.retraining.sequences) // SHARE)

    def ladder(self) -> list[int]:
        """The numbers of removed examples that are tried, ascending."""
        return sorted({max(1, self.count // 4), max(1, self.count // 2), self.count, 2 * self.count, 4 * self.count})


def loss_increase(removals: Removals, scores: NDArray[Any]) -> list[float]:
    """[queries] QLD in nats: how much more the loss rises without the top 1 % than without a random 1 %."""
    retraining, total = removals.retraining, len(removals.retraining.sequences)
    rng = np.random.default_rng([removals.seed, 2])
    controls = [rng.choice(total, removals.count, replace=False).tolist() for _ in range(CONTROLS)]
    tops = [top_positions(scores[:, q], removals.count) for q in removals.queries]
    tasks = [retraining.without(positions) for positions in controls + tops]
    found = retraining.outcomes(tasks, removals.jobs, removals.report)
    random_losses = np.mean([outcome.losses for outcome in found[:CONTROLS]], axis=0)
    pairs = zip(removals.queries, found[CONTROLS:], strict=True)
    return [outcome.losses[q] - float(random_losses[q]) for q, outcome in pairs]


def removals_to_flip(removals: Removals, scores: NDArray[Any]) -> list[int | None]:
    """[queries] brittleness: the fewest top examples whose removal changes the model's completion.

    This is a bisection over the ladder, which assumes that more removals flip whatever fewer flip. None means that the
    largest number does not flip it. The queries must be ones that the recipe's model completes (see `completed`).
    """
    ladder = removals.ladder()
    low = dict.fromkeys(removals.queries, 0)
    high = dict.fromkeys(removals.queries, len(ladder))
    first = ladder.index(removals.count)  # stored already if the loss increase was measured
    step = dict.fromkeys(removals.queries, first)
    while open_queries := [q for q in removals.queries if low[q] < high[q]]:
        tasks = [removals.retraining.without(top_positions(scores[:, q], ladder[step[q]])) for q in open_queries]
        found = removals.retraining.outcomes(tasks, removals.jobs, removals.report)
        for q, outcome in zip(open_queries, found, strict=True):
            if outcome.correct[q]:
                low[q] = step[q] + 1
            else:
                high[q] = step[q]
            step[q] = (low[q] + high[q]) // 2
    return [ladder[high[q]] if high[q] < len(ladder) else None for q in removals.queries]


def completed(removals: Removals) -> list[int]:
    """The queries whose completion the recipe's model gives after training on the whole corpus."""
    (found,) = removals.retraining.outcomes([removals.retraining.all()], 1, removals.report)
    return [q for q in removals.queries if found.correct[q]]
