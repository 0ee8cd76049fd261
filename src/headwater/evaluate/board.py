"""The whole evaluation as data: measure what methods are judged by, and judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.leaderboard import MethodResult, judge, write_parquet
from headwater.evaluate.measures import Bench, metric_of
from headwater.evaluate.methods import Method
from headwater.evaluate.options import EvaluationPlan
from headwater.evaluate.queries import select_queries
from headwater.evaluate.removal import Removals
from headwater.evaluate.truth import Truth, ground_truth

REFERENCE = "ekfac"
"""The method that the others' LDS is compared with."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Methods, the best first, and what they were measured on."""

    context: EvaluationContext
    plan: EvaluationPlan
    results: list[MethodResult]
    truth: Truth | None
    unit: float | None
    """CPU seconds of training on the whole corpus; None where nothing was retrained."""

    @property
    def reference(self) -> MethodResult | None:
        return next((result for result in self.results if result.method.name == REFERENCE), None)

    @property
    def ceiling(self) -> float | None:
        """The LDS of a method that predicts the mean of many trainings; None where it is not known."""
        return None if self.truth is None else self.truth.ceiling()


def evaluate_methods(context: EvaluationContext, methods: Sequence[Method], plan: EvaluationPlan) -> Board:
    """Retrain what has not been retrained yet, score what has not been scored, and judge the methods."""
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
    results = [judge(bench, method) for method in methods]
    results.sort(key=_strength, reverse=True)
    unit = None if truth is None and removals is None else context.retraining.seconds()
    return Board(context=context, plan=plan, results=results, truth=truth, unit=unit)


def write_results(board: Board, path: Path) -> Path:
    """One row a method, column and query, as Parquet; the unit of cost and the noise ceiling are in its metadata."""
    facts = {"unit": board.unit, "ceiling": board.ceiling}
    write_parquet(board.context, board.results, path, facts=facts)
    return path


def _strength(result: MethodResult) -> float:
    """What results are ordered by: the first metric that was measured."""
    values = [found.value.value for found in result.found.values() if found.value is not None]
    return values[0] if values else 0.0
