"""Does the tail of some numbers follow a power law? (Clauset, Shalizi & Newman 2009, arXiv 0706.1062)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 50
"""Of a tail with fewer numbers an exponent says nothing."""
CUTS, DRAWS = 60, 200
"""Beginnings of the tail that are tried; worlds in which the law holds that the fit is compared with."""
PLAUSIBLE = 0.1
"""Below this share of such worlds that fit as badly, the authors rule the law out."""
SIGNIFICANT = 1.64
"""Standard deviations: five in a hundred lie above by chance."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """p(x) ∝ x^−α from `start` on, and how well that fits."""

    alpha: float
    start: float
    """Where the tail begins."""
    tail: int
    """How many numbers it holds."""
    p: float
    """Share of worlds in which the law holds whose numbers depart from it as far as these."""
    heavier: float
    """How far the tail is likelier under the law than under an exponential, in standard deviations (Vuong 1989)."""

    @property
    def plausible(self) -> bool:
        """Whether the law is not ruled out and a thin tail is; it may be that another heavy one would do as well."""
        return self.p >= PLAUSIBLE and self.heavier >= SIGNIFICANT

    @property
    def slope(self) -> float:
        """Of the numbers over their ranks on logarithmic axes: the r-th largest is about r^slope."""
        return -1 / (self.alpha - 1)


def fit_power_law(values: NDArray[Any], seed: int = 0) -> PowerLaw | None:
    """The law that fits positive `values` [n] best, or None where there are too few, or all the same.

    α by maximum likelihood, the beginning of the tail where the distance of Kolmogorov and Smirnov is smallest; p from
    worlds drawn with that law in the tail and the numbers as they are below it, each fitted in the same way.
    """
    falling = np.sort(values[values > 0])[::-1].astype(np.float64)
    if len(falling) < FEWEST:
        return None
    distance, alpha, tail = _best(falling)
    if not np.isfinite(distance):
        return None
    start, below = falling[tail - 1], falling[tail:]
    random = np.random.default_rng(seed)
    worse = 0
    for _ in range(DRAWS):
        inside = random.binomial(len(falling), tail / len(falling))
        drawn = start * random.random(inside) ** (-1 / (alpha - 1))
        others = random.choice(below, len(falling) - inside) if len(below) else np.empty(0)
        world = np.sort(np.concatenate([drawn, others]))[::-1]
        worse += _best(world)[0] >= distance
    return PowerLaw(
        alpha=float(alpha), start=float(start), tail=tail, p=worse / DRAWS, heavier=_heavier(falling[:tail], alpha)
    )


def _heavier(tail: NDArray[np.float64], alpha: float) -> float:
    """The sum of the log-likelihood ratios of the numbers over its standard deviation."""
    start = tail[-1]
    rate = 1 / (tail.mean() - start)
    power = np.log((alpha - 1) / start) - alpha * np.log(tail / start)
    ratios = power - (np.log(rate) - rate * (tail - start))
    return float(ratios.sum() / max(np.sqrt(len(tail)) * ratios.std(), 1e-30))


def _best(falling: NDArray[np.float64]) -> tuple[float, float, int]:
    """(distance, α, numbers in the tail) of the tail that fits best; `falling` are the numbers, the largest first."""
    tails = np.unique(np.geomspace(min(FEWEST, len(falling)), len(falling), CUTS).astype(int))
    logs = np.log(falling)
    sums = np.cumsum(logs)
    fits = (_fit(logs, sums, int(tail)) for tail in tails)
    return min(fits, key=lambda fit: fit[0])


def _fit(logs: NDArray[np.float64], sums: NDArray[np.float64], tail: int) -> tuple[float, float, int]:
    excess = sums[tail - 1] - tail * logs[tail - 1]
    if excess <= 0:
        return np.inf, np.inf, tail  # all are the same number
    alpha = 1 + tail / excess
    above = np.exp((1 - alpha) * (logs[:tail] - logs[tail - 1]))  # the law's share of larger numbers
    ranks = np.arange(tail)
    distance = max(float(np.abs(above - ranks / tail).max()), float(np.abs(above - (ranks + 1) / tail).max()))
    return distance, alpha, tail
