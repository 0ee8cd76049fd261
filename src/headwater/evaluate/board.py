"""Runs an evaluation: retrains models, scores all methods, and returns the results as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.leaderboard import MethodResult, measure_method, write_parquet
from headwater.evaluate.measures import Bench, metric_of
from headwater.evaluate.methods import Method
from headwater.evaluate.options import EvaluationPlan
from headwater.evaluate.queries import select_queries
from headwater.evaluate.removal import Removals
from headwater.evaluate.truth import Truth, ground_truth

REFERENCE = "ekfac"
"""The method with which the LDS of the others is compared."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Results of an evaluation, the best method first, with what they were measured on."""

    context: EvaluationContext
    plan: EvaluationPlan
    results: list[MethodResult]
    truth: Truth | None
    unit: float | None
    """CPU seconds of training on the whole corpus; None if nothing was retrained."""

    @property
    def reference(self) -> MethodResult | None:
        return next((result for result in self.results if result.method.name == REFERENCE), None)

    @property
    def ceiling(self) -> float | None:
        """The LDS of a method that predicts the mean of many trainings exactly; None if unknown."""
        return None if self.truth is None else self.truth.ceiling()


def evaluate_methods(context: EvaluationContext, methods: Sequence[Method], plan: EvaluationPlan) -> Board:
    """Do the missing retrainings and scores, and measure the methods."""
    truth, removals = None, None
    metrics = [metric_of(name) for name in plan.metrics]
    if any(metric.needs_truth for metric in metrics):
        truth = ground_truth(
            context.retraining, plan.subsets, plan.seeds, jobs=plan.jobs, report=context.report, seed=context.seed
        )
    if any(metric.needs_removals for metric in metrics):
        chosen = select_queries(context.queries, plan.removed)
        removals = Removals(
            retraining=context.retraining, queries=chosen, jobs=plan.jobs, report=context.report, seed=context.seed
        )
    bench = Bench(context, plan.metrics, truth, removals)
    results = [measure_method(bench, method) for method in methods]
    results.sort(key=_sort_key, reverse=True)
    unit = None if truth is None and removals is None else context.retraining.seconds()
    return Board(context=context, plan=plan, results=results, truth=truth, unit=unit)


def write_results(board: Board, path: Path) -> Path:
    """Write one row per method, column and query as Parquet. The unit of cost and the noise ceiling are metadata."""
    facts = {"unit": board.unit, "ceiling": board.ceiling}
    write_parquet(board.context, board.results, path, facts=facts)
    return path


def _sort_key(result: MethodResult) -> float:
    """The value of the first measured metric, by which results are sorted."""
    values = [found.value.value for found in result.found.values() if found.value is not None]
    return values[0] if values else 0.0
