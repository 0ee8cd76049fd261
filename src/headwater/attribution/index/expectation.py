"""What estimates say of the examples that are not scored yet: which is the likeliest, and how many are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.attribution.index.search import Candidates

OUTLIER_SHARE, OUTLIER_WIDTH, ROUNDS = 0.02, 5.0, 20
"""Start of the fit: the share of examples with much influence, their width in units of the others', and its rounds."""
MISSES = 0.02
"""Scoring ends where fewer than this number of the strongest k at each end are expected to be missing."""


class Expectation(Protocol):
    """Decides which candidates are scored next, and when enough are scored."""

    @property
    def enough(self) -> float:
        """Scoring ends where `missed` is below this at both ends."""
        ...

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        """[n] a number for each candidate, larger where it is likelier to belong to one of the ends."""
        ...

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        """[2] the expected number of examples at each end that are still among those `left` [n] to be scored.

        `thresholds` are the strengths of the k-th example at each end, `found` the places of the examples there.
        """
        ...


def expectation(candidates: Candidates) -> Expectation:
    """By the known noise of the estimates; by ranks alone where sketches see only a part of the influence."""
    return RankExpectation(candidates) if candidates.partial else noise_expectation(candidates)


@dataclass(frozen=True)
class NoiseExpectation:
    """What estimates with normal noise of known deviation say of the exact values.

    Most examples have hardly any influence, a few have much. The prior of a value is therefore a mixture of a narrow
    normal, whose width is fitted to the estimates, and a wide one.
    """

    candidates: Candidates
    outlier: NDArray[np.float64]
    """[n] the probability that a candidate is one of the few."""
    width: float
    """Standard deviation of the many, in units of the noise."""
    enough: float = MISSES

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        return self._passing(thresholds).max(axis=0)

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        return self._passing(thresholds)[:, left].sum(axis=1)

    def _passing(self, thresholds: list[float]) -> NDArray[np.float64]:
        """[2, n] the probability that each candidate passes the threshold of either end."""
        noise = np.maximum(self.candidates.deviations, 1e-30)
        shrunk = self.width**2 / (1 + self.width**2)
        rows: list[NDArray[np.float64]] = []
        for sign, threshold in zip((1, -1), thresholds, strict=True):
            estimates = sign * self.candidates.estimates
            few = _normal_cdf((estimates - threshold) / noise)
            many = _normal_cdf((shrunk * estimates - threshold) / (np.sqrt(shrunk) * noise + 1e-30))
            rows.append(self.outlier * few + (1 - self.outlier) * many)
        return np.stack(rows)


class RankExpectation:
    """What estimates of a part of the influence say: the order of likelihood, and no more.

    Examples that resemble the question in the part that sketches see also resemble it in the rest, more than chance
    would give, so the error follows no known law. But the strongest thin out towards lower estimates: the number of
    them in the lower half of the scored ranks is taken as the number below those ranks. Scoring goes on until it is 0.
    """

    enough = 1.0

    def __init__(self, candidates: Candidates) -> None:
        order = np.argsort(-candidates.estimates, kind="stable")
        self.ranks = np.empty((2, len(order)), np.int64)
        """At the end of the proponents, and at that of the opponents; 0 is the strongest."""
        self.ranks[0, order] = np.arange(len(order))
        self.ranks[1] = len(order) - 1 - self.ranks[0]

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        return -self.ranks.min(axis=0).astype(np.float64)

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        """As in the protocol; 0.5 stands for none."""
        if not left.any():
            return np.zeros(2)
        depths = self.ranks[:, left].min(axis=1)
        ends = zip(self.ranks, depths, found, strict=True)
        return np.array([sum(2 * ranks[place] >= depth for place in end) + 0.5 for ranks, depth, end in ends])


def noise_expectation(candidates: Candidates) -> NoiseExpectation:
    """Fit two normals about 0 to the estimates, whose noise is known: any spread beyond it is real.

    The width of the narrow one follows from the median, which a few outliers do not move; share and width of the
    wide one from expectation–maximisation.
    """
    scaled = np.clip(candidates.estimates / np.maximum(candidates.deviations, 1e-30), -1e6, 1e6)
    if not len(scaled):
        return NoiseExpectation(candidates, scaled, 0.0)
    spread = max(1.0, 1.4826 * float(np.median(np.abs(scaled))))
    share, wide = OUTLIER_SHARE, OUTLIER_WIDTH * spread
    outlier = np.zeros(len(scaled))
    for _ in range(ROUNDS):
        odds = math.log(share / (1 - share)) + _log_normal(scaled, wide) - _log_normal(scaled, spread)
        outlier = _logistic(odds)
        share = float(np.clip(outlier.mean(), 1 / len(scaled), 0.5))
        wide = max(2 * spread, math.sqrt(float((outlier * scaled**2).sum() / max(outlier.sum(), 1e-30))))
    return NoiseExpectation(candidates, outlier, math.sqrt(spread**2 - 1))


def _normal_cdf(values: NDArray[Any]) -> NDArray[np.float64]:
    return torch.special.ndtr(torch.from_numpy(values)).numpy()


def _logistic(values: NDArray[Any]) -> NDArray[np.float64]:
    return torch.sigmoid(torch.from_numpy(values)).numpy()


def _log_normal(values: NDArray[Any], deviation: float) -> NDArray[np.float64]:
    """The logarithm of a normal density, up to a constant."""
    return -0.5 * (values / deviation) ** 2 - math.log(deviation)
