"""The table of an index: an embedded LanceDB table, in a folder or at the URL of an object store.

It has one row per example: `key` (see corpus.Corpus), `id`, `text`, `location` (file and line), the corpus's own
columns, `tokens`, `loss`, `self_influence`, the sketch (`scale`, `coarse` bytes, `fine` bytes) and a checksum, `check`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from headwater.attribution.index.columns import OWN_COLUMNS, columns_for, filled, missing_fields, shown
from headwater.corpus.store import Example
from headwater.errors import HeadwaterError

NAME = "examples"
ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class Table:
    """An open table."""

    url: str
    lance: Any

    @property
    def binding(self) -> str:
        """The settings of the index as JSON, stored in the schema of the table."""
        return (self.lance.schema.metadata or {}).get(b"headwater", b"{}").decode()

    @property
    def version(self) -> int:
        """A number that grows with every change of the table."""
        return int(self.lance.version)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that a condition may use."""
        return [name for name in self.lance.schema.names if name not in ("key", "scale", "coarse", "fine", "check")]

    def __len__(self) -> int:
        return int(self.lance.count_rows())

    def keys(self) -> NDArray[np.int64]:
        """[rows] the keys of all rows, in the order of the table."""
        return self._column(self.lance.search().select(["key"]))

    def append(self, rows: Any) -> None:
        """Add rows in one commit: after a kill, all or none of them."""
        self.lance.add(rows)

    def delete(self, keys: Iterable[int]) -> None:
        """Delete the rows with these keys."""
        deleted = sorted(keys)
        for start in range(0, len(deleted), ROWS_AT_A_TIME):
            part = ", ".join(str(int(key)) for key in deleted[start : start + ROWS_AT_A_TIME])
            self.lance.delete(f"key IN ({part})")

    @property
    def has_texts(self) -> bool:
        """Whether the table has the texts of the examples. It has, unless the corpus is streamed."""
        return "text" in self.lance.schema.names

    @property
    def has_words(self) -> bool:
        """Whether there is a full-text index, or no texts to index."""
        return not self.has_texts or any("text" in index.columns for index in self.lance.list_indices())

    def tidy(self) -> None:
        """Make the full-text index, or update it and merge small files."""
        if self.has_words:
            self.lance.optimize()
        else:
            from lancedb.index import FTS

            words = FTS(with_position=True, stem=False, remove_stop_words=False)
            self.lance.create_index("text", config=words, replace=True)

    def matching(self, where: str | None = None, contains: str | None = None) -> NDArray[np.int64]:
        """Keys of the rows that meet the SQL condition `where` and whose text contains the words `contains`.

        Words are compared without case and must follow each other. Raises HeadwaterError, with the names of the
        columns, if the condition cannot be used.
        """
        query: Any = self.lance.search()
        if contains is not None:
            if not self.has_texts:
                raise HeadwaterError(
                    "--contains needs texts in the index, and the index of a streamed corpus has none. Use --where, or "
                    "make a run with its own texts: headwater fit RUN --model MODEL --corpus CORPUS, without --stream."
                )
            words = re.findall(r"\w+", contains)
            if not words:
                raise HeadwaterError(f"--contains {contains!r} contains no word. Give at least one.")
            from lancedb.query import MatchQuery, PhraseQuery

            kind: Any = PhraseQuery if len(words) > 1 else MatchQuery
            query = self.lance.search(kind(contains, "text"), query_type="fts")
        if where is not None:
            query = query.where(where, prefilter=True)
        try:
            return self._column(query.select(["key", "_score"] if contains is not None else ["key"]))
        except (ValueError, RuntimeError) as error:
            cause = re.sub(r"^(\w+ )*(input|error)[,:] ", "", str(error).split("\n")[0]).split(" Valid fields")[0]
            columns = ", ".join(shown(self.lance.schema, self.columns))
            raise HeadwaterError(
                f"The condition {where!r} cannot be used: {cause} Columns: {columns}. "
                "For example: --where \"tokens < 100 AND id LIKE 'story-%'\""
            ) from error

    def _column(self, query: Any) -> NDArray[np.int64]:
        return query.limit(max(1, len(self))).to_arrow().column("key").to_numpy()

    def damaged(self) -> list[int]:
        """Keys of the rows whose text, numbers or sketch do not match their checksum."""
        names = [name for name in ("coarse", "fine") if name in self.lance.schema.names]
        found: list[int] = []
        texts = ["text"] if self.has_texts else []
        for batch in self.batches(["key", *texts, "scale", "loss", "self_influence", *names, "check"]):
            keys = batch.column("key").to_numpy()
            numbers = np.stack([batch.column(name).to_numpy() for name in ("scale", "loss", "self_influence")], axis=1)
            codes = np.concatenate([byte_rows(batch.column(name)) for name in names], axis=1)
            row_texts = batch.column("text").to_pylist() if texts else [""] * len(keys)
            now = _checksums(keys, row_texts, numbers, codes=codes)
            found += keys[now != batch.column("check").to_numpy()].tolist()
        return sorted(found)

    @property
    def has_checksums(self) -> bool:
        return "check" in self.lance.schema.names

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """All rows in record batches, with their row ids."""
        query = self.lance.search().select(list(columns)).with_row_id(True).limit(max(1, len(self)))
        yield from query.to_batches(batch_size=ROWS_AT_A_TIME)

    def take(self, row_ids: NDArray[np.int64], column: str) -> NDArray[np.uint8]:
        """[n, bytes] a byte column of the rows `row_ids`, in their order."""
        found = self.lance.take_row_ids(row_ids.tolist()).select([column]).with_row_id(True).to_arrow()
        order = np.argsort(found.column("_rowid").to_numpy())
        rows = order[np.searchsorted(found.column("_rowid").to_numpy()[order], row_ids)]
        return byte_rows(found.column(column).combine_chunks())[rows]


def _checksums(
    keys: NDArray[np.int64], texts: Sequence[str], numbers: NDArray[np.float32], *, codes: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """[n] a checksum for each row. It detects accidents, not manipulation."""
    rows = zip(keys.tolist(), texts, numbers, np.ascontiguousarray(codes), strict=True)
    sums = [
        xxh3_64_intdigest(b"%d " % key + text.encode() + row.tobytes() + code.tobytes())
        for key, text, row, code in rows
    ]
    return np.array(sums, dtype=np.uint64).view(np.int64)


def byte_rows(column: Any) -> NDArray[np.uint8]:
    """The bytes [n, bytes] of a fixed-size list column."""
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def byte_column(rows: NDArray[np.uint8]) -> Any:
    """A fixed-size list column of `rows` [n, bytes]."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def open_table(url: str) -> Table | None:
    """The table at `url`, or None if there is none. Raises HeadwaterError if the URL cannot be reached."""
    if "://" not in url and not Path(url).exists():
        return None
    try:
        database = _connect(url)
        if NAME not in database.list_tables().tables:
            return None
        return Table(url, database.open_table(NAME))
    except (OSError, RuntimeError, ValueError) as error:
        raise HeadwaterError(_unreachable(url, error)) from error


def create_table(url: str, schema: Any) -> Table:
    """A new, empty table at `url`. It replaces an existing table."""
    try:
        return Table(url, _connect(url).create_table(NAME, schema=schema, mode="overwrite"))
    except (OSError, RuntimeError, ValueError) as error:
        raise HeadwaterError(_unreachable(url, error)) from error


def _unreachable(url: str, error: Exception) -> str:
    """The error for a URL that cannot be reached. LanceDB's own message is pages long."""
    messages = re.findall(r"<Message>(.*?)</Message>", str(error)) or [str(error).split("\n")[0][:200]]
    return f"The index at {url} cannot be reached: {messages[0]} Check the path or URL, and the credentials it needs."


def _connect(url: str) -> Any:
    """A LanceDB connection. The import takes a second, so it is made here. LanceDB logs only errors."""
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    return lancedb.connect(url)


def table_schema(types: Mapping[str, Any], coarse: int, fine: int, *, binding: str, texts: bool = True) -> Any:
    """The schema of a table; `types` are the corpus's own fields with their Arrow types.

    The table of a streamed corpus has no `texts`.
    """
    return pa.schema(
        [
            ("key", pa.int64()),
            ("id", pa.string()),
            *([("text", pa.large_string())] if texts else []),
            ("location", pa.string()),
            *columns_for(types, OWN_COLUMNS),
            ("tokens", pa.int32()),
            ("loss", pa.float32()),
            ("self_influence", pa.float32()),
            ("scale", pa.float32()),
            ("coarse", pa.list_(pa.uint8(), coarse)),
            *([("fine", pa.list_(pa.uint8(), fine))] if fine else []),
            ("check", pa.int64()),
        ],
        metadata={"headwater": binding},
    )


def table_rows(
    schema: Any,
    keys: NDArray[np.int64],
    examples: Sequence[Example],
    *,
    codes: NDArray[np.uint8],
    numbers: NDArray[np.float32],
) -> Any:
    """Rows for the table: examples with their keys, `codes` [n, bytes], `numbers` [n, 3] (scale, loss, I(z, z))."""
    coarse = schema.field("coarse").type.list_size
    scale, loss, self_influence = numbers.T
    columns: dict[str, Any] = {
        "key": keys,
        "id": [example.id for example in examples],
        "location": [example.source for example in examples],
        "tokens": pa.array([len(example.tokenized.input_ids) for example in examples], pa.int32()),
        "loss": pa.array(loss),
        "self_influence": pa.array(self_influence),
        "scale": pa.array(scale),
        "coarse": byte_column(codes[:, :coarse]),
    }
    if "fine" in schema.names:
        columns["fine"] = byte_column(codes[:, coarse:])
    texts = [example.text if "text" in schema.names else "" for example in examples]
    if "text" in schema.names:
        columns["text"] = pa.array(texts, pa.large_string())
    if "check" in schema.names:  # tables of earlier versions have none
        columns["check"] = _checksums(keys, texts, numbers, codes=codes)
    own = [name for name in schema.names if name not in columns]
    columns |= filled(schema, own, [example.metadata for example in examples])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def add_missing_columns(table: Table, types: Mapping[str, Any]) -> None:
    """Add columns for the fields of new examples to the table; earlier rows have null in them."""
    schema = table.lance.schema
    missing = columns_for(missing_fields(schema, types), [*OWN_COLUMNS, *schema.names])
    if missing:
        table.lance.add_columns(missing)
