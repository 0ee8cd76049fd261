"""The whole evaluation: measure what methods are judged by, judge them, and write it all down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.base.files import write_text
from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.leaderboard import MethodResult, judge, markdown, table, write_parquet
from headwater.evaluate.measures import Bench, metric_of
from headwater.evaluate.methods import Method
from headwater.evaluate.queries import spread
from headwater.evaluate.removal import Removals
from headwater.evaluate.truth import Truth, ground_truth
from headwater.render.plots.costs import METRIC, Costs, Point, cost
from headwater.render.plots.sheet import can_draw

REFERENCE = "ekfac"
"""The method that the others' LDS is compared with."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is measured, and on how much."""

    metrics: Sequence[str] = ("lds", "trace")
    """Their names."""
    subsets: int = 64
    seeds: int = 1
    """Trainings on each subset."""
    removed: int = 9
    """Queries that examples are removed for."""
    jobs: int = 1
    """Trainings at a time."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Methods, the best first, and what they were measured on."""

    scene: EvaluationContext
    plan: EvaluationPlan
    results: list[MethodResult]
    truth: Truth | None
    unit: float | None
    """CPU seconds of training on the whole corpus; None where nothing was retrained."""

    @property
    def reference(self) -> MethodResult | None:
        return next((result for result in self.results if result.method.name == REFERENCE), None)

    @property
    def title(self) -> str:
        said = f"{len(self.scene.queries)} queries, {len(self.scene.run.corpus):,} training examples"
        if self.truth is None:
            return said
        seeds, subsets, _ = self.truth.by_seed.shape
        return f"{said}, {subsets} halves × {seeds} {'trainings' if seeds > 1 else 'training'}"

    @property
    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        found: list[str] = []
        if self.unit is not None:
            found.append(
                f"One training on the whole corpus takes {self.unit:.0f} s of CPU time. The cost of a method is its "
                "CPU time for all queries, fitting included, in units of that training."
            )
        if self.truth is not None and (ceiling := self.truth.ceiling()) is not None:
            found.append(
                "Noise ceiling: trainings differ by chance. A method that predicts their mean exactly would have an "
                f"LDS of about {ceiling:.2f} here."
            )
        if self.truth is not None and "lds" in self.plan.metrics and not can_draw():
            found.append('For a plot of accuracy against cost: pip install "headwater[plots]"')
        return found


def measured(scene: EvaluationContext, methods: Sequence[Method], plan: EvaluationPlan) -> Board:
    """Retrain what has not been retrained yet, score what has not been scored, and judge the methods."""
    truth, removals = None, None
    metrics = [metric_of(name) for name in plan.metrics]
    if any(metric.needs_truth for metric in metrics):
        truth = ground_truth(
            scene.retraining, plan.subsets, plan.seeds, jobs=plan.jobs, report=scene.report, seed=scene.seed
        )
    if any(metric.needs_removals for metric in metrics):
        chosen = spread(scene.queries, plan.removed)
        removals = Removals(
            retraining=scene.retraining, queries=chosen, jobs=plan.jobs, report=scene.report, seed=scene.seed
        )
    bench = Bench(scene, plan.metrics, truth, removals)
    results = [judge(bench, method) for method in methods]
    results.sort(key=_strength, reverse=True)
    unit = None if truth is None and removals is None else scene.retraining.seconds()
    return Board(scene=scene, plan=plan, results=results, truth=truth, unit=unit)


def write_all(board: Board) -> list[Path]:
    """`results.parquet`, `results.md`, and where there is an LDS and matplotlib `results.svg`; returns their paths."""
    work = board.scene.work
    written = [work / "results.parquet", work / "results.md"]
    write_parquet(board.scene, board.results, written[0], facts=_facts(board))
    notes = "".join(f"\n{note}\n" for note in board.notes)
    write_text(written[1], f"{board.title}\n\n{markdown(table(board.results, board.unit, board.reference))}{notes}")
    if board.truth is not None and "lds" in board.plan.metrics and can_draw():
        written.append(costs(board).save(work / "results.svg"))
    return written


def costs(board: Board) -> Costs:
    """Accuracy against cost, as a picture. Raises HeadwaterError where no LDS was measured."""
    points: list[Point] = []
    for result in board.results:
        drawn = result.found[METRIC].value if METRIC in result.found else None
        if drawn is not None:
            interval = drawn.interval
            points.append(
                Point(
                    method=result.method.name,
                    value=interval.value,
                    low=interval.low,
                    high=interval.high,
                    cpu_seconds=result.cpu_seconds,
                )
            )
    return cost(points, **_facts(board))


def _facts(board: Board) -> dict[str, float | None]:
    """What a picture of the results says beside them: the cost of a training, and the most that can be reached."""
    return {"unit": board.unit, "ceiling": None if board.truth is None else board.truth.ceiling()}


def _strength(result: MethodResult) -> float:
    """What results are ordered by: the first thing that was measured."""
    values = [found.value.value for found in result.found.values() if found.value is not None]
    return values[0] if values else 0.0
