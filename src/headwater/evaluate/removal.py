"""What becomes of a query when a method's own choice of examples is really taken out."""

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
"""One example in so many is taken out."""
CONTROLS = 4
"""Random choices that stand for chance, the same for all methods and queries."""


@dataclass(frozen=True, kw_only=True)
class Removals:
    """The retrainings of a corpus, and the queries that are worth one each."""

    retraining: Retraining
    queries: Sequence[int]
    """Their positions."""
    jobs: int = 1
    report: Report = silent
    seed: int = 0

    @property
    def count(self) -> int:
        """How many examples are a hundredth."""
        return max(1, len(self.retraining.sequences) // SHARE)

    def ladder(self) -> list[int]:
        """Numbers of removals that are tried, rising."""
        return sorted({max(1, self.count // 4), max(1, self.count // 2), self.count, 2 * self.count, 4 * self.count})


def loss_increase(removals: Removals, scores: NDArray[Any]) -> list[float]:
    """[queries] QLD: how much more the loss rises without the top hundredth than without a random one, in nats."""
    retraining, total = removals.retraining, len(removals.retraining.sequences)
    rng = np.random.default_rng([removals.seed, 2])
    controls = [rng.choice(total, removals.count, replace=False).tolist() for _ in range(CONTROLS)]
    tops = [top_positions(scores[:, q], removals.count) for q in removals.queries]
    tasks = [retraining.without(positions) for positions in controls + tops]
    found = retraining.outcomes(tasks, removals.jobs, removals.report)
    chance = np.mean([outcome.losses for outcome in found[:CONTROLS]], axis=0)
    pairs = zip(removals.queries, found[CONTROLS:], strict=True)
    return [outcome.losses[q] - float(chance[q]) for q, outcome in pairs]


def removals_to_flip(removals: Removals, scores: NDArray[Any]) -> list[int | None]:
    """[queries] brittleness: the fewest of the top examples without which the completion is no longer said.

    On the ladder, taking it that more removals flip what fewer do. None where not even the most of them flip it. The
    queries must be ones that the recipe's model completes (see `completed`).
    """
    ladder = removals.ladder()
    low = dict.fromkeys(removals.queries, 0)
    high = dict.fromkeys(removals.queries, len(ladder))
    first = ladder.index(removals.count)  # there already where the loss increase was measured
    step = dict.fromkeys(removals.queries, first)
    while asking := [q for q in removals.queries if low[q] < high[q]]:
        tasks = [removals.retraining.without(top_positions(scores[:, q], ladder[step[q]])) for q in asking]
        found = removals.retraining.outcomes(tasks, removals.jobs, removals.report)
        for q, outcome in zip(asking, found, strict=True):
            if outcome.correct[q]:
                low[q] = step[q] + 1
            else:
                high[q] = step[q]
            step[q] = (low[q] + high[q]) // 2
    return [ladder[high[q]] if high[q] < len(ladder) else None for q in removals.queries]


def completed(removals: Removals) -> list[int]:
    """Those of the queries whose completion the recipe's model says, trained on everything."""
    (found,) = removals.retraining.outcomes([removals.retraining.all()], 1, removals.report)
    return [q for q in removals.queries if found.correct[q]]
