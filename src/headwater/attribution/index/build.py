"""Building and changing the index: bring the table to hold exactly the examples of the corpus, each sketched once.

The first build, going on after a kill, adding and removing are all this one thing: `bring_up_to_date`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.attribution.index.sketch import Sketch
from headwater.attribution.index.table import (
    Table,
    add_missing_columns,
    create_table,
    metadata_types,
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
"""Of every sketch, so many bytes are looked at first."""


class Sketches:
    """A reducer: the sketch, loss and self-influence of every example, in corpus order.

    The self-influence of sketches of some directions is what these have of it over the share they have of its mean.
    """

    def __init__(self, curvature: Curvature | TruncatedCurvature, sketch: Sketch) -> None:
        self.curvature = curvature
        self.sketch = sketch
        self.rows: list[NDArray[np.int64]] = []
        self.codes: list[NDArray[np.uint8]] = []
        self.numbers: list[NDArray[np.float32]] = []
        """[B, 3] scale, loss, self-influence."""

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
    """What an index is built with."""

    lm: LanguageModel
    corpus: Corpus
    curvature: Curvature | TruncatedCurvature
    """Or some directions of it, where only these are sketched."""
    sketch: Sketch
    url: str
    binding: str
    """Fingerprints and settings; a table bound to others is made anew."""
    execution: Execution = LOCAL


@dataclass(frozen=True)
class Changes:
    """What bringing the index up to date has done."""

    added: int
    removed: int
    replaced: bool = False
    """Whether an index with other settings was there, and was made anew."""


def bring_up_to_date(work: IndexWork) -> Changes:
    """Make the table hold every example of the corpus once, and nothing else.

    Every shard is one commit: stopped anywhere, it goes on with the first shard that is not whole, and no example is
    there twice. What is there already is not computed again.
    """
    table = open_table(work.url)
    stale = table is not None and table.binding != work.binding
    made = table is None or stale
    if table is None or stale:
        coarse = min(COARSE_BYTES, work.sketch.bytes)
        types = metadata_types(work.corpus, range(len(work.corpus)))
        texts = not work.corpus.streamed
        schema = table_schema(types, coarse, work.sketch.bytes - coarse, binding=work.binding, texts=texts)
        table = create_table(work.url, schema)
    there = table.keys()
    gone = np.setdiff1d(there, work.corpus.keys)
    table.delete(gone.tolist())
    there = np.setdiff1d(there, gone)
    missing = np.setdiff1d(work.corpus.keys, there)
    if len(missing) and not made:  # a table just made has the columns of the whole corpus
        add_missing_columns(table, metadata_types(work.corpus, work.corpus.positions_of(missing).tolist()))
    for stretch in work.corpus.key_ranges:
        _add_stretch(work, table, stretch, there=there)
    if len(missing) or len(gone) or not table.has_words:
        work.execution.report(Step(stage="full-text index", done=0, total=1, tokens=0))
        table.tidy()
        work.execution.report(Step(stage="full-text index", done=1, total=1, tokens=0))
    return Changes(len(missing), len(gone), stale)


def _add_stretch(work: IndexWork, table: Table, stretch: tuple[int, int], *, there: NDArray[np.int64]) -> None:
    """Sketch the examples of one stretch of keys that are not `there`. Its shards follow from the stretch alone."""
    first, last = np.searchsorted(work.corpus.keys, stretch)
    keys = work.corpus.keys[first:last]
    positions = range(int(first), int(last))
    missing = ~np.isin(keys, there)
    if not missing.any():
        return
    sweep = work.execution.sweep("index", work.lm, work.curvature.layers, sequences=work.corpus.sequences(positions))

    def finished(shard: Shard) -> bool:
        return not missing[shard.start : shard.stop].any()

    make = partial(Sketches, work.curvature, work.sketch)  # and nothing else, since an engine may send it elsewhere
    for shard, reducer in each_shard(sweep, make, finished, report=work.execution.report):
        wanted = np.flatnonzero(missing[shard.start : shard.stop])
        table.append(_rows(work, table, positions[shard.start : shard.stop], sketches=reducer, wanted=wanted))


def _rows(
    work: IndexWork, table: Table, positions: Sequence[int], *, sketches: Sketches, wanted: NDArray[np.int64]
) -> Any:
    """The table's rows of the `wanted` among a shard's examples."""
    state = sketches.state_dict()
    chosen = [positions[k] for k in wanted.tolist()]
    codes, numbers = (state[name].numpy()[wanted] for name in ("codes", "numbers"))
    return table_rows(
        table.lance.schema, work.corpus.keys[chosen], list(work.corpus.read(chosen)), codes=codes, numbers=numbers
    )
