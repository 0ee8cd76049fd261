"""The second stage: score the candidates of a search exactly, until no other is likely to be among the strongest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.corpus.corpus import Corpus
from headwater.index.search import Candidates
from headwater.influence.duplicates import Family
from headwater.influence.rank import Ends, both_ends

Score = Callable[[Sequence[int]], Mapping[int, Tensor]]
"""Positions to their exact influence by layer and token [L, T] (see rank.shares), in the same order."""

WAVE = 32
"""Candidates scored at a time: enough for one batch, few enough to stop early."""
MISSES = 0.05
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
    """At most about so many of the examples at both ends a scan of everything would replace.

    The chances behind it take no account of most examples having hardly any influence, and so are on the safe side.
    """


@dataclass(frozen=True)
class Budget:
    """When scoring is enough."""

    k: int
    """Examples wanted at each end."""
    candidates: int
    """At most so many are scored."""


def rescore(
    score: Score, candidates: Candidates, budget: Budget, norms: Mapping[int, float] | None, corpus: Corpus | None
) -> Rescored:
    """Score candidates exactly, the likeliest first, until the budget is spent or no more are needed.

    An estimate errs like a normal number of known deviation, so it says how likely its example is to be stronger
    than the k-th strongest scored so far. Summed over the candidates not yet scored that is how many of the k are
    expected to be missing; below MISSES at both ends the work is done. `norms` are √I(z, z) where the ranking is
    relative; near-duplicates count as one where the `corpus` with their texts is given.
    """
    k = budget.k
    parts: dict[int, Tensor] = {}
    exact = np.full(len(candidates.positions), np.nan)
    thresholds = [_kth(sign * candidates.estimates, k) for sign in (1, -1)]
    while True:
        left = np.isnan(exact)
        chances = _normal(candidates, thresholds, _widening(candidates, exact))
        room = min(WAVE if parts else max(WAVE, 2 * k), budget.candidates - len(parts), int(left.sum()))
        chosen = np.argsort(-np.where(left, chances.max(axis=0), -1), kind="stable")[:room]
        new = score(candidates.positions[chosen].tolist())
        for place, (position, part) in zip(chosen, new.items(), strict=True):
            exact[place] = float(part.sum()) / (1.0 if norms is None else norms[position])
        parts |= new
        ends = both_ends(dict(zip(parts, exact[_places(candidates, parts)], strict=True)), k, corpus)
        thresholds = [_weakest(found, candidates, exact, k) for found in (ends.proponents, ends.opponents)]
        left = np.isnan(exact)
        missed = _normal(candidates, thresholds, _widening(candidates, exact))[:, left].sum(axis=1)
        if len(parts) >= budget.candidates or not left.any() or missed.max() < MISSES:
            return Rescored(ends, parts, exact, float(np.minimum(missed, k).sum()))


def _places(candidates: Candidates, parts: Mapping[int, Tensor]) -> NDArray[Any]:
    """Where the positions of `parts` stand among the candidates, whose positions rise."""
    return np.searchsorted(candidates.positions, list(parts))


def _weakest(found: list[Family], candidates: Candidates, exact: NDArray[Any], k: int) -> float:
    """How strong an example must be to belong among the k of its end."""
    if len(found) < k:
        return 0.0
    return abs(float(exact[np.searchsorted(candidates.positions, found[-1].position)]))


def _widening(candidates: Candidates, exact: NDArray[Any]) -> float:
    """How much larger the errors of those scored are than foretold, at least 1.

    They were chosen for their high estimates, so that this errs on the safe side.
    """
    known = ~np.isnan(exact) & (candidates.deviations > 0)
    errors = (exact - candidates.estimates)[known] / candidates.deviations[known]
    return max(1.0, float(np.sqrt(np.mean(errors**2)))) if len(errors) else 1.0


def _normal(candidates: Candidates, thresholds: list[float], widen: float) -> NDArray[Any]:
    """[2, n] how likely each candidate is to pass the threshold of either end."""
    scale = np.maximum(candidates.deviations * widen, 1e-30)
    away = np.stack([(sign * candidates.estimates - t) / scale for sign, t in zip((1, -1), thresholds, strict=True)])
    return torch.special.ndtr(torch.from_numpy(away)).numpy()


def _kth(values: NDArray[Any], k: int) -> float:
    return float(np.sort(values)[-k]) if len(values) >= k else 0.0
