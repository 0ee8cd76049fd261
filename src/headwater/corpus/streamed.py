"""Examples whose texts are not in the run: a catalogue says where each is, and they are read from there again.

A catalogue is an Arrow file for each file of the source, with some tens of bytes an example. What is read is made into
examples just as it was when it was catalogued, and compared with a checksum of what it was then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter
from xxhash import xxh3_64_intdigest, xxh3_128

from headwater.corpus.options import ReadOptions
from headwater.corpus.read import Record, Render, RowReader
from headwater.corpus.row_access import Place, RowFiles
from headwater.corpus.rows import Bad, Row
from headwater.corpus.sources import Mark, Origin, location, mark_of
from headwater.corpus.store import (
    ROWS_PER_BATCH,
    CorpusCounts,
    Cutting,
    Example,
    example_of,
    identity_of,
    rest_of,
)
from headwater.errors import CorpusError, FingerprintMismatch

STREAMED = "streamed"
"""The folder of the catalogues, beside the corpus's other files."""
CATALOGUE = pa.schema(
    [
        ("id", pa.string()),
        ("number", pa.int64()),
        ("start", pa.int64()),
        ("size", pa.int32()),
        ("document", pa.int32()),
        ("window", pa.int32()),
        ("tokens", pa.int32()),
        ("check", pa.uint64()),
    ]
)
"""Line or row of the file; its bytes, null in Parquet; which of the documents packed into it, which window of that."""


@dataclass(frozen=True, kw_only=True)
class CatalogueHeader:
    """What a catalogue says of the whole of its file."""

    name: str
    """Relative to the source's root."""
    kind: str
    origin: Origin
    mark: Mark
    """Of the file when it was catalogued."""
    settings: str
    """How it was read and cut; a catalogue made otherwise is of no use."""
    counts: CorpusCounts
    rows: int
    """Number of its last row."""
    skipped: int
    """Bad rows left out."""
    bad: tuple[tuple[str, str], ...]
    """Place and reason of the first of them."""
    fields: Mapping[str, Sequence[str]]
    """The examples' metadata: names, and the kinds of value that each has."""
    begun: str
    """State of the hash that the corpus's fingerprint is of, before this file."""
    ended: str
    """And behind it."""
    fingerprint: str
    """Of the examples of this file and all before it."""
    checksum: str = ""
    """Of the catalogue itself."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


_HEADS = TypeAdapter(CatalogueHeader)


def counts_of(heads: Sequence[CatalogueHeader]) -> CorpusCounts:
    """Of all files together; there is no one checksum."""
    counts = [head.counts for head in heads]
    return CorpusCounts(
        records=sum(each.records for each in counts),
        examples=sum(each.examples for each in counts),
        tokens=sum(each.tokens for each in counts),
        long=sum(each.long for each in counts),
        too_short=sum(each.too_short for each in counts),
        fingerprint=heads[-1].fingerprint,
    )


def check_of(row: Mapping[str, Any]) -> int:
    """A number that hardly any other example comes to; against accidents, not against malice."""
    return xxh3_64_intdigest(identity_of(row) + rest_of(row))


def entry_bytes(entry: Mapping[str, Any]) -> bytes:
    """What a catalogue's checksum takes of one of its rows."""
    return repr([entry[name] for name in CATALOGUE.names]).encode()


def sealed(digest: xxh3_128, head: CatalogueHeader) -> str:
    """The checksum of a catalogue whose rows were given to `digest`."""
    digest.update(json.dumps({**asdict(head), "checksum": ""}, sort_keys=True).encode())
    return digest.hexdigest()


def kinds_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The kind of each value of an example's metadata, as it is read back: a number that is not one is None."""
    missing = {name for name, value in metadata.items() if isinstance(value, float) and not isfinite(value)}
    return {name: "NoneType" if name in missing else type(value).__name__ for name, value in metadata.items()}


@dataclass(frozen=True, kw_only=True)
class SourceReader:
    """How the texts of a corpus are read again: from where, and into what they are made."""

    root: str
    """Of the source, see `headwater.corpus.sources`."""
    options: ReadOptions
    cutting: Cutting
    tokenizer: str
    """Fingerprint of the tokenizer."""
    render: Render | None = None
    files: RowFiles = field(default_factory=RowFiles)
    """Those that are open."""

    def records(self, origin: Origin, row: Row | Bad) -> list[Record]:
        """The records of a row. Raises CorpusError where it is bad."""
        return RowReader(self.options, self.render).records(origin, row)


Fetched = tuple[dict[str, Any], Row | Bad]
"""A row of a catalogue, and the row of the source that it names."""


class StreamedSegment:
    """The examples of one file of a source, by its catalogue."""

    def __init__(self, path: Path, reader: SourceReader | None = None) -> None:
        """Without a `reader` no text can be read, but all else. Raises CorpusError where the catalogue is damaged."""
        self.path = path
        self._reader = reader
        self._compared = False
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as rows:
                self.head = _HEADS.validate_json(rows.schema.metadata[b"catalogue"])
        except (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{path} cannot be read ({error}). Delete it; headwater fit, with the run's --model, --corpus and "
                "--stream, makes it anew."
            ) from error
        self.counts = self.head.counts

    def __len__(self) -> int:
        return self.counts.examples

    @property
    def url(self) -> str:
        return location(self._reader.root if self._reader else "", self.head.name)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in order."""
        return [id for batch in self._batches("id") for id in batch.column("id").to_pylist()]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[n] tokens of every example, read without its text."""
        each = [batch.column("tokens").to_numpy() for batch in self._batches("tokens")]
        return np.concatenate([np.zeros(0, dtype=np.int64), *each]).astype(np.int64)

    def is_whole(self) -> bool:
        """Whether the catalogue is as it was written."""
        digest = xxh3_128()
        try:
            for entry in self.rows():
                digest.update(entry_bytes(entry))
        except (pa.ArrowException, OSError, ValueError):
            return False
        return sealed(digest, self.head) == self.head.checksum

    def rows(self) -> Iterator[dict[str, Any]]:
        """The catalogue, row by row."""
        for batch in self._batches(*CATALOGUE.names):
            yield from batch.to_pylist()

    def _batches(self, *columns: str) -> Iterator[Any]:
        """The catalogue is open only as long as it is read: there may be more of them than files may be open."""
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_file(file) as rows:
            for k in range(rows.num_record_batches):
                yield rows.get_batch(k).select(list(columns))

    def read(self, rows: Sequence[int]) -> Iterator[Example]:
        """The examples at `rows`, in that order."""
        return self.examples(self.fetch(rows))

    def fetch(self, rows: Sequence[int]) -> list[Fetched]:
        """What the source holds of `rows`, in that order; neighbours are read in one go.

        Raises CorpusError where it cannot be read, and FingerprintMismatch where the file is another one now.
        """
        reader = self._require_reader()
        if not self._compared:
            self.compare()
        entries = self._entries(rows)
        places = {entry["number"]: Place(entry["number"], entry["start"], entry["size"]) for entry in entries}
        found = reader.files.read(self.url, self.head.kind, [places[number] for number in sorted(places)])
        by_number = dict(zip(sorted(places), found, strict=True))
        return [(entry, by_number[entry["number"]]) for entry in entries]

    def examples(self, fetched: Sequence[Fetched]) -> Iterator[Example]:
        """Examples of what was fetched, tokenised again. Raises CorpusError where one is not what was catalogued."""
        records: dict[tuple[int, int], Record] = {}
        for number, row in {entry["number"]: row for entry, row in fetched}.items():
            for record in self._records(row):
                records[number, record.document] = record
        wanted = dict.fromkeys((entry["number"], entry["document"]) for entry, _ in fetched)
        for place in wanted:
            if place not in records:
                raise self._changed(place[0])
        cut = self._require_reader().cutting.cut([records[place] for place in wanted])
        windows = {place: dict(rows) for place, (_, _, rows) in zip(wanted, cut, strict=True)}
        for entry, _ in fetched:
            row = windows[entry["number"], entry["document"]].get(entry["window"] or 0)
            if row is None or check_of(row) != entry["check"]:
                raise self._changed(entry["number"])
            yield example_of(row)

    def _records(self, row: Row | Bad) -> list[Record]:
        try:
            return self._require_reader().records(self.head.origin, row)
        except CorpusError:
            raise self._changed(row.number) from None

    def compare(self) -> None:
        """Raises FingerprintMismatch where the source's file was written anew since it was catalogued."""
        self._require_reader()
        mark = mark_of(self.url)
        if not self.head.mark.fits(mark):
            raise FingerprintMismatch(f"The file {self.url}", str(self.head.mark), str(mark), fix=_ANEW)
        self._compared = True

    def _changed(self, number: int) -> CorpusError:
        what = f"{self.url}: row {number:,}"
        return CorpusError(f"{what} is not what it was when the run was made. {_ANEW}")

    def _require_reader(self) -> SourceReader:
        assert self._reader is not None, "texts are read through a Run"
        return self._reader

    def _entries(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The catalogue's rows, in the order given."""
        numbers, places = np.divmod(np.asarray(rows, dtype=np.int64), ROWS_PER_BATCH)
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_file(file) as opened:
            parts = {
                number: iter(opened.get_batch(number).take(pa.array(places[numbers == number])).to_pylist())
                for number in np.unique(numbers).tolist()
            }
            return [next(parts[number]) for number in numbers.tolist()]


_ANEW = (
    "Put the file back as it was. Where it holds the same examples all the same, or they have moved, say so with "
    "headwater fit RUN --model MODEL --corpus SOURCE --stream, which looks through it again."
)
