"""What is evaluated: a run, the queries that methods are asked, and the recipe that retrains its model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.context import AttributionContext
from headwater.attribution.question import Question
from headwater.base.progress import Report
from headwater.curvature.base import Curvature
from headwater.errors import HeadwaterError
from headwater.evaluate.queries import EvalQuery, read_evaluation_queries
from headwater.runs.run import Run
from headwater.sweep.execution import LOCAL, Execution
from headwater.training.retrain import Retraining, retraining_of

ScoreMatrix = NDArray[np.float64]
"""[N, Q], larger where the example is said to have raised the query's likelihood more."""
DEMO_QUERIES = "world.facts.jsonl"


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """What every method of attribution is given."""

    run: Run
    queries: tuple[EvalQuery, ...]
    """Q of them."""
    work: Path
    """Where everything measured is kept."""
    recipe: Path | None = None
    """Of the run's model; None looks beside the model."""
    checkpoints: Path | None = None
    """Of the run's model on its way, for the methods that look back at them."""
    seed: int = 0

    @property
    def report(self) -> Report:
        """Called as the long work goes on."""
        return self.run.execution.report

    def attribution(self, curvature: Curvature) -> AttributionContext:
        """What a question is answered with, by this curvature."""
        return AttributionContext(self.run.lm, self.run.corpus, curvature, self.run.execution)

    @cached_property
    def questions(self) -> list[Question]:
        """Every query as a question, in their order."""
        return [replace(self.run.question(one.prompt, one.completion), id=one.id) for one in self.queries]

    @cached_property
    def texts(self) -> list[str]:
        """The corpus, in its order: N."""
        return [example.text for example in self.run.corpus.read(range(len(self.run.corpus)))]

    @cached_property
    def stating(self) -> NDArray[np.bool_]:
        """[N, Q] which example is known to state which query."""
        found = np.zeros((len(self.run.corpus), len(self.queries)), dtype=np.bool_)
        for q, query in enumerate(self.queries):
            for id in query.stories:
                if id not in self.run.corpus.position:
                    raise HeadwaterError(f"The query {query.id!r} names an example {id!r}, which the run has not.")
                found[self.run.corpus.position[id], q] = True
        return found

    @cached_property
    def retraining(self) -> Retraining:
        """How the run's model is trained on less. Raises HeadwaterError where its recipe is not known."""
        run = self.run
        retraining = retraining_of(
            run.lm, run.corpus, self.questions, recipe=self.recipe, folder=self.work / "retrained"
        )
        return replace(retraining, engine=run.execution.engine)


def open_context(
    path: Path, work: Path, queries: Path | None = None, *, execution: Execution = LOCAL
) -> EvaluationContext:
    """The context of the run at `path`; without `queries`, those of a demo's world beside it.

    Raises HeadwaterError where there are none.
    """
    run = Run.open(path, execution=execution)
    given = queries or path / DEMO_QUERIES
    if queries is None and not given.exists():
        raise HeadwaterError(
            f"{path} was not made by `headwater demo`, which leaves the queries in {given.name}. Name a file of your "
            'own with --queries: {"id", "prompt", "completion"} a line.'
        )
    return EvaluationContext(run=run, queries=read_evaluation_queries(given), work=work)
