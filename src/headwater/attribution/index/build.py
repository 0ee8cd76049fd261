"""Building and updating the index: the table then has one row with a sketch for each example of the corpus.

Building, resuming after a kill, adding and removing examples are all done by `bring_up_to_date`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.attribution.index.columns import field_types
from headwater.attribution.index.sketch import Sketch
from headwater.attribution.index.table import (
    Table,
    add_missing_columns,
    create_table,
    open_table,
    table_rows,
    table_schema,
)
from headwater.base.progress import Step
from headwater.corpus.batches import Batch
from headwater.corpus.corpus import Corpus
from headwater.curvature.base import Curvature
from headwater.curvature.truncated import TruncatedCurvature
from headwater.gradients.factored import numbers_at_a_time
from headwater.gradients.reducer import LayerGradients
from headwater.lm.load import LanguageModel
from headwater.sweep.execution import LOCAL, Execution
from headwater.sweep.shards import Shard
from headwater.sweep.sweep import each_shard

COARSE_BYTES = 1024
"""Bytes of every sketch that the coarse pass of a search reads."""


class Sketches:
    """A reducer: the sketch, loss and self-influence of every example, in corpus order.

    With truncated directions, self-influence is estimated: the self-influence in these directions, divided by their
    share of the mean self-influence.
    """

    def __init__(self, curvature: Curvature | TruncatedCurvature, sketch: Sketch) -> None:
        self.curvature = curvature
        self.sketch = sketch
        self.rows: list[NDArray[np.int64]] = []
        self.codes: list[NDArray[np.uint8]] = []
        self.numbers: list[NDArray[np.float32]] = []
        """[B, 3] scale, loss and self-influence."""

    def update(self, batch: Batch, gradients: LayerGradients) -> None:
        self.rows.append(batch.rows)
        losses = gradients.losses.sum(dim=1).cpu().numpy()
        step = max(1, numbers_at_a_time(gradients.losses.device) // self.sketch.dimensions)
        for start in range(0, len(batch.ids), step):
            part = slice(start, start + step)
            whitened = self.curvature.whiten({name: gradient[part] for name, gradient in gradients.items()})
            coded = self.sketch.encode(whitened.float().cpu().numpy())
            self.codes.append(coded.codes)
            norms = coded.energies / self.curvature.share
            self.numbers.append(np.stack([coded.scales, losses[part], norms], axis=1).astype(np.float32))

    def merge(self, other: Sketches) -> None:
        count = sum(map(len, self.rows))
        self.rows += [rows + count for rows in other.rows]
        self.codes += other.codes
        self.numbers += other.numbers

    def state_dict(self) -> dict[str, torch.Tensor]:
        order = np.argsort(np.concatenate(self.rows))
        return {
            "codes": torch.from_numpy(np.concatenate(self.codes)[order]),
            "numbers": torch.from_numpy(np.concatenate(self.numbers)[order]),
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self.codes, self.numbers = [state["codes"].numpy()], [state["numbers"].numpy()]
        self.rows = [np.arange(len(self.codes[0]))]


@dataclass(frozen=True, kw_only=True)
class IndexWork:
    """The model, corpus, curvature and settings that an index is built with."""

    lm: LanguageModel
    corpus: Corpus
    curvature: Curvature | TruncatedCurvature
    """Truncated if only some directions are sketched."""
    sketch: Sketch
    url: str
    binding: str
    """Fingerprints and settings. A table with another binding is replaced."""
    execution: Execution = LOCAL


@dataclass(frozen=True)
class Changes:
    """The numbers of examples added to the index and removed from it."""

    added: int
    removed: int
    replaced: bool = False
    """Whether an index with other settings was replaced."""


def bring_up_to_date(work: IndexWork) -> Changes:
    """Sketch the examples that have no row in the table, and delete the rows of removed examples.

    Every shard is one commit. After an interruption, work resumes with the first incomplete shard, and no example has
    two rows. Existing rows are not computed again.
    """
    table = open_table(work.url)
    stale = table is not None and table.binding != work.binding
    is_new = table is None or stale
    if table is None or stale:
        coarse = min(COARSE_BYTES, work.sketch.bytes)
        types = field_types(work.corpus, range(len(work.corpus)))
        texts = not work.corpus.streamed
        schema = table_schema(types, coarse, work.sketch.bytes - coarse, binding=work.binding, texts=texts)
        table = create_table(work.url, schema)
    indexed = table.keys()
    surplus = np.setdiff1d(indexed, work.corpus.keys)
    table.delete(surplus.tolist())
    indexed = np.setdiff1d(indexed, surplus)
    missing = np.setdiff1d(work.corpus.keys, indexed)
    if len(missing) and not is_new:  # a new table has the columns of the whole corpus
        add_missing_columns(table, field_types(work.corpus, work.corpus.positions_of(missing).tolist()))
    for key_range in work.corpus.key_ranges:
        _add_range(work, table, key_range, indexed=indexed)
    if len(missing) or len(surplus) or not table.has_words:
        work.execution.report(Step(stage="full-text index", done=0, total=1, tokens=0))
        table.tidy()
        work.execution.report(Step(stage="full-text index", done=1, total=1, tokens=0))
    return Changes(len(missing), len(surplus), stale)


def _add_range(work: IndexWork, table: Table, key_range: tuple[int, int], *, indexed: NDArray[np.int64]) -> None:
    """Sketch the examples of a range of keys that are not `indexed`. Its shards depend on the range alone."""
    first, last = np.searchsorted(work.corpus.keys, key_range)
    keys = work.corpus.keys[first:last]
    positions = range(int(first), int(last))
    missing = ~np.isin(keys, indexed)
    if not missing.any():
        return
    sweep = work.execution.sweep("index", work.lm, work.curvature.layers, sequences=work.corpus.sequences(positions))

    def finished(shard: Shard) -> bool:
        return not missing[shard.start : shard.stop].any()

    make = partial(Sketches, work.curvature, work.sketch)  # small: an engine may send it to other machines
    for shard, reducer in each_shard(sweep, make, finished, report=work.execution.report):
        wanted = np.flatnonzero(missing[shard.start : shard.stop])
        table.append(_rows(work, table, positions[shard.start : shard.stop], sketches=reducer, wanted=wanted))


def _rows(
    work: IndexWork, table: Table, positions: Sequence[int], *, sketches: Sketches, wanted: NDArray[np.int64]
) -> Any:
    """Rows for the table: the `wanted` examples of a shard."""
    state = sketches.state_dict()
    selected = [positions[k] for k in wanted.tolist()]
    codes, numbers = (state[name].numpy()[wanted] for name in ("codes", "numbers"))
    return table_rows(
        table.lance.schema, work.corpus.keys[selected], list(work.corpus.read(selected)), codes=codes, numbers=numbers
    )
