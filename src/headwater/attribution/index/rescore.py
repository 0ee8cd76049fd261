"""Second stage of the index: candidates are scored exactly until no other is likely to be among the top k."""

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
from headwater.base.progress import Report, Step, silent
from headwater.corpus.corpus import Corpus

Score = Callable[[Sequence[int]], Mapping[int, Tensor]]
"""Maps positions to their exact influence by layer and token [L, T], in the same order (see strongest.shares)."""

SCORED_TOGETHER = 32
"""Candidates scored in one step: enough for one batch, few enough to stop early."""


@dataclass(frozen=True)
class Rescored:
    """The top candidates, scored exactly."""

    ends: Ends
    parts: dict[int, Tensor]
    """Position -> [L, T]: influence by layer and token of every scored candidate."""
    exact: NDArray[np.float64]
    """[n] the exact score that candidates are ranked by; NaN for those that were not scored."""
    expected_missed: float
    """Expected number of shown examples that an exact scan would replace."""


@dataclass(frozen=True)
class Budget:
    """Limits of exact scoring."""

    k: int
    """Examples shown at each end."""
    candidates: int
    """Maximum number of candidates that are scored."""


def rescore(
    score: Score,
    candidates: Candidates,
    budget: Budget,
    *,
    norms: Mapping[int, float] | None,
    corpus: Corpus | None,
    report: Report = silent,
) -> Rescored:
    """Score candidates exactly, most likely first, until the budget is spent or enough are scored.

    An `Expectation` estimates which candidates are most likely stronger than the k-th strongest so far, and how many of
    the top k are still missing. `norms` are √I(z, z), for a relative ranking. With a `corpus`, near-duplicates count as
    one.
    """
    k = budget.k
    expected = expectation(candidates)
    total = min(budget.candidates, len(candidates.positions))
    parts: dict[int, Tensor] = {}
    exact = np.full(len(candidates.positions), np.nan)
    thresholds = [_kth(sign * candidates.estimates, k) for sign in (1, -1)]
    while True:
        left = np.isnan(exact)
        probs = expected.probs(thresholds)
        step = SCORED_TOGETHER if parts else max(SCORED_TOGETHER, 2 * k)
        step = min(step, budget.candidates - len(parts), int(left.sum()))
        rows = np.argsort(-np.where(left, probs, -np.inf), kind="stable")[:step]
        report(Step(stage="scoring", done=len(parts) + len(rows), total=total, tokens=0))
        new = score(candidates.positions[rows].tolist())
        for row, (position, part) in zip(rows, new.items(), strict=True):
            exact[row] = float(part.sum()) / (1.0 if norms is None else norms[position])
        parts |= new
        ends = both_ends(dict(zip(parts, exact[_rows(candidates, parts)], strict=True)), k, corpus)
        thresholds = [_weakest(found, candidates, exact, k=k) for found in (ends.proponents, ends.opponents)]
        left = np.isnan(exact)
        found = [[_row(candidates, family) for family in end] for end in (ends.proponents, ends.opponents)]
        missed = expected.missed(thresholds, left, found)
        if len(parts) >= budget.candidates or not left.any() or missed.max() < expected.enough:
            return Rescored(ends, parts, exact, float(np.minimum(missed, k).sum()))


def _rows(candidates: Candidates, parts: Mapping[int, Tensor]) -> NDArray[Any]:
    """Rows, among the candidates, of the positions of `parts`. Candidates are in the order of their positions."""
    return np.searchsorted(candidates.positions, list(parts))


def _weakest(found: list[Family], candidates: Candidates, exact: NDArray[Any], *, k: int) -> float:
    """The absolute score above which an example belongs to the top k of its end."""
    if len(found) < k:
        return 0.0
    return abs(float(exact[_row(candidates, found[-1])]))


def _row(candidates: Candidates, family: Family) -> int:
    """Row, among the candidates, of the strongest example of a family."""
    return int(np.searchsorted(candidates.positions, family.position))


def _kth(values: NDArray[Any], k: int) -> float:
    return float(np.sort(values)[-k]) if len(values) >= k else 0.0
