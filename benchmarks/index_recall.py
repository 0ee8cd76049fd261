"""How many of the exact top ten a question by the index shows, at several widths of the sketch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.index_runs import WIDTHS, Corpora, in_memory, whitened_queries
from headwater.ask import DEFAULT_CANDIDATES
from headwater.corpus.batches import Batch
from headwater.curvature.kinds import Curvature
from headwater.gradient import FactoredGradient
from headwater.index.rescore import Budget, rescore
from headwater.index.search import Loaded, Sought, search
from headwater.index.sketch import Sketch, sketch_of_width
from headwater.influence.question import Question, preconditioned
from headwater.influence.scores import Rows, Scores
from headwater.run import Run
from headwater.sweep.sweep import Sweep, fold

K = 10
ASKED = 12
"""Questions that are also asked end to end; of the others only the exact scores are taken from the scan."""


class Widths(Rows):
    """[N, widths × (bytes + scale), …]: sketches of several widths, and I(z, z), in one sweep."""

    def __init__(self, curvature: Curvature, sketches: Sequence[Sketch]) -> None:
        super().__init__()
        self.curvature, self.sketches = curvature, sketches

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        whitened = self.curvature.whiten(gradients).numpy()
        parts: list[NDArray[np.uint8]] = [np.square(whitened).sum(axis=1, dtype=np.float32)[:, None].view(np.uint8)]
        for sketch in self.sketches:
            coded = sketch.encode(whitened)
            parts += [coded.scales[:, None].view(np.uint8), coded.codes]
        self.add(batch, torch.from_numpy(np.concatenate(parts, axis=1)))


def sketched(run: Run, sketches: Sequence[Sketch]) -> list[Loaded]:
    """The corpus's sketches of every width, in memory."""
    curvature = run.curvature()
    sweep = Sweep("sketches", run.lm, curvature.layers, run.corpus.sequences())
    rows = fold(sweep, lambda: Widths(curvature, sketches)).values.numpy()
    energies, start = np.ascontiguousarray(rows[:, :4]).view(np.float32)[:, 0], 4
    found: list[Loaded] = []
    for sketch in sketches:
        scales = np.ascontiguousarray(rows[:, start : start + 4]).view(np.float32)[:, 0]
        codes = np.ascontiguousarray(rows[:, start + 4 : start + 4 + sketch.bytes])
        start += 4 + sketch.bytes
        found.append(in_memory(sketch, scales, energies, codes))
    return found


def recall_stage(work: Path) -> None:
    print("| corpus | bytes | ranked by | recall@10 | worst question | scored exactly: mean, most | expected to miss |")
    print("|---|---|---|---|---|---|---|")
    corpora = Corpora(work)
    for name, found in (("real stories", corpora.stories()), ("tiny world", corpora.world())):
        if found is None:
            print(f"| {name} | (not present) | | | | | |")
            continue
        run, questions = found
        curvature = run.curvature()
        weights = preconditioned(run.lm, curvature, [question.sequence for question in questions])
        sweep = Sweep("scores", run.lm, curvature.layers, run.corpus.sequences())
        exact = fold(sweep, lambda weights=weights: Scores(weights)).values.numpy()
        dimensions = sum(layer.parameters for layer in curvature.layers)
        widths = [sketch_of_width(dimensions, width) for width in WIDTHS]
        rows = whitened_queries(run, questions)
        title = f"{name}, N = {len(run.corpus):,}"
        for loaded in sketched(run, widths):
            for rank_by in ("influence", "relative"):
                results = [two_stages(loaded, Sought(row), exact[:, q], rank_by) for q, row in enumerate(rows)]
                _recall_row(title, loaded.sketch.bytes, rank_by, results)
        run.build_index(bytes=WIDTHS[0])
        _recall_row(f"{title}, `run.ask`", WIDTHS[0], "influence", whole_path(run, questions[:ASKED], exact))


@dataclass(frozen=True)
class Result:
    recall: float
    scored: int
    missed: float


def two_stages(loaded: Loaded, sought: Sought, exact: NDArray[Any], rank_by: Any) -> Result:
    """Search and scoring as in `ask`, the exact scores taken from a scan made before."""
    norms = np.sqrt(loaded.self_influence) if rank_by == "relative" else None
    found = rescore(
        lambda positions: {position: torch.tensor([[float(exact[position])]]) for position in positions},
        search(loaded, sought, rank_by, None), Budget(K, DEFAULT_CANDIDATES),
        None if norms is None else dict(enumerate(norms.tolist())), None,
    )  # fmt: skip
    shown = [[family.position for family in end] for end in (found.ends.proponents, found.ends.opponents)]
    recall = recall_of(shown, exact if norms is None else exact / norms)
    return Result(recall, len(found.parts), found.expected_missed)


def whole_path(run: Run, questions: list[Question], exact: NDArray[Any]) -> list[Result]:
    """What `Run.ask` answers, end to end."""
    results: list[Result] = []
    for q, question in enumerate(questions):
        answer = run.ask(question, k=K, fold=False)
        ends = (answer.proponents, answer.opponents)
        shown = [[run.corpus.position[example.id] for example in end] for end in ends]
        results.append(Result(recall_of(shown, exact[:, q]), answer.examples_scored, answer.expected_missed))
    return results


def recall_of(shown: Sequence[Sequence[int]], strengths: NDArray[Any]) -> float:
    """Share of the exact top 10 at both ends that is shown."""
    order = np.argsort(strengths, kind="stable").tolist()
    return sum(len({*right} & {*end}) for right, end in zip((order[-K:], order[:K]), shown, strict=True)) / (2 * K)


def _recall_row(title: str, width: int, rank_by: str, results: list[Result]) -> None:
    recalls, scored = [result.recall for result in results], [result.scored for result in results]
    missed = np.mean([result.missed for result in results]) / (2 * K)
    print(
        f"| {title} | {width:,} | {rank_by} | **{np.mean(recalls):.4f}** | {min(recalls):.2f} | "
        f"{np.mean(scored):.0f}, {max(scored)} | {missed:.4f} |",
        flush=True,
    )
