"""Recall of an index: the share of the exact top examples that sketches of several widths find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.attribution.index.build import COARSE_BYTES
from headwater.attribution.index.rescore import Budget, rescore
from headwater.attribution.index.search import Candidates, LoadedSketches, SketchQuery, search
from headwater.attribution.index.sketch import Sketch
from headwater.attribution.options import RankBy
from headwater.attribution.scores import Rows
from headwater.base.progress import Report, silent
from headwater.corpus.batches import Batch
from headwater.curvature.base import Curvature
from headwater.gradients.factored import FactoredGradient
from headwater.sweep.sweep import Sweep, fold


class Widths(Rows):
    """A reducer: sketches of several widths, and I(z, z), as bytes [N, 4 + Σ (4 + bytes)], in one sweep."""

    def __init__(self, curvature: Curvature, sketches: Sequence[Sketch]) -> None:
        super().__init__()
        self.curvature, self.sketches = curvature, sketches

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        whitened = self.curvature.whiten(gradients).cpu().numpy()
        parts: list[NDArray[np.uint8]] = [np.square(whitened).sum(axis=1, dtype=np.float32)[:, None].view(np.uint8)]
        for sketch in self.sketches:
            coded = sketch.encode(whitened)
            parts += [coded.scales[:, None].view(np.uint8), coded.codes]
        self.add(batch, torch.from_numpy(np.concatenate(parts, axis=1)))


def sketched(
    sweep: Sweep, curvature: Curvature, sketches: Sequence[Sketch], *, report: Report = silent
) -> list[LoadedSketches]:
    """The sketches of the corpus in every width, in memory."""
    rows = fold(sweep, lambda: Widths(curvature, sketches), report=report).values.numpy()
    energies, start = np.ascontiguousarray(rows[:, :4]).view(np.float32)[:, 0], 4
    found: list[LoadedSketches] = []
    for sketch in sketches:
        scales = np.ascontiguousarray(rows[:, start : start + 4]).view(np.float32)[:, 0]
        codes = np.ascontiguousarray(rows[:, start + 4 : start + 4 + sketch.bytes])
        start += 4 + sketch.bytes
        found.append(in_memory(sketch, scales, energies, codes=codes))
    return found


def in_memory(
    sketch: Sketch, scales: NDArray[Any], energies: NDArray[Any], *, codes: NDArray[np.uint8]
) -> LoadedSketches:
    """Loaded sketches without a table."""
    numbers = np.arange(len(codes))
    coarse, fine = (np.ascontiguousarray(part) for part in (codes[:, :COARSE_BYTES], codes[:, COARSE_BYTES:]))
    return LoadedSketches(
        sketch=sketch,
        table=None,  # pyright: ignore[reportArgumentType]
        row_ids=numbers,
        scales=scales,
        self_influence=energies,
        coarse=coarse,
        fine=fine,
        positions=numbers,
    )


@dataclass(frozen=True)
class Found:
    """The quality of an index's answer to one question."""

    recall: float
    """Share of the exact top k of both ends that the answer shows."""
    alone: float
    """Share of the exact top k of both ends in the top k by estimates, without exact scoring."""
    scored: int
    """Number of examples scored exactly."""
    missed: float
    """Expected number of shown examples that an exact scan would replace, as in an answer."""


def found_by(
    loaded: LoadedSketches,
    sketch_query: SketchQuery,
    exact: NDArray[Any],
    *,
    budget: Budget,
    rank_by: RankBy = "influence",
) -> Found:
    """Search and score as `ask` does, with the `exact` scores [N] of an earlier scan."""
    norms = np.sqrt(loaded.self_influence) if rank_by == "relative" else None
    candidates = search(loaded, sketch_query, rank_by, among=None)
    found = rescore(
        lambda positions: {position: torch.tensor([[float(exact[position])]]) for position in positions},
        candidates,
        budget,
        norms=None if norms is None else dict(enumerate(norms.tolist())),
        corpus=None,
    )
    shown = [[family.position for family in end] for end in (found.ends.proponents, found.ends.opponents)]
    strengths = exact if norms is None else exact / norms
    alone = recall_of(_estimated(candidates, budget.k), strengths, budget.k)
    return Found(recall_of(shown, strengths, budget.k), alone, len(found.parts), found.expected_missed)


def recall_of(shown: Sequence[Sequence[int]], strengths: NDArray[Any], k: int) -> float:
    """Share of the exact top k of proponents and opponents whose positions are `shown`."""
    order = np.argsort(strengths, kind="stable").tolist()
    return sum(len({*top} & {*end}) for top, end in zip((order[-k:], order[:k]), shown, strict=True)) / (2 * k)


def _estimated(candidates: Candidates, k: int) -> list[list[int]]:
    """Positions of the k highest and of the k lowest estimates."""
    order = candidates.positions[np.argsort(candidates.estimates, kind="stable")].tolist()
    return [order[-k:], order[:k]]
