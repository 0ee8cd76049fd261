"""Tokenised examples on disk, in an Arrow file that is memory-mapped, so memory does not grow with its size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_128

from headwater.base.files import replacing
from headwater.corpus.batches import TokenSequence, all_targets
from headwater.corpus.fingerprint import Fingerprint, fingerprint_like, same_kind
from headwater.corpus.options import LongTexts
from headwater.corpus.read import Record
from headwater.corpus.tokenize import Tokenized, added_bos, fit_windows, tokenize, writes_bos
from headwater.errors import CorpusError

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
"""`targets` is null if every token but the first carries loss."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training example, as the model read it."""

    id: str
    text: str
    source: str
    """File and line that it was read from."""
    metadata: dict[str, Any]
    tokenized: Tokenized
    targets: list[bool] | None = None
    """[T] whether each token carries loss. None: all but the first do."""

    @property
    def sequence(self) -> TokenSequence:
        whole = all_targets(self.tokenized.input_ids, self.id)
        return whole if self.targets is None else replace(whole, targets=np.array(self.targets, dtype=np.bool_))

    @property
    def pieces(self) -> list[str]:
        """The text of each token. Joined, they are `text`."""
        return self.tokenized.pieces(self.text)


@dataclass(frozen=True, kw_only=True)
class CorpusCounts:
    """Counts of the records that were read and the examples made from them."""

    records: int
    examples: int
    tokens: int
    long: int
    """Records longer than max_tokens, which were truncated or split into windows."""
    too_short: int
    """Records that were left out because they carry no loss, such as those of fewer than two tokens."""
    fingerprint: str
    """Hash of every example's id, tokens and loss mask, in order: see `headwater.corpus.fingerprint`."""
    checksum: str = ""
    """Checksum of everything that the file holds. It detects accidents, not malice."""
    wrote_bos: int = 0
    """Records that begin with the word of the BOS token that the tokenizer adds anyway. They have it once."""


class Segment:
    """One file of examples. `write_corpus` writes it; it never changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise CorpusError(f"{path} cannot be read ({error}). Create the run again.") from error
        self.counts = CorpusCounts(**json.loads(self._file.schema.metadata[b"counts"]))

    def __len__(self) -> int:
        return self.counts.examples

    def fetch(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The columns of `rows`, in that order."""
        return list(self.raw(rows))

    def examples(self, fetched: Sequence[dict[str, Any]]) -> Iterator[Example]:
        """The examples that were fetched."""
        return map(example_of, fetched)

    def read(self, rows: Sequence[int]) -> Iterator[Example]:
        """The examples at `rows`, in that order."""
        return self.examples(self.fetch(rows))

    def raw(self, rows: Iterable[int]) -> Iterator[dict[str, Any]]:
        """The columns of `rows` as they are in the file, read one by one."""
        opened: int | None = None
        columns: dict[str, Any] = {}
        for index in rows:
            batch, row = divmod(int(index), ROWS_PER_BATCH)
            if batch != opened:
                columns = dict(zip(self._file.schema.names, self._file.get_batch(batch).columns, strict=True))
                opened = batch
            yield {name: column[row].as_py() for name, column in columns.items()}

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[n] number of tokens of every example, read without the texts."""
        batches = (self._file.get_batch(k) for k in range(self._file.num_record_batches))
        each = [batch.column("tokens").value_lengths().to_numpy(zero_copy_only=False) for batch in batches]
        return np.concatenate([np.zeros(0, dtype=np.int64), *each]).astype(np.int64)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in order."""
        batches = (self._file.get_batch(k) for k in range(self._file.num_record_batches))
        return [id for batch in batches for id in batch.column("id").to_pylist()]


def example_of(row: Mapping[str, Any]) -> Example:
    """The example in a row of SCHEMA."""
    # NaN, which data frames write for a missing value, becomes None.
    metadata: dict[str, Any] = json.loads(row["metadata"], parse_constant=lambda _: None)
    tokenized = Tokenized(row["tokens"], row["ends"])
    return Example(
        id=row["id"],
        text=row["text"],
        source=row["source"],
        metadata=metadata,
        tokenized=tokenized,
        targets=row.get("targets"),
    )


def recounted(segment: Segment, like: str | None = None) -> tuple[str, str]:
    """The fingerprint and the checksum of a segment's examples, computed from what the file holds now.

    The fingerprint is of the same kind as `like`. Default: as the segment's own.
    """
    counting = Counting(segment.counts.fingerprint if like is None else like)
    for row in segment.raw(range(len(segment))):
        counting.add(row)
    return counting.fingerprint.value, counting.checksum.hexdigest()


def same_examples(one: Segment, other: Segment) -> bool:
    """Whether two segments hold the same examples in the same order, by their fingerprints."""
    known, found = one.counts.fingerprint, other.counts.fingerprint
    if not same_kind(known, found):
        found, _ = recounted(other, like=known)
    return known == found


def identity_of(row: Mapping[str, Any]) -> bytes:
    """The bytes of an example that its fingerprint covers: id, tokens, and which tokens carry loss."""
    identity = row["id"].encode() + b"\0" + np.asarray(row["tokens"], dtype=np.int32).tobytes() + b"\0"
    return identity if row.get("targets") is None else identity + bytes(row["targets"]) + b"\0"


def rest_of(row: Mapping[str, Any]) -> bytes:
    """The bytes of an example that its fingerprint does not cover: text, source, metadata and token ends."""
    texts = "\0".join([row["text"], row["source"], row["metadata"]]).encode()
    return texts + np.asarray(row["ends"], dtype=np.int32).tobytes()


class Counting:
    """Counts records and examples as they are made, and computes their fingerprint and their checksum."""

    def __init__(self, like: str | None = None) -> None:
        """The fingerprint is of the same kind as `like`; None: of the kind that new corpora get."""
        self.records = self.examples = self.tokens = self.long = self.too_short = self.wrote_bos = 0
        self.fingerprint: Fingerprint = fingerprint_like(like)
        self.checksum = xxh3_128()

    def add(self, row: Mapping[str, Any]) -> None:
        self.examples += 1
        self.tokens += len(row["tokens"])
        identity = identity_of(row)
        self.fingerprint.add(identity)
        self.checksum.update(identity)
        self.checksum.update(rest_of(row))

    @property
    def counts(self) -> CorpusCounts:
        return CorpusCounts(
            records=self.records,
            examples=self.examples,
            tokens=self.tokens,
            long=self.long,
            too_short=self.too_short,
            fingerprint=self.fingerprint.value,
            checksum=self.checksum.hexdigest(),
            wrote_bos=self.wrote_bos,
        )


@dataclass(frozen=True)
class CutRecord:
    """A record and the examples made of it."""

    record: Record
    long: bool
    """Whether it has more tokens than an example may have."""
    wrote_bos: bool
    """See CorpusCounts."""
    windows: list[tuple[int, dict[str, Any]]]
    """Number and row of each window that carries loss."""


@dataclass(frozen=True)
class Cutting:
    """Makes examples of records: tokenises them and cuts them to `max_tokens`."""

    tokenizer: Any
    max_tokens: int
    long_texts: LongTexts = "truncate"
    one_bos: bool = True
    """Whether every example, a window too, has the BOS token that the tokenizer adds exactly once. False makes examples
    as earlier versions did: windows without it, and a second one where a text begins with its word."""

    def cut(self, records: Sequence[Record]) -> Iterator[CutRecord]:
        """Each record with its examples. The windows of a split text have the ids `id#0`, `id#1`, …"""
        names = [record.source for record in records]
        tokenized = tokenize(self.tokenizer, [record.text for record in records], names, one_bos=self.one_bos)
        bos = added_bos(self.tokenizer) if self.one_bos else None
        for record, each in zip(records, tokenized, strict=True):
            long = len(each.input_ids) > self.max_tokens
            yield CutRecord(record, long, writes_bos(each, bos), list(self._windows(record, each, bos)))

    def _windows(self, record: Record, tokenized: Tokenized, bos: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
        split = self.long_texts == "split" and len(tokenized.input_ids) > self.max_tokens
        learned = None if record.learned is None else tokenized.overlapping(record.learned)
        before = 0
        for k, (text, window) in enumerate(
            fit_windows(record.text, tokenized, self.max_tokens, long_texts=self.long_texts, bos=bos)
        ):
            targets = None
            own = len(window.input_ids) - (1 if k and bos is not None and tokenized.input_ids[0] == bos else 0)
            if learned is not None:
                lead = [False] if own < len(window.input_ids) else []
                targets = [*lead, *learned[before : before + own]]
                targets[0] = False
            before += own
            if len(window.input_ids) < 2 or (targets is not None and not any(targets)):
                continue
            yield (
                k,
                {
                    "id": f"{record.id}#{k}" if split else record.id,
                    "text": text,
                    "source": record.source,
                    "metadata": json.dumps(dict(record.metadata), ensure_ascii=False),
                    "tokens": window.input_ids,
                    "ends": window.ends,
                    "targets": targets,
                },
            )


def cut_all(
    records: Iterable[Record], cutting: Cutting, counting: Counting, *, numbered: set[str]
) -> Iterator[tuple[Record, int, dict[str, Any]]]:
    """The rows of all records, each with its record and the number of its window. `counting` counts them.

    `numbered` has the ids that contain a #; new ones are added to it. Raises CorpusError if a window would get the id
    of another example.
    """
    stream = iter(records)
    while block := list(islice(stream, ROWS_PER_BATCH)):
        for cut in cutting.cut(block):
            counting.records += 1
            counting.long += cut.long
            counting.wrote_bos += cut.wrote_bos
            counting.too_short += not cut.windows
            for number, row in cut.windows:
                _check_window_id(row["id"], cut.record, numbered)
                counting.add(row)
                yield cut.record, number, row


def _check_window_id(id: str, record: Record, numbered: set[str]) -> None:
    if "#" not in id:
        return
    if id in numbered:
        raise CorpusError(
            f"{record.source}: the id {id!r} is used twice, because the windows of a long text are named by its id, "
            "# and a number. Use ids without #, or --long truncate."
        )
    numbered.add(id)


def write_corpus(
    path: Path,
    records: Iterable[Record],
    tokenizer: Any,
    *,
    max_tokens: int,
    long_texts: LongTexts = "truncate",
    one_bos: bool = True,
) -> CorpusCounts:
    """Tokenise `records` and write them to `path`, cut as Cutting does. Raises CorpusError if no example is left."""
    counting = Counting()

    def metadata() -> dict[str, str]:
        require_examples(counting.examples)
        return {"counts": json.dumps(asdict(counting.counts))}

    cut = cut_all(records, Cutting(tokenizer, max_tokens, long_texts, one_bos), counting, numbered=set())
    write_rows(path, SCHEMA, (row for _, _, row in cut), metadata=metadata)
    return counting.counts


def fingerprint_records(
    records: Iterable[Record],
    tokenizer: Any,
    max_tokens: int,
    *,
    long_texts: LongTexts = "truncate",
    one_bos: bool = True,
    like: str | None = None,
) -> CorpusCounts:
    """The counts that `write_corpus` would return for `records`, without writing anything.

    The fingerprint is of the same kind as `like`, so the two can be compared. Raises CorpusError as `write_corpus`.
    """
    counting = Counting(like)
    for _ in cut_all(records, Cutting(tokenizer, max_tokens, long_texts, one_bos), counting, numbered=set()):
        pass
    require_examples(counting.examples)
    return counting.counts


def examples_of_records(
    records: Iterable[Record],
    tokenizer: Any,
    max_tokens: int,
    *,
    long_texts: LongTexts = "truncate",
    one_bos: bool = True,
) -> list[Example]:
    """The examples that `write_corpus` would write for `records`, in memory. Raises CorpusError as `write_corpus`."""
    cut = cut_all(records, Cutting(tokenizer, max_tokens, long_texts, one_bos), Counting(), numbered=set())
    examples = [example_of(row) for _, _, row in cut]
    require_examples(len(examples))
    return examples


def require_examples(count: int) -> None:
    """Raises CorpusError if a corpus has no example left."""
    if not count:
        raise CorpusError(
            "Every example of the corpus is shorter than two tokens: there is nothing to predict. Check --text-field."
        )


def write_rows(
    path: Path, schema: Any, rows: Iterable[Mapping[str, Any]], *, metadata: Callable[[], dict[str, str]]
) -> None:
    """Write an Arrow file of `rows`, ROWS_PER_BATCH in a batch. The file appears only when it is complete.

    `metadata` is called after the last row. Its result belongs in the schema at the start of an Arrow file, so the rows
    are written to a temporary file first and then copied after the schema.
    """
    waiting = path.with_name(path.name + ".rows")
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = iter(rows)
    try:
        with pa.ipc.new_stream(str(waiting), schema) as writer:
            while block := list(islice(stream, ROWS_PER_BATCH)):
                writer.write_batch(pa.RecordBatch.from_pylist(block, schema=schema))
        whole = schema.with_metadata(metadata())
        with (
            replacing(path) as part,
            pa.ipc.open_stream(pa.memory_map(str(waiting))) as batches,
            pa.ipc.new_file(str(part), whole) as writer,
        ):
            for batch in batches:
                writer.write_batch(pa.record_batch(batch.columns, schema=whole))
    finally:
        waiting.unlink(missing_ok=True)
