"""Exact scores of the whole corpus, streamed to one Parquet file in constant memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.corpus import Corpus
from headwater.errors import HeadwaterError
from headwater.files import replacing
from headwater.influence.scores import Scores, TokenScores, Weights
from headwater.sweep.progress import Report, Step, silent
from headwater.sweep.sweep import Shard, Sweep, each_shard


@dataclass(frozen=True)
class Scan:
    """What a scan writes: one row an example, `id` and one column a query; with `tokens`, also `<query>.tokens`."""

    corpus: Corpus
    query_ids: Sequence[str]
    preconditioned: Weights
    """R_q of the queries, layer -> [Q, O, I], in the order of `query_ids`."""
    tokens: bool
    binding: str
    """Fingerprints and settings that decide whether finished parts are of use; kept in the file's metadata."""

    @property
    def schema(self) -> Any:
        fields: list[Any] = [pa.field("id", pa.string())]
        for query in self.query_ids:
            fields.append(pa.field(query, pa.float32()))
            if self.tokens:
                fields.append(pa.field(f"{query}.tokens", pa.list_(pa.float32())))
        return pa.schema(fields, {"headwater": self.binding})


def scan_corpus(scan: Scan, sweep: Sweep, output: Path, report: Report = silent) -> None:
    """Write the scores of every example to `output`.

    Finished shards wait beside it in `<output>.parts/`; run again after an interruption, only the missing ones are
    computed. Where `output` already holds this very scan, nothing is done.
    """
    if _bound_to(output, scan.binding):
        report(Step(sweep.stage, len(scan.corpus), len(scan.corpus), 0))
        return
    parts = output.with_name(output.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)

    def path(shard: Shard) -> Path:
        return parts / f"{shard.index:06d}.parquet"

    def finished(shard: Shard) -> bool:
        return _bound_to(path(shard), scan.binding)

    def make() -> Scores | TokenScores:
        return TokenScores(scan.preconditioned) if scan.tokens else Scores(scan.preconditioned)

    for shard, reducer in each_shard(sweep, make, finished, report):
        with replacing(path(shard)) as part:
            pq.write_table(_table(scan, shard, reducer), part)
    with replacing(output) as whole, pq.ParquetWriter(whole, scan.schema) as writer:
        for shard in sweep.shards():
            writer.write_table(pq.read_table(path(shard), schema=scan.schema))
    shutil.rmtree(parts)


def _table(scan: Scan, shard: Shard, reducer: Scores | TokenScores) -> Any:
    columns: dict[str, Any] = {"id": pa.array(scan.corpus.ids[shard.start : shard.stop])}
    if isinstance(reducer, Scores):
        for q, query in enumerate(scan.query_ids):
            columns[query] = pa.array(reducer.values[:, q].numpy(), pa.float32())
    else:
        rows = reducer.values
        for q, query in enumerate(scan.query_ids):
            columns[query] = pa.array([float(row[:, q].sum()) for row in rows], pa.float32())
            columns[f"{query}.tokens"] = pa.array([row[:, q].tolist() for row in rows], pa.list_(pa.float32()))
    return pa.table(columns, schema=scan.schema)


def _bound_to(path: Path, binding: str) -> bool:
    """Whether `path` is a whole Parquet file of this very scan. A file cut short is as good as absent."""
    if not path.exists():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return metadata.get(b"headwater") == binding.encode()


def check_query_ids(ids: Sequence[str]) -> None:
    """Raises HeadwaterError where two columns of the scores would share a name."""
    seen: set[str] = {"id"}
    for id in ids:
        if id in seen:
            raise HeadwaterError(
                f"The query id {id!r} is used twice (or is 'id', the column of the examples' own ids). Rename one."
            )
        seen.add(id)
