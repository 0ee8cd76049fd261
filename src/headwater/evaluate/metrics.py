"""Computes the linear datamodeling score and fact tracing with bootstrap intervals."""

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
    """A measured number with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class FactTrace:
    """How well scores find the stories that state one fact."""

    reciprocal_rank: float
    """1 / the rank of the first of these stories."""
    recall: float
    """Number of these stories in the top k, divided by the smaller of k and their total."""


def predicted_order(scores: NDArray[Any], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[M, Q] predictions for models trained on the `members` [M, N]: scaled sums of scores [N, Q] over the members.

    More influence predicts a lower loss, so this is compared with −loss (Park et al. 2023, definition 2.2). Values are
    rounded, so that sums that differ only by the order of addition are ties.
    """
    sums = members.astype(np.float64) @ scores.astype(np.float64)
    return (sums / np.maximum(np.abs(sums).max(axis=0), 1e-300)).round(12)


def correlations(
    scores: NDArray[Any], members: NDArray[np.bool_], losses: NDArray[Any], *, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """[B, Q] Spearman correlation over subsets between predictions and −losses [M, Q], for every query.

    `weights` [B, M] has how often each of the M subsets counts in each of B resamplings; None counts each once. The
    correlation is 0 if either side is constant.
    """
    subsets, predicted = np.arange(len(losses)), predicted_order(scores, members)
    drawn = subsets[None] if weights is None else np.stack([np.repeat(subsets, counts) for counts in weights])
    found = [rank_correlation(predicted[drawn, q], -losses[drawn, q]) for q in range(losses.shape[1])]
    return np.nan_to_num(np.stack(found, axis=1))


@dataclass(frozen=True)
class Bootstrapped:
    """A number with its bootstrap resamplings, which are paired for two numbers with the same seed."""

    value: float
    draws: NDArray[np.float64]
    """[RESAMPLINGS]"""

    @property
    def interval(self) -> Interval:
        """The percentile bootstrap interval."""
        outside = (1 - LEVEL) / 2
        low, high = np.quantile(self.draws, [outside, 1 - outside])
        return Interval(self.value, float(low), float(high))

    def less(self, other: Bootstrapped) -> Bootstrapped:
        """The difference of two numbers that were measured on the same queries and subsets."""
        return Bootstrapped(self.value - other.value, self.draws - other.draws)


def lds(
    scores: NDArray[Any],
    members: NDArray[np.bool_],
    losses: NDArray[Any],
    *,
    seed: int = 0,
    resamplings: int = RESAMPLINGS,
) -> Bootstrapped:
    """The linear datamodeling score: the mean correlation over queries.

    The bootstrap resamples both queries and subsets.
    """
    rng = np.random.default_rng(seed)
    subsets, queries = losses.shape
    counts = rng.multinomial(subsets, np.full(subsets, 1 / subsets), resamplings)
    shares = rng.multinomial(queries, np.full(queries, 1 / queries), resamplings) / queries
    drawn = (correlations(scores, members, losses, weights=counts) * shares).sum(1)
    return Bootstrapped(float(correlations(scores, members, losses).mean()), drawn)


def mean(values: Sequence[float], seed: int = 0, resamplings: int = RESAMPLINGS) -> Bootstrapped:
    """The mean over queries. The bootstrap resamples queries."""
    rng = np.random.default_rng(seed)
    count = len(values)
    shares = rng.multinomial(count, np.full(count, 1 / count), resamplings) / count
    return Bootstrapped(float(np.mean(values)), shares @ np.array(values))


def correlations_of(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """[Q] Spearman correlation of the columns of two arrays [M, Q]; 0 if either column is constant."""
    return np.nan_to_num(rank_correlation(one.T, other.T))


def top_positions(scores: NDArray[Any], count: int) -> list[int]:
    """Positions of the `count` highest scores [N]. Ties are in the order of the corpus."""
    return np.argsort(-scores, kind="stable")[:count].tolist()


def trace(scores: NDArray[Any], stating: NDArray[np.bool_], k: int = 10, *, seed: int = 0) -> FactTrace:
    """How well scores [N] rank the examples that are `stating` [N] first. Ties are broken by the seed."""
    tie_breaker = np.random.default_rng(seed).random(len(scores))
    order = np.lexsort((tie_breaker, -scores))
    hits = stating[order]
    total = int(stating.sum())
    assert total, "a fact is stated at least once"
    return FactTrace(1.0 / (1 + int(hits.argmax())), int(hits[:k].sum()) / min(k, total))
