"""Tokenised examples on disk: an Arrow file, memory-mapped, so that its size never matters to memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

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
    ]
)


@dataclass(frozen=True)
class Example:
    """One training example, as the model read it."""

    id: str
    text: str
    source: str
    """File and line it came from."""
    metadata: dict[str, Any]
    tokenized: Tokenized

    @property
    def sequence(self) -> TokenSequence:
        return all_targets(self.tokenized.input_ids, self.id)

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
    """Records of fewer than two tokens, which carry no loss and were left out."""
    fingerprint: str
    """SHA-256 of every example's id and tokens, in order."""


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
        opened: int | None = None
        columns: dict[str, Any] = {}
        for index in rows:
            batch, row = divmod(int(index), ROWS_PER_BATCH)
            if batch != opened:
                columns = dict(zip(SCHEMA.names, self._file.get_batch(batch).columns, strict=True))
                opened = batch
            value = {name: column[row].as_py() for name, column in columns.items()}
            yield Example(
                value["id"], value["text"], value["source"], _metadata(value["metadata"]),
                Tokenized(value["tokens"], value["ends"]),
            )  # fmt: skip

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in order."""
        batches = (self._file.get_batch(k) for k in range(self._file.num_record_batches))
        return [id for batch in batches for id in batch.column("id").to_pylist()]


def _metadata(text: str) -> dict[str, Any]:
    """Columns of a record; a number that is not one, as data frames write what is missing, is None."""
    return json.loads(text, parse_constant=lambda _: None)


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
    digest = hashlib.sha256()
    numbered: set[str] = set()
    read = examples = tokens = long = too_short = 0
    pending: list[dict[str, Any]] = []
    stream = iter(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(str(path), SCHEMA) as writer:
        while block := list(islice(stream, ROWS_PER_BATCH)):
            for record, tokenized in zip(block, tokenize(tokenizer, [r.text for r in block]), strict=True):
                read += 1
                if len(tokenized.input_ids) < 2:
                    too_short += 1
                    continue
                long += len(tokenized.input_ids) > max_tokens
                for row in _rows(record, tokenized, max_tokens, long_texts):
                    _check_window_id(row["id"], record, numbered)
                    ids = np.asarray(row["tokens"], dtype=np.int32)
                    digest.update(row["id"].encode() + b"\0" + ids.tobytes() + b"\0")
                    examples, tokens = examples + 1, tokens + len(ids)
                    pending.append(row)
            while len(pending) >= ROWS_PER_BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(pending[:ROWS_PER_BATCH], schema=SCHEMA))
                del pending[:ROWS_PER_BATCH]
        if pending:
            writer.write_batch(pa.RecordBatch.from_pylist(pending, schema=SCHEMA))
    return CorpusCounts(read, examples, tokens, long, too_short, digest.hexdigest()[:16])


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
    split = long_texts == "split" and len(tokenized.input_ids) > max_tokens
    for k, (text, window) in enumerate(fit_windows(record.text, tokenized, max_tokens, long_texts)):
        yield {
            "id": f"{record.id}#{k}" if split else record.id,
            "text": text,
            "source": record.source,
            "metadata": json.dumps(dict(record.metadata), ensure_ascii=False),
            "tokens": window.input_ids,
            "ends": window.ends,
        }
