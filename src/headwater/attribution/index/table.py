"""The table of indexed examples: an embedded LanceDB table, in a folder or at an object store's URL.

One row an example: `key` (see corpus.Corpus), `id`, `text`, `location` (file and line), the corpus's own columns,
`tokens`, `loss`, `self_influence`, its sketch in three parts: `scale`, `coarse` bytes and `fine` bytes, and `check`,
a checksum.
"""

from __future__ import annotations

import json
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

from headwater.corpus.corpus import Corpus
from headwater.corpus.store import Example
from headwater.errors import HeadwaterError

NAME = "examples"
OWN_COLUMNS = (
    *("key", "id", "text", "location", "tokens", "loss", "self_influence", "scale", "coarse", "fine", "check"),
    *("_rowid", "_score", "_distance"),
)
ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class Table:
    """The table, opened."""

    url: str
    lance: Any

    @property
    def binding(self) -> str:
        """What the index was made from; kept in the table's schema."""
        return (self.lance.schema.metadata or {}).get(b"headwater", b"{}").decode()

    @property
    def version(self) -> int:
        """Grows with every change of the table."""
        return int(self.lance.version)

    @property
    def columns(self) -> list[str]:
        """Names that a filter may use."""
        return [name for name in self.lance.schema.names if name not in ("key", "scale", "coarse", "fine", "check")]

    def __len__(self) -> int:
        return int(self.lance.count_rows())

    def keys(self) -> NDArray[np.int64]:
        """[rows] the keys of all rows, in the table's order."""
        return self._column(self.lance.search().select(["key"]))

    def append(self, rows: Any) -> None:
        """Add rows in one commit: all of them, or after a kill none."""
        self.lance.add(rows)

    def delete(self, keys: Iterable[int]) -> None:
        """Take rows out, by their keys."""
        wanted = sorted(keys)
        for start in range(0, len(wanted), ROWS_AT_A_TIME):
            part = ", ".join(str(int(key)) for key in wanted[start : start + ROWS_AT_A_TIME])
            self.lance.delete(f"key IN ({part})")

    @property
    def has_texts(self) -> bool:
        """Whether it holds the examples' texts, which it does unless they are streamed."""
        return "text" in self.lance.schema.names

    @property
    def has_words(self) -> bool:
        """Whether there is a full-text index, where there are texts."""
        return not self.has_texts or any("text" in index.columns for index in self.lance.list_indices())

    def tidy(self) -> None:
        """Bring the full-text index up to date. The first time it is made; later, small files are merged as well."""
        if self.has_words:
            self.lance.optimize()
        else:
            from lancedb.index import FTS

            words = FTS(with_position=True, stem=False, remove_stop_words=False)
            self.lance.create_index("text", config=words, replace=True)

    def matching(self, where: str | None = None, contains: str | None = None) -> NDArray[np.int64]:
        """Keys of the rows for which the SQL condition `where` holds and whose text contains the words `contains`.

        Words are compared without case; several must follow each other. Raises HeadwaterError, with the columns there
        are, where the condition cannot be read.
        """
        query: Any = self.lance.search()
        if contains is not None:
            if not self.has_texts:
                raise HeadwaterError(
                    "--contains looks words up in the index, and the index of a streamed corpus holds no texts. Choose "
                    "with --where, or make a run that holds them, without --stream."
                )
            words = re.findall(r"\w+", contains)
            if not words:
                raise HeadwaterError(f"--contains {contains!r} has no word to look for.")
            from lancedb.query import MatchQuery, PhraseQuery

            asked: Any = PhraseQuery if len(words) > 1 else MatchQuery
            query = self.lance.search(asked(contains, "text"), query_type="fts")
        if where is not None:
            query = query.where(where, prefilter=True)
        try:
            return self._column(query.select(["key", "_score"] if contains is not None else ["key"]))
        except (ValueError, RuntimeError) as error:
            cause = re.sub(r"^(\w+ )*(input|error)[,:] ", "", str(error).split("\n")[0]).split(" Valid fields")[0]
            raise HeadwaterError(
                f"The condition {where!r} cannot be used: {cause} Columns: {', '.join(self.columns)}. "
                "For example: --where \"tokens < 100 AND id LIKE 'story-%'\""
            ) from error

    def _column(self, query: Any) -> NDArray[np.int64]:
        return query.limit(max(1, len(self))).to_arrow().column("key").to_numpy()

    def damaged(self) -> list[int]:
        """Keys of the rows whose text, numbers or sketch are not those that were written."""
        names = [name for name in ("coarse", "fine") if name in self.lance.schema.names]
        found: list[int] = []
        texts = ["text"] if self.has_texts else []
        for batch in self.batches(["key", *texts, "scale", "loss", "self_influence", *names, "check"]):
            keys = batch.column("key").to_numpy()
            numbers = np.stack([batch.column(name).to_numpy() for name in ("scale", "loss", "self_influence")], axis=1)
            codes = np.concatenate([byte_rows(batch.column(name)) for name in names], axis=1)
            said = batch.column("text").to_pylist() if texts else [""] * len(keys)
            now = _checksums(keys, said, numbers, codes=codes)
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
        """[n, bytes] a byte column of single rows, in the order of `row_ids`."""
        found = self.lance.take_row_ids(row_ids.tolist()).select([column]).with_row_id(True).to_arrow()
        order = np.argsort(found.column("_rowid").to_numpy())
        place = order[np.searchsorted(found.column("_rowid").to_numpy()[order], row_ids)]
        return byte_rows(found.column(column).combine_chunks())[place]


def _checksums(
    keys: NDArray[np.int64], texts: Sequence[str], numbers: NDArray[np.float32], *, codes: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """[n] a number for each row that hardly any other row comes to; against accidents, not against malice."""
    rows = zip(keys.tolist(), texts, numbers, np.ascontiguousarray(codes), strict=True)
    sums = [
        xxh3_64_intdigest(b"%d " % key + text.encode() + row.tobytes() + code.tobytes())
        for key, text, row, code in rows
    ]
    return np.array(sums, dtype=np.uint64).view(np.int64)


def byte_rows(column: Any) -> NDArray[np.uint8]:
    """[n, bytes] of a fixed-size list column."""
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def byte_column(rows: NDArray[np.uint8]) -> Any:
    """A fixed-size list column of `rows` [n, bytes]."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def open_table(url: str) -> Table | None:
    """The table at `url`, or None where there is none yet. Raises HeadwaterError where the place cannot be reached."""
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
    """An empty table at `url`, in place of any that is there."""
    try:
        return Table(url, _connect(url).create_table(NAME, schema=schema, mode="overwrite"))
    except (OSError, RuntimeError, ValueError) as error:
        raise HeadwaterError(_unreachable(url, error)) from error


def _unreachable(url: str, error: Exception) -> str:
    """What to say where the table's place does not answer; LanceDB's own words go on for pages."""
    named = re.findall(r"<Message>(.*?)</Message>", str(error)) or [str(error).split("\n")[0][:200]]
    return f"The index at {url} cannot be reached: {named[0]} Check the path or URL, and the credentials it needs."


def _connect(url: str) -> Any:
    """LanceDB, loaded when it is first needed: that takes a second. It says on the terminal only what went wrong."""
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    return lancedb.connect(url)


def table_schema(metadata: Mapping[str, Any], coarse: int, fine: int, *, binding: str, texts: bool = True) -> Any:
    """The columns of a table; `metadata` are the corpus's own columns with their Arrow types.

    A table of a corpus that is streamed holds no `texts`.
    """
    return pa.schema(
        [
            ("key", pa.int64()),
            ("id", pa.string()),
            *([("text", pa.large_string())] if texts else []),
            ("location", pa.string()),
            *metadata.items(),
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


def column_name(name: str) -> str:
    """What a field of the corpus is called in the table: without marks that SQL reads, and none of our own names."""
    plain = re.sub(r"\W", "_", name) or "_"
    return f"{plain}_" if plain.lower() in OWN_COLUMNS else plain


def metadata_types(corpus: Corpus, positions: Iterable[int]) -> dict[str, Any]:
    """The corpus's own columns, by their names in the table, with Arrow types; what is of several kinds is text."""
    kinds: dict[str, set[str]] = {}
    for name, found in corpus.kinds_of(positions).items():
        kinds.setdefault(column_name(name), set()).update(found)
    return {name: _arrow_type(found - {"NoneType"}) for name, found in kinds.items()}


def _arrow_type(found: set[str]) -> Any:
    if found == {"bool"}:
        return pa.bool_()
    if found == {"int"}:
        return pa.int64()
    if found and found <= {"int", "float"}:
        return pa.float64()
    return pa.string()


def metadata_columns(schema: Any, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns `names` of `schema`, filled from the metadata of examples.

    Raises HeadwaterError where a value does not fit the column's type.
    """
    renamed = [{column_name(key): value for key, value in row.items()} for row in rows]
    columns: dict[str, Any] = {}
    for name in names:
        wanted = schema.field(name).type
        values = [row.get(name) for row in renamed]
        if pa.types.is_string(wanted):
            values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        try:
            columns[name] = pa.array(values, wanted)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise HeadwaterError(
                f"The column {name!r} of the index holds {wanted} values, and an example has another kind: {error}. "
                "Give it a value of that kind, or another field name."
            ) from error
    return columns


def table_rows(
    schema: Any,
    keys: NDArray[np.int64],
    examples: Sequence[Example],
    *,
    codes: NDArray[np.uint8],
    numbers: NDArray[np.float32],
) -> Any:
    """Rows of the table: examples with their keys, `codes` [n, bytes], and `numbers` [n, 3] scale, loss, I(z, z)."""
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
    if "check" in schema.names:  # not in tables made before there was one
        columns["check"] = _checksums(keys, texts, numbers, codes=codes)
    own = [name for name in schema.names if name not in columns]
    columns |= metadata_columns(schema, own, [example.metadata for example in examples])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def add_missing_columns(table: Table, types: Mapping[str, Any]) -> None:
    """Give the table the columns that new examples bring; earlier rows hold nothing there."""
    missing = [pa.field(name, kind) for name, kind in types.items() if name not in table.lance.schema.names]
    if missing:
        table.lance.add_columns(missing)
