"""The second stage: score the candidates of a search exactly, until no other is likely to be among the strongest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.duplicates import Family
from headwater.attribution.index.search import Candidates
from headwater.attribution.strongest import Ends, both_ends
from headwater.corpus.corpus import Corpus

Score = Callable[[Sequence[int]], Mapping[int, Tensor]]
"""Positions to their exact influence by layer and token [L, T] (see rank.shares), in the same order."""

WAVE = 32
"""Candidates scored at a time: enough for one batch, few enough to stop early."""
OUTLIERS, WIDE, ROUNDS = 0.02, 5.0, 20
"""The share of examples first believed to have much influence, how many times the usual that is, rounds of fitting."""
MISSES = 0.02
"""Scoring ends where so many of the strongest k at an end are expected to be missing."""


@dataclass(frozen=True)
class Rescored:
    """The strongest candidates, scored exactly."""

    ends: Ends
    parts: dict[int, Tensor]
    """position -> [L, T] influence by layer and token, of every candidate that was scored."""
    exact: NDArray[np.float64]
    """[n] what the candidates are ranked by, exactly; NaN for those that were not scored."""
    expected_missed: float
    """About so many of the examples at both ends a scan of everything would replace."""


@dataclass(frozen=True)
class Budget:
    """When scoring is enough."""

    k: int
    """Examples wanted at each end."""
    candidates: int
    """At most so many are scored."""


def rescore(
    score: Score, candidates: Candidates, budget: Budget, *, norms: Mapping[int, float] | None, corpus: Corpus | None
) -> Rescored:
    """Score candidates exactly, the likeliest first, until the budget is spent or no more are needed.

    An estimate errs like a normal number of known deviation, so it says how likely its example is to be stronger
    than the k-th strongest scored so far (see _Belief). Summed over the candidates not yet scored that is how many of
    the k are expected to be missing; below MISSES at both ends the work is done. Where sketches see a part of the
    influence alone, no such law is known, and the ranks of what was found tell (see _Ranks). `norms` are √I(z, z) where
    the ranking is relative; near-duplicates count as one where the `corpus` with their texts is given.
    """
    k = budget.k
    belief = _Ranks(candidates) if candidates.partial else _belief(candidates)
    parts: dict[int, Tensor] = {}
    exact = np.full(len(candidates.positions), np.nan)
    thresholds = [_kth(sign * candidates.estimates, k) for sign in (1, -1)]
    while True:
        left = np.isnan(exact)
        probs = belief.probs(thresholds)
        room = min(WAVE if parts else max(WAVE, 2 * k), budget.candidates - len(parts), int(left.sum()))
        chosen = np.argsort(-np.where(left, probs, -np.inf), kind="stable")[:room]
        new = score(candidates.positions[chosen].tolist())
        for place, (position, part) in zip(chosen, new.items(), strict=True):
            exact[place] = float(part.sum()) / (1.0 if norms is None else norms[position])
        parts |= new
        ends = both_ends(dict(zip(parts, exact[_places(candidates, parts)], strict=True)), k, corpus)
        thresholds = [_weakest(found, candidates, exact, k=k) for found in (ends.proponents, ends.opponents)]
        left = np.isnan(exact)
        found = [[_place(candidates, family) for family in end] for end in (ends.proponents, ends.opponents)]
        missed = belief.missed(thresholds, left, found)
        if len(parts) >= budget.candidates or not left.any() or missed.max() < belief.enough:
            return Rescored(ends, parts, exact, float(np.minimum(missed, k).sum()))


def _places(candidates: Candidates, parts: Mapping[int, Tensor]) -> NDArray[Any]:
    """Where the positions of `parts` stand among the candidates, whose positions rise."""
    return np.searchsorted(candidates.positions, list(parts))


def _weakest(found: list[Family], candidates: Candidates, exact: NDArray[Any], *, k: int) -> float:
    """How strong an example must be to belong among the k of its end."""
    if len(found) < k:
        return 0.0
    return abs(float(exact[_place(candidates, found[-1])]))


def _place(candidates: Candidates, family: Family) -> int:
    """Where a family's strongest stands among the candidates."""
    return int(np.searchsorted(candidates.positions, family.position))


@dataclass(frozen=True)
class _Belief:
    """What the estimates say of the exact values before any is known.

    Most examples have hardly any influence, a few have much: a value is drawn from a narrow normal, whose width the
    estimates themselves tell, or now and then from a wide one.
    """

    candidates: Candidates
    outlier: NDArray[np.float64]
    """[n] how likely each candidate is one of the few."""
    width: float
    """Standard deviation of the many, in units of the noise."""
    enough: float = MISSES

    def probs(self, thresholds: list[float]) -> NDArray[np.float64]:
        """[n] how likely each candidate is to belong to one of the ends."""
        return self.passing(thresholds).max(axis=0)

    def missed(self, thresholds: list[float], left: NDArray[np.bool_], _: list[list[int]]) -> NDArray[np.float64]:
        """[2] how many of those `left` [n] are expected to belong to either end."""
        return self.passing(thresholds)[:, left].sum(axis=1)

    def passing(self, thresholds: list[float]) -> NDArray[np.float64]:
        """[2, n] how likely each candidate is to pass the threshold of either end."""
        noise = np.maximum(self.candidates.deviations, 1e-30)
        shrunk = self.width**2 / (1 + self.width**2)
        rows: list[NDArray[np.float64]] = []
        for sign, threshold in zip((1, -1), thresholds, strict=True):
            estimates = sign * self.candidates.estimates
            few = _below((estimates - threshold) / noise)
            many = _below((shrunk * estimates - threshold) / (np.sqrt(shrunk) * noise + 1e-30))
            rows.append(self.outlier * few + (1 - self.outlier) * many)
        return np.stack(rows)


class _Ranks:
    """What estimates of a part of the influence say: the order of likelihood, and no more.

    Examples that are like the question in what is seen are like it in the rest too, more than chance would have it, so
    that the error has no known law. But the strongest thin out towards lower estimates: as many of them as lie in the
    lower half of the ranks that were scored are taken to lie below. Scoring goes on until these are none.
    """

    enough = 1.0

    def __init__(self, candidates: Candidates) -> None:
        order = np.argsort(-candidates.estimates, kind="stable")
        self.ranks = np.empty((2, len(order)), np.int64)
        """At the end of the proponents, and at that of the opponents; 0 is the strongest."""
        self.ranks[0, order] = np.arange(len(order))
        self.ranks[1] = len(order) - 1 - self.ranks[0]

    def probs(self, _: list[float]) -> NDArray[np.float64]:
        """[n] higher for those that rank higher at either end."""
        return -self.ranks.min(axis=0).astype(np.float64)

    def missed(self, _: list[float], left: NDArray[np.bool_], found: list[list[int]]) -> NDArray[np.float64]:
        """[2] how many are taken to be missing at either end, of which the candidates at the places `found` are known;
        a half stands for none."""
        if not left.any():
            return np.zeros(2)
        depths = self.ranks[:, left].min(axis=1)
        ends = zip(self.ranks, depths, found, strict=True)
        return np.array([sum(2 * ranks[place] >= depth for place in end) + 0.5 for ranks, depth, end in ends])


def _belief(candidates: Candidates) -> _Belief:
    """Two normals about 0 fitted to the estimates, whose noise is known: what they spread beyond it is real.

    The narrow one by the median, which a few outliers do not move; share and width of the other by expectation and
    maximisation.
    """
    scaled = np.clip(candidates.estimates / np.maximum(candidates.deviations, 1e-30), -1e6, 1e6)
    if not len(scaled):
        return _Belief(candidates, scaled, 0.0)
    spread = max(1.0, 1.4826 * float(np.median(np.abs(scaled))))
    share, wide = OUTLIERS, WIDE * spread
    outlier = np.zeros(len(scaled))
    for _ in range(ROUNDS):
        odds = math.log(share / (1 - share)) + _log_normal(scaled, wide) - _log_normal(scaled, spread)
        outlier = _logistic(odds)
        share = float(np.clip(outlier.mean(), 1 / len(scaled), 0.5))
        wide = max(2 * spread, math.sqrt(float((outlier * scaled**2).sum() / max(outlier.sum(), 1e-30))))
    return _Belief(candidates, outlier, math.sqrt(spread**2 - 1))


def _below(values: NDArray[Any]) -> NDArray[np.float64]:
    return torch.special.ndtr(torch.from_numpy(values)).numpy()


def _logistic(values: NDArray[Any]) -> NDArray[np.float64]:
    return torch.sigmoid(torch.from_numpy(values)).numpy()


def _log_normal(values: NDArray[Any], deviation: float) -> NDArray[np.float64]:
    """The logarithm of a normal density, but for a constant."""
    return -0.5 * (values / deviation) ** 2 - math.log(deviation)


def _kth(values: NDArray[Any], k: int) -> float:
    return float(np.sort(values)[-k]) if len(values) >= k else 0.0
