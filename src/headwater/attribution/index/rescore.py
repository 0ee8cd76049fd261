"""The second stage: score the candidates of a search exactly, until no other is likely to be among the strongest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.duplicates import Family
from headwater.attribution.index.expectation import expectation
from headwater.attribution.index.search import Candidates
from headwater.attribution.strongest import Ends, both_ends
from headwater.corpus.corpus import Corpus

Score = Callable[[Sequence[int]], Mapping[int, Tensor]]
"""Positions to their exact influence by layer and token [L, T] (see rank.shares), in the same order."""

WAVE = 32
"""Candidates scored at a time: enough for one batch, few enough to stop early."""


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

    An `Expectation` says which candidates are likeliest to be stronger than the k-th strongest scored so far, and how
    many of the strongest k are still missing. `norms` are √I(z, z), given where the ranking is relative. Where the
    `corpus` with their texts is given, near-duplicates count as one.
    """
    k = budget.k
    expected = expectation(candidates)
    parts: dict[int, Tensor] = {}
    exact = np.full(len(candidates.positions), np.nan)
    thresholds = [_kth(sign * candidates.estimates, k) for sign in (1, -1)]
    while True:
        left = np.isnan(exact)
        probs = expected.probs(thresholds)
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
        missed = expected.missed(thresholds, left, found)
        if len(parts) >= budget.candidates or not left.any() or missed.max() < expected.enough:
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


def _kth(values: NDArray[Any], k: int) -> float:
    return float(np.sort(values)[-k]) if len(values) >= k else 0.0
