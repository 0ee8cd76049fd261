"""The metrics that compare methods, computed from scores of every example for every query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from headwater.base.plugins import METRICS
from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.metrics import Bootstrapped, correlations, lds, mean, trace
from headwater.evaluate.removal import Removals, completed, loss_increase, removals_to_flip
from headwater.evaluate.tail_patch import tail_patch
from headwater.evaluate.truth import Truth


@dataclass(frozen=True)
class MetricResult:
    """The value of one column for a method."""

    value: Bootstrapped | None
    """None if there is nothing to measure."""
    by_query: Mapping[int, float | None]
    """Position of a query -> its number."""


@dataclass(frozen=True)
class Bench:
    """The data on which methods are measured."""

    context: EvaluationContext
    metrics: Sequence[str]
    """Names of the metrics."""
    truth: Truth | None
    """Losses of models trained on random halves of the corpus; None if no metric needs them."""
    removals: Removals | None
    """Trains models without some examples; None if no metric needs it."""


@dataclass(frozen=True)
class Metric:
    """A metric of attribution methods."""

    measure: Callable[[Bench, NDArray[Any]], Mapping[str, MetricResult]]
    """(bench, scores [N, Q]) -> {column name: result}."""
    needs_truth: bool = False
    """Whether models must be trained on random halves of the corpus."""
    needs_removals: bool = False
    """Whether models may be trained without some examples."""


def metric_of(name: str) -> Metric:
    """The metric of this name. Raises HeadwaterError if there is none (see plugins.Group.load)."""
    return METRICS.load(name)


def _lds(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    assert bench.truth is not None, "the truth is measured first"
    members, losses = bench.truth.members, bench.truth.losses
    each = correlations(scores, members, losses)[0].tolist()
    return {"LDS": MetricResult(lds(scores, members, losses, seed=bench.context.seed), dict(enumerate(each)))}


def _trace(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    """MRR over all queries, and recall@10 by the number of examples that state the fact."""
    stating, seed = bench.context.stating, bench.context.seed
    known = [q for q in range(stating.shape[1]) if stating[:, q].any()]
    traced = {q: trace(scores[:, q], stating[:, q], seed=seed) for q in known}
    ranks = {q: one.reciprocal_rank for q, one in traced.items()}
    found = {"MRR": MetricResult(mean(list(ranks.values()), seed) if ranks else None, ranks)}
    for times in sorted({int(stating[:, q].sum()) for q in known}):
        shares = {q: traced[q].recall for q in known if int(stating[:, q].sum()) == times}
        found[f"recall@10, {times}×"] = MetricResult(mean(list(shares.values()), seed), shares)
    return found


def _qld(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    assert bench.removals is not None, "removals are prepared first"
    rises = loss_increase(bench.removals, scores)
    return {
        "QLD, nats": MetricResult(
            mean(rises, bench.context.seed), dict(zip(bench.removals.queries, rises, strict=True))
        )
    }


def _tail_patch(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    changes = tail_patch(bench.context, scores)
    return {"tail patch, nats": MetricResult(mean(changes, bench.context.seed), dict(enumerate(changes)))}


def _brittleness(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    """Share of known completions that removing 1 % of the corpus flips, and the fewest removals that flip each."""
    assert bench.removals is not None, "removals are prepared first"
    removals = replace(bench.removals, queries=completed(bench.removals))
    fewest = removals_to_flip(removals, scores) if removals.queries else []
    flipped = [float(count is not None and count <= removals.count) for count in fewest]
    each = dict(zip(removals.queries, [None if count is None else float(count) for count in fewest], strict=True))
    return {
        "flipped by 1 %": MetricResult(
            mean(flipped, bench.context.seed) if flipped else None, dict(zip(removals.queries, flipped, strict=True))
        ),
        "removals to flip": MetricResult(None, each),
    }


LDS = Metric(_lds, needs_truth=True)
TRACE = Metric(_trace)
QLD = Metric(_qld, needs_removals=True)
TAIL_PATCH = Metric(_tail_patch)
BRITTLENESS = Metric(_brittleness, needs_removals=True)
