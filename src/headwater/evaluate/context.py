"""The input of an evaluation: a run, the queries, and the recipe that retrains the run's model."""

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
"""[N, Q]. A larger score says that the example raised the query's likelihood more."""
DEMO_QUERIES = "world.facts.jsonl"


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """The input of every attribution method."""

    run: Run
    queries: tuple[EvalQuery, ...]
    """The Q queries."""
    work: Path
    """Folder of all measurements."""
    recipe: Path | None = None
    """Recipe of the run's model; None reads the one beside the model."""
    checkpoints: Path | None = None
    """Folder of the checkpoints of the run's model, for methods that need them."""
    seed: int = 0

    @property
    def report(self) -> Report:
        """Called with the progress of long work."""
        return self.run.execution.report

    def attribution(self, curvature: Curvature) -> AttributionContext:
        """The attribution context with this curvature."""
        return AttributionContext(self.run.lm, self.run.corpus, curvature, self.run.execution)

    @cached_property
    def questions(self) -> list[Question]:
        """The queries as questions."""
        return [replace(self.run.question(one.prompt, one.completion), id=one.id) for one in self.queries]

    @cached_property
    def texts(self) -> list[str]:
        """The N texts of the corpus."""
        return [example.text for example in self.run.corpus.read(range(len(self.run.corpus)))]

    @cached_property
    def stating(self) -> NDArray[np.bool_]:
        """[N, Q] whether an example is known to state a query."""
        found = np.zeros((len(self.run.corpus), len(self.queries)), dtype=np.bool_)
        for q, query in enumerate(self.queries):
            for id in query.stories:
                if id not in self.run.corpus.position:
                    raise HeadwaterError(f"The query {query.id!r} names the example {id!r}, which is not in the run.")
                found[self.run.corpus.position[id], q] = True
        return found

    @cached_property
    def retraining(self) -> Retraining:
        """Retrains the run's model on parts of its corpus. Raises HeadwaterError if its recipe is unknown."""
        run = self.run
        retraining = retraining_of(
            run.lm, run.corpus, self.questions, recipe=self.recipe, folder=self.work / "retrained"
        )
        return replace(retraining, engine=run.execution.engine)


def open_context(
    path: Path, work: Path, queries: Path | None = None, *, execution: Execution = LOCAL
) -> EvaluationContext:
    """The context of the run at `path`. Without `queries`, the queries are those that `headwater demo` wrote.

    Raises HeadwaterError if there are no queries.
    """
    run = Run.open(path, execution=execution)
    given = queries or path / DEMO_QUERIES
    if queries is None and not given.exists():
        raise HeadwaterError(
            f"{path} has no queries, because `headwater demo` did not make it: {given.name} is missing. Name a file "
            'with --queries, one JSON object per line: {"id", "prompt", "completion"}.'
        )
    return EvaluationContext(run=run, queries=read_evaluation_queries(given), work=work)
