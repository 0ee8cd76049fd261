"""Recall of the exact top ten by the index, for several widths of the sketch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index_runs import WIDTHS, Corpora, whitened_queries
from headwater.attribution.index.recall import Found, found_by, recall_of, sketched
from headwater.attribution.index.rescore import Budget
from headwater.attribution.index.search import LoadedSketches, SketchQuery
from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.options import AskOptions, RankBy
from headwater.attribution.preconditioned import question_gradients
from headwater.attribution.question import Question
from headwater.attribution.scores import Scores
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold

K = 10
ASKED = 12
"""Questions that are also asked end to end. The other questions are only searched."""


def recall_stage(work: Path) -> None:
    """Print the table of recall by corpus, sketch width and ranking."""
    print("| corpus | bytes | ranked by | recall@10 | lowest | scored exactly: mean, most | estimated missing share |")
    print("|---|---|---|---|---|---|---|")
    corpora = Corpora(work)
    for name, found in (("real stories", corpora.stories()), ("tiny world", corpora.world())):
        if found is None:
            print(f"| {name} | (not present) | | | | | |")
            continue
        run, questions = found
        curvature = run.curvature()
        weights = question_gradients(run.lm, curvature.layers, questions, curvature=curvature)
        sweep = Sweep(stage="scores", lm=run.lm, layers=curvature.layers, sequences=run.corpus.sequences())
        exact = fold(sweep, lambda weights=weights: Scores(weights)).values.numpy()
        dimensions = sum(layer.parameters for layer in curvature.layers)
        widths = [sketch_of_width(dimensions, width) for width in WIDTHS]
        rows = whitened_queries(run, questions)
        title = f"{name}, N = {len(run.corpus):,}"
        for loaded in sketched(
            Sweep(stage="sketches", lm=run.lm, layers=curvature.layers, sequences=run.corpus.sequences()),
            curvature,
            widths,
        ):
            for rank_by in ("influence", "relative"):
                results = [two_stages(loaded, SketchQuery(row), exact[:, q], rank_by) for q, row in enumerate(rows)]
                _recall_row(title, loaded.sketch.bytes, rank_by, results)
        run.build_index(bytes=WIDTHS[0])
        _recall_row(f"{title}, `run.ask`", WIDTHS[0], "influence", whole_path(run, questions[:ASKED], exact))


def two_stages(loaded: LoadedSketches, sketch_query: SketchQuery, exact: NDArray[Any], rank_by: RankBy) -> Found:
    """Search and rescoring as in `Run.ask`."""
    return found_by(loaded, sketch_query, exact, budget=Budget(K, AskOptions.candidates), rank_by=rank_by)


def whole_path(run: Run, questions: list[Question], exact: NDArray[Any]) -> list[Found]:
    """Recall of `Run.ask` end to end."""
    results: list[Found] = []
    for q, question in enumerate(questions):
        answer = run.ask(question, k=K, fold=False)
        ends = (answer.proponents, answer.opponents)
        shown = [[run.corpus.position[example.id] for example in end] for end in ends]
        recall = recall_of(shown, exact[:, q], K)
        results.append(Found(recall, math.nan, answer.examples_scored, answer.expected_missed))
    return results


def _recall_row(title: str, width: int, rank_by: str, results: list[Found]) -> None:
    recalls, scored = [result.recall for result in results], [result.scored for result in results]
    missed = np.mean([result.missed for result in results]) / (2 * K)
    print(
        f"| {title} | {width:,} | {rank_by} | **{np.mean(recalls):.4f}** | {min(recalls):.2f} | "
        f"{np.mean(scored):.0f}, {max(scored)} | {missed:.4f} |",
        flush=True,
    )
