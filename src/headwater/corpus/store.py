"""Tokenised examples on disk: an Arrow file, memory-mapped, so that its size never matters to memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128

from headwater.corpus.batches import TokenSequence, all_targets
from headwater.corpus.read import Record
from headwater.corpus.tokenize import LongTexts, Tokenized, fit_windows, tokenize
from headwater.errors import CorpusError
from headwater.files import replacing

ROWS_PER_BATCH = 1000
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("metadata", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("ends", pa.list_(pa.int32())),
        ("targets", pa.list_(pa.bool_())),
    ]
)
"""`targets` is null where every token but the first is learned."""


@dataclass(frozen=True)
class Example:
    """One training example, as the model read it."""

    id: str
    text: str
    source: str
    """File and line it came from."""
    metadata: dict[str, Any]
    tokenized: Tokenized
    targets: list[bool] | None = None
    """[T] which tokens carry loss; None is all but the first."""

    @property
    def sequence(self) -> TokenSequence:
        whole = all_targets(self.tokenized.input_ids, self.id)
        return whole if self.targets is None else replace(whole, targets=np.array(self.targets, dtype=np.bool_))

    @property
    def pieces(self) -> list[str]:
        """The text of each token; they join to `text`."""
        return self.tokenized.pieces(self.text)


@dataclass(frozen=True)
class CorpusCounts:
    """What became of the records that were read."""

    records: int
    examples: int
    tokens: int
    long: int
    """Records longer than max_tokens: truncated, or split into windows."""
    too_short: int
    """Records that carry no loss and were left out: of fewer than two tokens, or with nothing to learn in them."""
    fingerprint: str
    """SHA-256 of every example's id and tokens, in order."""
    checksum: str = ""
    """Of all that the file holds; against accidents."""


class Segment:
    """One file of examples, written by `write_corpus` and never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise CorpusError(f"{path} cannot be read ({error}). Create the run again.") from error
        self.counts = CorpusCounts(**json.loads(self._file.schema.metadata[b"counts"]))

    def __len__(self) -> int:
        return self.counts.examples

    def read(self, rows: Iterable[int]) -> Iterator[Example]:
        """The examples at `rows`, in that order."""
        for value in self.raw(rows):
            yield Example(
                value["id"], value["text"], value["source"], _metadata(value["metadata"]),
                Tokenized(value["tokens"], value["ends"]), value.get("targets"),
            )  # fmt: skip

    def raw(self, rows: Iterable[int]) -> Iterator[dict[str, Any]]:
        """The columns of `rows` as they are in the file."""
        opened: int | None = None
        columns: dict[str, Any] = {}
        for index in rows:
            batch, row = divmod(int(index), ROWS_PER_BATCH)
            if batch != opened:
                columns = dict(zip(self._file.schema.names, self._file.get_batch(batch).columns, strict=True))
                opened = batch
            yield {name: column[row].as_py() for name, column in columns.items()}

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in order."""
        batches = (self._file.get_batch(k) for k in range(self._file.num_record_batches))
        return [id for batch in batches for id in batch.column("id").to_pylist()]


def _metadata(text: str) -> dict[str, Any]:
    """Columns of a record; a number that is not one, as data frames write what is missing, is None."""
    return json.loads(text, parse_constant=lambda _: None)


def recounted(segment: Segment) -> tuple[str, str]:
    """The fingerprint and the checksum of a segment's examples, from what it holds now."""
    counting = _Counting()
    for row in segment.raw(range(len(segment))):
        counting.add(row)
    return counting.fingerprint.hexdigest()[:16], counting.checksum.hexdigest()


class _Counting:
    """Takes rows as they are written, and comes to what tells them from any others."""

    def __init__(self) -> None:
        self.fingerprint = hashlib.sha256()
        self.checksum = xxh3_128()

    def add(self, row: Mapping[str, Any]) -> None:
        identity = row["id"].encode() + b"\0" + np.asarray(row["tokens"], dtype=np.int32).tobytes() + b"\0"
        if row.get("targets") is not None:
            identity += bytes(row["targets"]) + b"\0"
        self.fingerprint.update(identity)
        self.checksum.update(identity)
        self.checksum.update("\0".join([row["text"], row["source"], row["metadata"]]).encode())
        self.checksum.update(np.asarray(row["ends"], dtype=np.int32).tobytes())


def write_corpus(
    path: Path, records: Iterable[Record], tokenizer: Any, max_tokens: int, long_texts: LongTexts = "truncate"
) -> CorpusCounts:
    """Tokenise `records` and write them to `path`. Raises CorpusError where nothing is left to predict.

    Windows of a split text are called `id#0`, `id#1`, …
    """
    table = path.with_name(path.name + ".rows")
    try:
        counts = _write_rows(table, records, tokenizer, max_tokens, long_texts)
        if not counts.examples:
            raise CorpusError(
                "Every example of the corpus is shorter than two tokens: there is nothing to predict. "
                "Look at --text-field."
            )
        # The counts belong in the schema, which an Arrow file begins with, so the rows are copied behind them.
        with replacing(path) as part, pa.ipc.open_stream(pa.memory_map(str(table))) as rows:
            schema = SCHEMA.with_metadata({"counts": json.dumps(asdict(counts))})
            with pa.ipc.new_file(str(part), schema) as writer:
                for batch in rows:
                    writer.write_batch(pa.record_batch(batch.columns, schema=schema))
    finally:
        table.unlink(missing_ok=True)
    return counts


def _write_rows(
    path: Path, records: Iterable[Record], tokenizer: Any, max_tokens: int, long_texts: LongTexts
) -> CorpusCounts:
    counting = _Counting()
    numbered: set[str] = set()
    read = examples = tokens = long = too_short = 0
    pending: list[dict[str, Any]] = []
    stream = iter(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(str(path), SCHEMA) as writer:
        while block := list(islice(stream, ROWS_PER_BATCH)):
            for record, tokenized in zip(block, tokenize(tokenizer, [r.text for r in block]), strict=True):
                read += 1
                long += len(tokenized.input_ids) > max_tokens
                rows = list(_rows(record, tokenized, max_tokens, long_texts))
                too_short += not rows
                for row in rows:
                    _check_window_id(row["id"], record, numbered)
                    counting.add(row)
                    examples, tokens = examples + 1, tokens + len(row["tokens"])
                    pending.append(row)
            while len(pending) >= ROWS_PER_BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(pending[:ROWS_PER_BATCH], schema=SCHEMA))
                del pending[:ROWS_PER_BATCH]
        if pending:
            writer.write_batch(pa.RecordBatch.from_pylist(pending, schema=SCHEMA))
    fingerprint, checksum = counting.fingerprint.hexdigest()[:16], counting.checksum.hexdigest()
    return CorpusCounts(read, examples, tokens, long, too_short, fingerprint, checksum)


def _check_window_id(id: str, record: Record, numbered: set[str]) -> None:
    """Raises CorpusError where a window would be called what another example is; `numbered` holds the ids with a #."""
    if "#" not in id:
        return
    if id in numbered:
        raise CorpusError(
            f"{record.source}: the id {id!r} is used twice, because the windows of a long text are called by its id, "
            "# and a number. Use ids without #, or --long truncate."
        )
    numbered.add(id)


def _rows(record: Record, tokenized: Tokenized, max_tokens: int, long_texts: LongTexts) -> Iterator[dict[str, Any]]:
    """The windows of a record that carry loss."""
    split = long_texts == "split" and len(tokenized.input_ids) > max_tokens
    learned = None if record.learned is None else tokenized.overlapping(record.learned)
    for k, (text, window) in enumerate(fit_windows(record.text, tokenized, max_tokens, long_texts)):
        targets = None
        if learned is not None:
            targets = [False, *learned[k * max_tokens + 1 : k * max_tokens + len(window.input_ids)]]
        if len(window.input_ids) < 2 or (targets is not None and not any(targets)):
            continue
        yield {
            "id": f"{record.id}#{k}" if split else record.id,
            "text": text,
            "source": record.source,
            "metadata": json.dumps(dict(record.metadata), ensure_ascii=False),
            "tokens": window.input_ids,
            "ends": window.ends,
            "targets": targets,
        }
