"""Search in the sketches: a coarse pass over their first bytes, then the remaining bytes of the best."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.index.kernels import look_up
from headwater.attribution.index.sketch import Sketch
from headwater.attribution.index.table import Table, byte_rows
from headwater.attribution.options import RankBy
from headwater.base.compiled import in_parallel
from headwater.corpus.corpus import Corpus
from headwater.curvature.base import Curvature
from headwater.curvature.truncated import project, truncated
from headwater.gradients.factored import Gradients

MEMORY_SHARE = 0.5
"""Share of the machine's free memory that sketches may use."""
FINE_AT_LEAST = 4096
FINE_SHARE = 1 / 50
"""The remaining bytes are read for this number of examples at each end, or for this share of the corpus if larger."""


@dataclass(frozen=True, kw_only=True)
class LoadedSketches:
    """The sketches of a corpus, by position."""

    sketch: Sketch
    table: Table
    row_ids: NDArray[np.int64]
    """[N] row id of each example in the table."""
    scales: NDArray[np.float32]
    """[N]"""
    self_influence: NDArray[np.float32]
    """[N] I(z, z)"""
    coarse: NDArray[np.uint8] | None
    """[N, bytes], or None if they are read from the table at every search."""
    fine: NDArray[np.uint8] | None
    """[N, bytes], or None if single rows are read from the table."""
    positions: NDArray[np.int64]
    """[N] corpus position of each row of the table, in the order of the table."""
    directions: int = 0
    """Eigenvectors kept on each side of a layer; 0 is all."""

    def __len__(self) -> int:
        return len(self.scales)

    def coarse_blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Positions and coarse codes of all examples, in parts."""
        if self.coarse is not None:
            yield np.arange(len(self)), self.coarse
            return
        start = 0
        for batch in self.table.batches(["coarse"]):
            yield self.positions[start : start + batch.num_rows], byte_rows(batch.column("coarse"))
            start += batch.num_rows

    def fine_rows(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Fine codes, and the row of each of `positions` in them."""
        if self.fine is not None:
            return self.fine, positions
        return self.table.take(self.row_ids[positions], "fine"), np.arange(len(positions))

    @property
    def memory(self) -> int:
        """Bytes of sketches in memory."""
        return sum(part.nbytes for part in (self.coarse, self.fine) if part is not None)


def load_sketches(table: Table, corpus: Corpus, sketch: Sketch, *, memory: int, directions: int = 0) -> LoadedSketches:
    """Read as much of the sketches as fits in `memory` bytes: all, only the coarse bytes, or none."""
    count = len(corpus)
    schema = table.lance.schema
    widths = {name: schema.field(name).type.list_size for name in ("coarse", "fine") if name in schema.names}
    in_memory: dict[str, NDArray[np.uint8]] = {}
    for name, width in widths.items():
        if count * width <= memory:
            memory -= count * width
            in_memory[name] = np.empty((count, width), np.uint8)
    numbers = {name: np.empty(count, np.float32) for name in ("scale", "self_influence")}
    row_ids, order, filled = np.empty(count, np.int64), np.empty(count, np.int64), 0
    for batch in table.batches(["key", *numbers, *in_memory]):
        positions = corpus.positions_of(batch.column("key").to_numpy())
        order[filled : filled + len(positions)] = positions
        filled += len(positions)
        row_ids[positions] = batch.column("_rowid").to_numpy()
        for name, column in numbers.items():
            column[positions] = batch.column(name).to_numpy()
        for name, rows in in_memory.items():
            rows[positions] = byte_rows(batch.column(name))
    fine = in_memory.get("fine", None if "fine" in widths else np.empty((count, 0), np.uint8))
    return LoadedSketches(
        sketch=sketch,
        table=table,
        row_ids=row_ids,
        scales=numbers["scale"],
        self_influence=numbers["self_influence"],
        coarse=in_memory.get("coarse"),
        fine=fine,
        positions=order,
        directions=directions,
    )


@dataclass(frozen=True)
class SketchQuery:
    """A question in the form that sketches are compared with."""

    whitened: NDArray[Any]
    """[D] its whitened gradient."""
    partial: bool = False
    """Whether the sketches cover only part of the influence."""


def make_sketch_query(curvature: Curvature, preconditioned: Gradients, directions: int = 0) -> SketchQuery:
    """The sketch query of one question with R_q {layer name: [1, O, I]}.

    `directions` is the number of eigenvectors that the sketches keep on each side of a layer; 0 is all.
    """
    if not directions:
        return SketchQuery(curvature.whitened_from(preconditioned)[0].float().cpu().numpy())
    vectors = project(curvature, truncated(curvature, directions), preconditioned)
    return SketchQuery(vectors[0].float().cpu().numpy(), partial=True)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The examples whose whole sketch was read, with estimates of their influence."""

    positions: NDArray[np.int64]
    """[n] in rising order"""
    estimates: NDArray[np.float64]
    """[n] of the score that is ranked by: influence, or influence over √I(z, z)."""
    deviations: NDArray[np.float64]
    """[n] standard deviation of each estimate, as an estimate of the sketched part."""
    others: NDArray[np.float64]
    """[searched − n] estimates of the other examples, from the first bytes of their sketches."""
    partial: bool = False
    """Whether the sketches cover only part of the influence."""

    @property
    def searched(self) -> int:
        """Number of examples in the coarse pass."""
        return len(self.positions) + len(self.others)


def search(
    loaded: LoadedSketches, sketch_query: SketchQuery, rank_by: RankBy, *, among: NDArray[np.bool_] | None
) -> Candidates:
    """The most likely proponents and opponents of a query by their sketches.

    `among` [N] selects the examples that are searched; None searches all. The coarse pass estimates every influence
    from the first bytes of the sketches. It keeps 4,096 examples at each end, or a fiftieth of the corpus if that is
    more. Their estimates are then completed with the remaining bytes.
    """
    table = loaded.sketch.table(sketch_query.whitened)
    sums = np.zeros(len(loaded), np.float32)
    width = 0
    for positions, codes in loaded.coarse_blocks():
        width = codes.shape[1]
        part = np.zeros(len(positions), np.float32)
        _look_up(codes, np.arange(len(positions)), table[:width], sums=part)
        sums[positions] = part
    norms = np.sqrt(loaded.self_influence.astype(np.float64))
    strengths = sums * loaded.scales if rank_by == "influence" else sums * (loaded.scales / np.maximum(norms, 1e-30))
    allowed = np.arange(len(loaded)) if among is None else np.flatnonzero(among)
    best = _highest_and_lowest(strengths, allowed)
    others = strengths[np.setdiff1d(allowed, best, assume_unique=True)].astype(np.float64)
    if width < loaded.sketch.bytes:
        codes, rows = loaded.fine_rows(best)
        finer = sums[best]
        _look_up(codes, rows, table[width:], sums=finer)
        sums[best] = finer
    estimates = sums[best].astype(np.float64) * loaded.scales[best]
    length = math.sqrt(float(sketch_query.whitened.astype(np.float64) @ sketch_query.whitened))
    deviations = loaded.sketch.noise * length * norms[best]
    if rank_by == "relative":
        estimates, deviations = estimates / np.maximum(norms[best], 1e-30), deviations / np.maximum(norms[best], 1e-30)
    return Candidates(
        positions=best, estimates=estimates, deviations=deviations, others=others, partial=sketch_query.partial
    )


def _highest_and_lowest(strengths: NDArray[Any], allowed: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions among `allowed` with the highest and the lowest strengths, in rising order."""
    each = max(FINE_AT_LEAST, math.ceil(len(allowed) * FINE_SHARE))
    if 2 * each >= len(allowed):
        return allowed
    order = np.argpartition(strengths[allowed], [each, len(allowed) - each - 1])
    return np.sort(allowed[np.concatenate([order[:each], order[-each:]])])


def _look_up(codes: NDArray[np.uint8], rows: NDArray[np.int64], table: NDArray[np.float32], *, sums: Any) -> None:
    table = np.ascontiguousarray(table)
    in_parallel(lambda start, stop: look_up(codes, rows[start:stop], table, sums[start:stop]), len(rows))
