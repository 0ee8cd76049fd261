"""What is measured of a method: the linear datamodeling score, and how well it traces planted facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLINGS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A measured number, and the bounds that 95 of 100 resamplings of what it was measured on stay within."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Traced:
    """How well the stories that state one fact are found."""

    reciprocal_rank: float
    """1 / the rank of the first of them."""
    recall: float
    """Of them, or of ten where there are more, the share among the first ten."""


def foretold(scores: NDArray[Any], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[M, Q] what scores [N, Q] foretell of models trained on the `members` [M, N]: the sum over these, to scale.

    More influence foretells a lower loss, so this goes with −loss (Park et al. 2023, definition 2.2). Rounded, so
    that sums that differ in the order of adding alone are ties.
    """
    sums = members.astype(np.float64) @ scores.astype(np.float64)
    return (sums / np.maximum(np.abs(sums).max(axis=0), 1e-300)).round(12)


def correlations(
    scores: NDArray[Any], members: NDArray[np.bool_], losses: NDArray[Any], *, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """[B, Q] for every query Spearman's correlation of what is foretold and −losses [M, Q] over the subsets.

    `weights` [B, M] say how often each subset counts; None is once, which gives one row. Where either side is
    constant there is no order to agree on, and the correlation is 0.
    """
    counts = np.ones((1, len(losses))) if weights is None else weights.astype(np.float64)
    guesses = foretold(scores, members)
    found = [_spearman(guesses[:, q], -losses[:, q], counts) for q in range(losses.shape[1])]
    return np.stack(found, axis=1)


@dataclass(frozen=True)
class Drawn:
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

    def less(self, other: Drawn) -> Drawn:
        """The difference of two numbers measured on the same things."""
        return Drawn(self.value - other.value, self.draws - other.draws)


def lds(
    scores: NDArray[Any],
    members: NDArray[np.bool_],
    losses: NDArray[Any],
    *,
    seed: int = 0,
    resamplings: int = RESAMPLINGS,
) -> Drawn:
    """The linear datamodeling score: the mean of the correlations over queries.

    The interval comes from drawing both queries and subsets anew, with replacement.
    """
    rng = np.random.default_rng(seed)
    subsets, queries = losses.shape
    counts = rng.multinomial(subsets, np.full(subsets, 1 / subsets), resamplings)
    shares = rng.multinomial(queries, np.full(queries, 1 / queries), resamplings) / queries
    drawn = (correlations(scores, members, losses, weights=counts) * shares).sum(1)
    return Drawn(float(correlations(scores, members, losses).mean()), drawn)


def mean(values: Sequence[float], seed: int = 0, resamplings: int = RESAMPLINGS) -> Drawn:
    """The mean over queries, its interval from drawing queries anew."""
    rng = np.random.default_rng(seed)
    count = len(values)
    shares = rng.multinomial(count, np.full(count, 1 / count), resamplings) / count
    return Drawn(float(np.mean(values)), shares @ np.array(values))


def correlations_of(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """[Q] Spearman's correlation of the columns of two [M, Q]."""
    counts = np.ones((1, len(one)))
    return np.array([_spearman(one[:, q], other[:, q], counts)[0] for q in range(one.shape[1])])


def strongest(scores: NDArray[Any], count: int) -> list[int]:
    """Positions of the `count` highest of scores [N]; the first of equals before the others."""
    return np.argsort(-scores, kind="stable")[:count].tolist()


def trace(scores: NDArray[Any], stating: NDArray[np.bool_], k: int = 10, *, seed: int = 0) -> Traced:
    """How well scores [N] bring up the examples that are `stating` [N]; ties are broken at random, seeded."""
    chance = np.random.default_rng(seed).random(len(scores))
    order = np.lexsort((chance, -scores))
    hits = stating[order]
    total = int(stating.sum())
    assert total, "a fact is stated at least once"
    return Traced(1.0 / (1 + int(hits.argmax())), int(hits[:k].sum()) / min(k, total))


def _spearman(one: NDArray[Any], other: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """[B] correlation of the ranks of two [M], each resampling [B, M] ranking anew."""
    a, b = _centred_ranks(one, weights), _centred_ranks(other, weights)
    size = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    return np.divide((weights * a * b).sum(1), size, out=np.zeros(len(weights)), where=size > 1e-9)


def _centred_ranks(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """[B, M] ranks with ties shared, less their mean. A value's rank is the weight below it and half of its equals'."""
    below = (values[None, :] < values[:, None]) + 0.5 * (values[None, :] == values[:, None])
    return weights @ below.T - weights.sum(1, keepdims=True) / 2
