"""Which unscored candidates are most likely among the top k, and the expected number still missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.attribution.index.search import Candidates

OUTLIER_SHARE, OUTLIER_WIDTH, ROUNDS = 0.02, 5.0, 20
"""Fit of the prior: initial share of outliers, their initial width in units of the others' width, and EM rounds."""
MISSES = 0.02
"""Scoring stops when fewer than this number of the top k at each end are expected to be missing."""


class Expectation(Protocol):
    """Decides which candidates are scored next, and when scoring stops."""

    @property
    def enough(self) -> float:
        """Scoring stops when `missed` is below this at both ends."""
        ...

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        """[n] a number for each candidate that grows with the probability that it belongs to the top k of an end."""
        ...

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        """[2] the expected number of top-k examples of each end among the unscored candidates `left` [n].

        `thresholds` are the strengths of the k-th example at each end. `found` are the rows, among the candidates, of
        the top k so far.
        """
        ...


def expectation(candidates: Candidates) -> Expectation:
    """The expectation from the known noise of estimates, or from ranks if sketches cover only part of the influence."""
    return RankExpectation(candidates) if candidates.partial else noise_expectation(candidates)


@dataclass(frozen=True)
class NoiseExpectation:
    """Expectation from estimates with normal noise of known standard deviation.

    Most examples have almost no influence, a few have much. So the prior of an exact value is a mixture of a narrow
    normal, whose width is fitted to the estimates, and a wide one.
    """

    candidates: Candidates
    outlier: NDArray[np.float64]
    """[n] the probability that a candidate belongs to the wide component."""
    width: float
    """Standard deviation of the narrow component, in units of the noise."""
    enough: float = MISSES

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        return self._passing(thresholds).max(axis=0)

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        return self._passing(thresholds)[:, left].sum(axis=1)

    def _passing(self, thresholds: list[float]) -> NDArray[np.float64]:
        """[2, n] the probability that each candidate is above the threshold of each end."""
        noise = np.maximum(self.candidates.deviations, 1e-30)
        shrunk = self.width**2 / (1 + self.width**2)
        rows: list[NDArray[np.float64]] = []
        for sign, threshold in zip((1, -1), thresholds, strict=True):
            estimates = sign * self.candidates.estimates
            wide = _normal_cdf((estimates - threshold) / noise)
            narrow = _normal_cdf((shrunk * estimates - threshold) / (np.sqrt(shrunk) * noise + 1e-30))
            rows.append(self.outlier * wide + (1 - self.outlier) * narrow)
        return np.stack(rows)


class RankExpectation:
    """Expectation from the ranks of estimates alone, for sketches that cover only part of the influence.

    Examples that resemble the question in the sketched part also resemble it in the rest, so the error follows no known
    law. But top examples become rarer towards lower estimates. So the number of them in the lower half of the scored
    ranks is the estimate of the number below these ranks. Scoring continues until it is 0.
    """

    enough = 1.0

    def __init__(self, candidates: Candidates) -> None:
        order = np.argsort(-candidates.estimates, kind="stable")
        self.ranks = np.empty((2, len(order)), np.int64)
        """[2, n] the rank of each candidate among proponents and among opponents; 0 is the strongest."""
        self.ranks[0, order] = np.arange(len(order))
        self.ranks[1] = len(order) - 1 - self.ranks[0]

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        return -self.ranks.min(axis=0).astype(np.float64)

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        """As in the protocol; 0.5 means none."""
        if not left.any():
            return np.zeros(2)
        depths = self.ranks[:, left].min(axis=1)
        ends = zip(self.ranks, depths, found, strict=True)
        return np.array([sum(2 * ranks[row] >= depth for row in end) + 0.5 for ranks, depth, end in ends])


def noise_expectation(candidates: Candidates) -> NoiseExpectation:
    """Fit a mixture of two normals with mean 0 to the estimates. Spread beyond the known noise is real.

    The width of the narrow component comes from the median, which a few outliers do not change. Share and width of the
    wide component come from expectation–maximisation.
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
