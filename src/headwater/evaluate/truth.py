"""Ground truth of the linear datamodeling score: losses of models retrained on random halves of the corpus.

A method's prediction for a subset is compared with the losses of a model trained on that subset (TRAK, Park et al.
2023, arXiv 2303.14186, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.base.progress import Report, silent
from headwater.errors import HeadwaterError
from headwater.evaluate.metrics import correlations_of
from headwater.training.retrain import Retraining, Task


@dataclass(frozen=True)
class Truth:
    """Losses after retraining on each subset."""

    members: NDArray[np.bool_]
    """[M, N] which examples each model was trained on."""
    by_seed: NDArray[np.float64]
    """[S, M, Q] loss of every query in nats after each of S trainings on a subset."""

    @property
    def losses(self) -> NDArray[np.float64]:
        """[M, Q] the mean over seeds. More seeds average out more of the randomness of training."""
        return self.by_seed.mean(0)

    def ceiling(self) -> float | None:
        """The LDS of a method that predicts the mean over infinitely many seeds; None if there is only one seed.

        It is the root of the reliability of the losses' ranks, from the correlations between seeds and the
        Spearman–Brown formula.
        """
        seeds = len(self.by_seed)
        if seeds < 2:
            return None
        pairs = [(a, b) for a in range(seeds) for b in range(a)]
        between = float(np.mean([correlations_of(self.by_seed[a], self.by_seed[b]).mean() for a, b in pairs]))
        between = max(between, 0.0)
        return float(np.sqrt(seeds * between / (1 + (seeds - 1) * between)))


def random_half(examples: int, number: int, seed: int = 0) -> NDArray[np.bool_]:
    """[N] a random half of the corpus, determined by `seed` and `number`."""
    members = np.zeros(examples, dtype=np.bool_)
    members[np.random.default_rng([seed, number]).choice(examples, examples // 2, replace=False)] = True
    return members


def ground_truth(
    retraining: Retraining, subsets: int, seeds: int = 1, *, jobs: int = 1, report: Report = silent, seed: int = 0
) -> Truth:
    """Retrain on `subsets` halves of the corpus with `seeds` seeds each, and measure every query on each model.

    Stored outcomes are reused, so an interrupted measurement resumes and a larger one extends a smaller one.
    """
    if subsets < 3:
        raise HeadwaterError(f"--subsets {subsets}: a rank correlation needs at least 3 subsets.")
    members = [random_half(len(retraining.sequences), number, seed) for number in range(subsets)]
    tasks = [Task(one, seed) for seed in range(seeds) for one in members]
    found = retraining.outcomes(tasks, jobs, report)
    losses = np.array([outcome.losses for outcome in found]).reshape(seeds, subsets, -1)
    return Truth(np.stack(members), losses)
