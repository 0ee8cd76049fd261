"""Exact scores of a whole corpus to draw, computed by a run or read from a file of `headwater scan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.attribution.preconditioned import question_gradients
from headwater.attribution.question import Question
from headwater.attribution.scores import Scores
from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.sweep.sweep import fold


def exact_scores(run: Run, questions: Sequence[Question], damping: str | float | None = None) -> NDArray[np.float64]:
    """[N, Q] the influence of every example on every question, in one pass over the corpus."""
    curvature, execution = run.curvature(damping), run.execution
    preconditioned = question_gradients(run.lm, curvature.layers, questions, curvature=curvature)
    sweep = execution.sweep("scores", run.lm, curvature.layers, sequences=run.corpus.sequences())
    return fold(sweep, lambda: Scores(preconditioned), report=execution.report).values.double().numpy()


def scanned(path: Path, query: str | None = None) -> tuple[str, NDArray[np.float64]]:
    """(query id, [N] scores) of one query in a file that `headwater scan` wrote; by default of its only query.

    Raises HeadwaterError where it is no such file, does not hold the query, or holds several and none is named.
    """
    try:
        columns: list[Any] = list(pq.read_schema(path))
    except (OSError, pa.ArrowException) as error:
        raise HeadwaterError(f"{path} cannot be read as a Parquet file of scores: {error}") from error
    queries = [column.name for column in columns if pa.types.is_floating(column.type)]
    if not queries or columns[0].name != "id":
        raise HeadwaterError(f"{path} holds no scores. Write some: headwater scan RUN queries.jsonl -o scores.parquet")
    if query is None and len(queries) == 1:
        query = str(queries[0])
    if query is None or query not in queries:
        some = ", ".join(queries[:8]) + (", …" if len(queries) > 8 else "")
        problem = "holds several queries" if query is None else f"holds no query {query!r}"
        raise HeadwaterError(f"{path} {problem}. It has {len(queries):,}: {some}. Choose one with --query.")
    return query, pq.read_table(path, columns=[query])[query].to_numpy().astype(np.float64)
