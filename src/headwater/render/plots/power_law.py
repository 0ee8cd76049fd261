"""Does the tail of some numbers follow a power law? (Clauset, Shalizi & Newman 2009, arXiv 0706.1062)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 50
"""Fewest numbers in a tail that an exponent is fitted to."""
CUTS, DRAWS = 60, 200
"""Beginnings of the tail that are tried, and samples from the fitted law that the fit is compared with."""
PLAUSIBLE = 0.1
"""The law is ruled out if fewer than this share of the samples fit as badly (the authors' threshold)."""
SIGNIFICANT = 1.64
"""Standard deviations: 5% lie above by chance."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """p(x) ∝ x^−α from `start` on, and how well that fits."""

    alpha: float
    start: float
    """Where the tail begins."""
    tail: int
    """Number of values in the tail."""
    p: float
    """Share of samples from the law that depart from it at least as far as the values do."""
    heavier: float
    """Log-likelihood ratio of the law to an exponential, in standard deviations (Vuong 1989)."""

    @property
    def plausible(self) -> bool:
        """Whether the law is not ruled out and a thin tail is. Another heavy-tailed law may fit as well."""
        return self.p >= PLAUSIBLE and self.heavier >= SIGNIFICANT

    @property
    def slope(self) -> float:
        """Slope of the values over their ranks on logarithmic axes: the r-th largest is about r^slope."""
        return -1 / (self.alpha - 1)


def fit_power_law(values: NDArray[Any], seed: int = 0) -> PowerLaw | None:
    """The law that fits positive `values` [n] best; None where there are too few, or all are equal.

    α is fitted by maximum likelihood. The tail begins where the Kolmogorov–Smirnov distance is smallest. p comes from
    samples drawn from the law in the tail and from the values below it, each fitted in the same way.
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
    """(distance, α, size of the tail) of the tail that fits best; `falling` are the values, the largest first."""
    tails = np.unique(np.geomspace(min(FEWEST, len(falling)), len(falling), CUTS).astype(int))
    logs = np.log(falling)
    sums = np.cumsum(logs)
    fits = (_fit(logs, sums, int(tail)) for tail in tails)
    return min(fits, key=lambda fit: fit[0])


def _fit(logs: NDArray[np.float64], sums: NDArray[np.float64], tail: int) -> tuple[float, float, int]:
    excess = sums[tail - 1] - tail * logs[tail - 1]
    if excess <= 0:
        return np.inf, np.inf, tail  # all values are equal
    alpha = 1 + tail / excess
    above = np.exp((1 - alpha) * (logs[:tail] - logs[tail - 1]))  # the law's share of larger numbers
    ranks = np.arange(tail)
    distance = max(float(np.abs(above - ranks / tail).max()), float(np.abs(above - (ranks + 1) / tail).max()))
    return distance, alpha, tail
