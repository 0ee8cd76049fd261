"""What a method is judged by: numbers about its scores of every example on every query."""

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
    """One number about a method."""

    value: Bootstrapped | None
    """None where there is nothing to measure it on."""
    by_query: Mapping[int, float | None]
    """Query's position -> its own number."""


@dataclass(frozen=True)
class Bench:
    """What methods are measured on."""

    context: EvaluationContext
    metrics: Sequence[str]
    """Their names."""
    truth: Truth | None
    """What models trained on random halves of the corpus say; None where no metric needs it."""
    removals: Removals | None
    """What models say that are trained without some examples; None where no metric needs it."""


@dataclass(frozen=True)
class Metric:
    """One way to judge a method."""

    measure: Callable[[Bench, NDArray[Any]], Mapping[str, MetricResult]]
    """Of what is measured on and scores [N, Q]: name of a column -> what was found."""
    needs_truth: bool = False
    """Whether the model is to be trained on random halves of the corpus first."""
    needs_removals: bool = False
    """Whether the model may have to be trained without some examples."""


def metric_of(name: str) -> Metric:
    """The metric of that name. Raises HeadwaterError where there is none (see plugins.Group.load)."""
    return METRICS.load(name)


def _lds(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    assert bench.truth is not None, "the truth is measured before methods are judged by it"
    members, losses = bench.truth.members, bench.truth.losses
    each = correlations(scores, members, losses)[0].tolist()
    return {"LDS": MetricResult(lds(scores, members, losses, seed=bench.context.seed), dict(enumerate(each)))}


def _trace(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    """MRR over all queries, and recall@10 by how many examples state them."""
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
    assert bench.removals is not None, "removals are chosen before methods are judged by them"
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
    """The share of known completions that taking out a hundredth flips, and the fewest removals that flip each."""
    assert bench.removals is not None, "removals are chosen before methods are judged by them"
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
