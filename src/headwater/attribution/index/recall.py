"""How many of the exactly strongest examples an index finds: sketches of several widths against a scan."""

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
    """[N, widths × (bytes + scale), …]: sketches of several widths, and I(z, z), in one sweep."""

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
    """The corpus's sketches of every width, in memory."""
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
    """Sketches without a table."""
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
    """What a question to an index shows of the exact strongest."""

    recall: float
    """Share of the exact top k of both ends that is shown."""
    alone: float
    """The same of the top k by the estimates of the sketches, nothing scored."""
    scored: int
    """Examples scored exactly."""
    missed: float
    """How many of those shown a scan would replace, as the answer would say."""


def found_by(
    loaded: LoadedSketches,
    sketch_query: SketchQuery,
    exact: NDArray[Any],
    *,
    budget: Budget,
    rank_by: RankBy = "influence",
) -> Found:
    """Search and scoring as in `ask`, the exact scores [N] taken from a scan made before."""
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
    """Share of the exact top k at both ends, proponents and opponents, that is `shown` by position."""
    order = np.argsort(strengths, kind="stable").tolist()
    return sum(len({*right} & {*end}) for right, end in zip((order[-k:], order[:k]), shown, strict=True)) / (2 * k)


def _estimated(candidates: Candidates, k: int) -> list[list[int]]:
    """The k highest and the k lowest by their estimates."""
    order = candidates.positions[np.argsort(candidates.estimates, kind="stable")].tolist()
    return [order[-k:], order[:k]]
