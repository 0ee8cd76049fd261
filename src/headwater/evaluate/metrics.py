"""What is measured of a method: the linear datamodeling score, and how well it traces planted facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.verify.agreement import rank_correlation

RESAMPLINGS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A measured number, and the bounds that 95 of 100 resamplings of what it was measured on stay within."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class FactTrace:
    """How well the stories that state one fact are found."""

    reciprocal_rank: float
    """1 / the rank of the first of them."""
    recall: float
    """Of them, or of ten where there are more, the share among the first ten."""


def predicted_order(scores: NDArray[Any], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[M, Q] what scores [N, Q] foretell of models trained on the `members` [M, N]: the sum over these, to scale.

    More influence foretells a lower loss, so this goes with −loss (Park et al. 2023, definition 2.2). Rounded, so
    that sums that differ in the order of adding alone are ties.
    """
    sums = members.astype(np.float64) @ scores.astype(np.float64)
    return (sums / np.maximum(np.abs(sums).max(axis=0), 1e-300)).round(12)


def correlations(
    scores: NDArray[Any], members: NDArray[np.bool_], losses: NDArray[Any], *, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """[B, Q] Spearman's correlation over the subsets of what is predicted with −losses [M, Q], for every query.

    `weights` [B, M] are how often each subset counts in each of B resamplings of M subsets; None is one row in which
    each counts once. Where either side is constant there is no order to agree on, and the correlation is 0.
    """
    subsets, guesses = np.arange(len(losses)), predicted_order(scores, members)
    drawn = subsets[None] if weights is None else np.stack([np.repeat(subsets, counts) for counts in weights])
    found = [rank_correlation(guesses[drawn, q], -losses[drawn, q]) for q in range(losses.shape[1])]
    return np.nan_to_num(np.stack(found, axis=1))


@dataclass(frozen=True)
class Bootstrapped:
    """A number with its resamplings, which of two numbers from the same seed belong together."""

    value: float
    draws: NDArray[np.float64]
    """[RESAMPLINGS]"""

    @property
    def interval(self) -> Interval:
        """Percentile bootstrap."""
        outside = (1 - LEVEL) / 2
        low, high = np.quantile(self.draws, [outside, 1 - outside])
        return Interval(self.value, float(low), float(high))

    def less(self, other: Bootstrapped) -> Bootstrapped:
        """The difference of two numbers measured on the same things."""
        return Bootstrapped(self.value - other.value, self.draws - other.draws)


def lds(
    scores: NDArray[Any],
    members: NDArray[np.bool_],
    losses: NDArray[Any],
    *,
    seed: int = 0,
    resamplings: int = RESAMPLINGS,
) -> Bootstrapped:
    """The linear datamodeling score: the mean of the correlations over queries.

    The interval comes from drawing both queries and subsets anew, with replacement.
    """
    rng = np.random.default_rng(seed)
    subsets, queries = losses.shape
    counts = rng.multinomial(subsets, np.full(subsets, 1 / subsets), resamplings)
    shares = rng.multinomial(queries, np.full(queries, 1 / queries), resamplings) / queries
    drawn = (correlations(scores, members, losses, weights=counts) * shares).sum(1)
    return Bootstrapped(float(correlations(scores, members, losses).mean()), drawn)


def mean(values: Sequence[float], seed: int = 0, resamplings: int = RESAMPLINGS) -> Bootstrapped:
    """The mean over queries, its interval from drawing queries anew."""
    rng = np.random.default_rng(seed)
    count = len(values)
    shares = rng.multinomial(count, np.full(count, 1 / count), resamplings) / count
    return Bootstrapped(float(np.mean(values)), shares @ np.array(values))


def correlations_of(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """[Q] Spearman's correlation of the columns of two [M, Q]; 0 where either is constant."""
    return np.nan_to_num(rank_correlation(one.T, other.T))


def top_positions(scores: NDArray[Any], count: int) -> list[int]:
    """Positions of the `count` highest of scores [N]; the first of equals before the others."""
    return np.argsort(-scores, kind="stable")[:count].tolist()


def trace(scores: NDArray[Any], stating: NDArray[np.bool_], k: int = 10, *, seed: int = 0) -> FactTrace:
    """How well scores [N] bring up the examples that are `stating` [N]; ties are broken at random, seeded."""
    chance = np.random.default_rng(seed).random(len(scores))
    order = np.lexsort((chance, -scores))
    hits = stating[order]
    total = int(stating.sum())
    assert total, "a fact is stated at least once"
    return FactTrace(1.0 / (1 + int(hits.argmax())), int(hits[:k].sum()) / min(k, total))
