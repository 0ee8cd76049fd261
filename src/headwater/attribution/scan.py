"""Scans: exact scores of the whole corpus, streamed to one Parquet file in constant memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.attribution.preconditioned import PreconditionedQueries
from headwater.attribution.scores import Scores, TokenScores
from headwater.base.files import replacing
from headwater.base.lock import exclusive
from headwater.base.progress import Report, Step, silent
from headwater.corpus.corpus import Corpus
from headwater.errors import HeadwaterError
from headwater.sweep.shards import Shard
from headwater.sweep.sweep import Sweep, each_shard


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A scan's queries and file format.

    The file has one row per example: `id` and one column per query; with `tokens`, also `<query>.tokens`.
    """

    corpus: Corpus
    query_ids: Sequence[str]
    preconditioned: PreconditionedQueries
    """R_q of the queries, layer -> [Q, O, I], in the order of `query_ids`."""
    tokens: bool
    binding: str
    """Fingerprints and settings, stored in the metadata of files. Finished parts with another binding are not used."""

    @property
    def schema(self) -> Any:
        fields: list[Any] = [pa.field("id", pa.string())]
        for query in self.query_ids:
            fields.append(pa.field(query, pa.float32()))
            if self.tokens:
                fields.append(pa.field(f"{query}.tokens", pa.list_(pa.float32())))
        return pa.schema(fields, {"headwater": self.binding})


def scan_corpus(scan: Scan, sweep: Sweep, output: Path, *, report: Report = silent) -> None:
    """Write the scores of every example to `output`.

    Finished shards are stored in `<output>.parts/`. After an interruption, only the missing shards are computed. If
    `output` already holds this scan, nothing is computed.
    """
    if bound_to(output, scan.binding):
        report(Step(stage=sweep.stage, done=len(scan.corpus), total=len(scan.corpus), tokens=0))
        return
    parts = output.with_name(output.name + ".parts")
    with exclusive(parts):
        _write_parts(scan, sweep, parts, report=report)
        with replacing(output) as whole, pq.ParquetWriter(whole, scan.schema, write_page_checksum=True) as writer:
            for shard in sweep.shards():
                writer.write_table(pq.read_table(_part(parts, shard), schema=scan.schema))
    shutil.rmtree(parts)


def _write_parts(scan: Scan, sweep: Sweep, parts: Path, *, report: Report) -> None:
    """Compute the parts of the shards that are missing or damaged."""

    def finished(shard: Shard) -> bool:
        return bound_to(_part(parts, shard), scan.binding) and undamaged(_part(parts, shard))

    make = partial(TokenScores if scan.tokens else Scores, scan.preconditioned)
    for shard, reducer in each_shard(sweep, make, finished, report=report):
        with replacing(_part(parts, shard)) as part:
            pq.write_table(_table(scan, shard, reducer), part, write_page_checksum=True)


def _part(parts: Path, shard: Shard) -> Path:
    return parts / f"{shard.start:09d}-{shard.stop:09d}.parquet"


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


def bound_to(path: Path, binding: str) -> bool:
    """Whether `path` is a Parquet file with this binding. A truncated file counts as missing."""
    if not path.exists():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return metadata.get(b"headwater") == binding.encode()


def undamaged(path: Path) -> bool:
    """Whether every page of a Parquet file matches its checksum."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return all(True for _ in file.iter_batches())
    except (OSError, pa.ArrowException):
        return False


def check_query_ids(ids: Sequence[str]) -> None:
    """Raises HeadwaterError if two columns of the scores would have the same name."""
    names: set[str] = {"id"}
    for id in ids:
        if id in names:
            raise HeadwaterError(
                f"The query id {id!r} is used twice, or is 'id', the column of the examples' ids. Rename one of them."
            )
        names.add(id)
