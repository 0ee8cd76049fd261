"""Examples whose texts stay outside the run: a catalogue says where each text is, and it is read from there.

There is one catalogue for each file of the source, an Arrow file with some tens of bytes for each example. A text that
is read again is made into examples as it was when it was catalogued, and compared with a checksum from then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter
from xxhash import xxh3_64_intdigest, xxh3_128

from headwater.corpus.options import ReadOptions
from headwater.corpus.read import Record, Render, RowReader
from headwater.corpus.row_access import RowFiles, RowPlace
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
"""Name of the folder of the catalogues, beside the other files of the corpus."""
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
"""`number` is the line or row of the file. `start` and `size`, its bytes, are null in Parquet. `document` is the number
of a document packed into the row, and `window` the number of a window of that document."""


@dataclass(frozen=True, kw_only=True)
class CatalogueHeader:
    """What a catalogue records about its file as a whole."""

    name: str
    """Path relative to the root of the source."""
    kind: str
    origin: Origin
    mark: Mark
    """Mark of the file when it was catalogued."""
    settings: str
    """How the file was read and cut. A catalogue with other settings cannot be used again."""
    counts: CorpusCounts
    rows: int
    """Number of the last row."""
    skipped: int
    """Number of bad rows that were left out."""
    bad: tuple[tuple[str, str], ...]
    """Place and reason of the first bad rows."""
    fields: Mapping[str, Sequence[str]]
    """Metadata of the examples: each name with the types of its values."""
    begun: str
    """State of the corpus's fingerprint before this file. Empty if that cannot be stored."""
    ended: str
    """State of the corpus's fingerprint after this file."""
    fingerprint: str
    """Fingerprint of the examples of this file and all files before it."""
    checksum: str = ""
    """Checksum of the catalogue itself."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


_HEADER = TypeAdapter(CatalogueHeader)


def counts_of(headers: Sequence[CatalogueHeader]) -> CorpusCounts:
    """The counts of all files together, without a checksum."""
    counts = [header.counts for header in headers]
    return CorpusCounts(
        records=sum(each.records for each in counts),
        examples=sum(each.examples for each in counts),
        tokens=sum(each.tokens for each in counts),
        long=sum(each.long for each in counts),
        too_short=sum(each.too_short for each in counts),
        wrote_bos=sum(each.wrote_bos for each in counts),
        fingerprint=headers[-1].fingerprint,
    )


def check_of(row: Mapping[str, Any]) -> int:
    """A 64-bit checksum of an example. It detects accidents, not malice."""
    return xxh3_64_intdigest(identity_of(row) + rest_of(row))


def entry_bytes(entry: Mapping[str, Any]) -> bytes:
    """The bytes of a catalogue's row that the catalogue's checksum covers."""
    return repr([entry[name] for name in CATALOGUE.names]).encode()


def catalogue_checksum(digest: xxh3_128, header: CatalogueHeader) -> str:
    """The checksum of a catalogue; `digest` already covers its rows."""
    digest.update(json.dumps({**asdict(header), "checksum": ""}, sort_keys=True).encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SourceReader:
    """Reads the texts of a streamed corpus and makes examples of them."""

    root: str
    """Root of the source: see `headwater.corpus.sources`."""
    options: ReadOptions
    cutting: Cutting
    tokenizer: str
    """Fingerprint of the tokenizer."""
    render: Render | None = None
    files: RowFiles = field(default_factory=RowFiles)
    """The open files."""

    def records(self, origin: Origin, row: Row | Bad) -> list[Record]:
        """The records of a row. Raises CorpusError if the row is bad."""
        return RowReader(self.options, self.render).records(origin, row)


Fetched = tuple[dict[str, Any], Row | Bad]
"""A row of a catalogue, and the row of the source that it points to."""


class StreamedSegment:
    """The examples of one file of a source, found by its catalogue."""

    def __init__(self, path: Path, reader: SourceReader | None = None) -> None:
        """Without a `reader`, everything but the texts can be read. Raises CorpusError if the catalogue is damaged."""
        self.path = path
        self._reader = reader
        self._compared = False
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as rows:
                self.header = _HEADER.validate_json(rows.schema.metadata[b"catalogue"])
        except (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{path} cannot be read ({error}). Delete it, then make it again: headwater fit RUN --model MODEL "
                "--corpus SOURCE --stream"
            ) from error
        self.counts = self.header.counts

    def __len__(self) -> int:
        return self.counts.examples

    @property
    def url(self) -> str:
        return location(self._reader.root if self._reader else "", self.header.name)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in order."""
        return [id for batch in self._batches("id") for id in batch.column("id").to_pylist()]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[n] number of tokens of every example, read without the texts."""
        each = [batch.column("tokens").to_numpy() for batch in self._batches("tokens")]
        return np.concatenate([np.zeros(0, dtype=np.int64), *each]).astype(np.int64)

    def is_whole(self) -> bool:
        """Whether the catalogue still has the checksum that it was written with."""
        digest = xxh3_128()
        try:
            for entry in self.rows():
                digest.update(entry_bytes(entry))
        except (pa.ArrowException, OSError, ValueError):
            return False
        return catalogue_checksum(digest, self.header) == self.header.checksum

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the catalogue."""
        for batch in self._batches(*CATALOGUE.names):
            yield from batch.to_pylist()

    def _batches(self, *columns: str) -> Iterator[Any]:
        """The catalogue is open only while it is read: there may be more catalogues than files may be open."""
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_file(file) as rows:
            for k in range(rows.num_record_batches):
                yield rows.get_batch(k).select(list(columns))

    def read(self, rows: Sequence[int]) -> Iterator[Example]:
        """The examples at `rows`, in that order."""
        return self.examples(self.fetch(rows))

    def fetch(self, rows: Sequence[int]) -> list[Fetched]:
        """The catalogue's `rows` with their rows of the source, in that order. Neighbouring rows are read together.

        Raises CorpusError if the source cannot be read, and FingerprintMismatch if its file has changed.
        """
        reader = self._require_reader()
        if not self._compared:
            self.compare()
        entries = self._entries(rows)
        places = {entry["number"]: RowPlace(entry["number"], entry["start"], entry["size"]) for entry in entries}
        found = reader.files.read(self.url, self.header.kind, [places[number] for number in sorted(places)])
        by_number = dict(zip(sorted(places), found, strict=True))
        return [(entry, by_number[entry["number"]]) for entry in entries]

    def examples(self, fetched: Sequence[Fetched]) -> Iterator[Example]:
        """The examples that were fetched, tokenised again. Raises CorpusError if one has changed."""
        records: dict[tuple[int, int], Record] = {}
        for number, row in {entry["number"]: row for entry, row in fetched}.items():
            for record in self._records(row):
                records[number, record.document] = record
        wanted = dict.fromkeys((entry["number"], entry["document"]) for entry, _ in fetched)
        for place in wanted:
            if place not in records:
                raise self._changed(place[0])
        cut = self._require_reader().cutting.cut([records[place] for place in wanted])
        windows = {place: dict(each.windows) for place, each in zip(wanted, cut, strict=True)}
        for entry, _ in fetched:
            row = windows[entry["number"], entry["document"]].get(entry["window"] or 0)
            if row is None or check_of(row) != entry["check"]:
                raise self._changed(entry["number"])
            yield example_of(row)

    def _records(self, row: Row | Bad) -> list[Record]:
        try:
            return self._require_reader().records(self.header.origin, row)
        except CorpusError:
            raise self._changed(row.number) from None

    def compare(self) -> None:
        """Raises FingerprintMismatch if the file of the source was changed after it was catalogued."""
        self._require_reader()
        mark = mark_of(self.url)
        if not self.header.mark.matches(mark):
            raise FingerprintMismatch(f"The file {self.url}", str(self.header.mark), str(mark), fix=_CATALOGUE_AGAIN)
        self._compared = True

    def _changed(self, number: int) -> CorpusError:
        what = f"{self.url}: row {number:,}"
        return CorpusError(f"{what} differs from when the run was made. {_CATALOGUE_AGAIN}")

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


_CATALOGUE_AGAIN = (
    "Restore the file. If it still has the same examples, or they have moved, catalogue them again: "
    "headwater fit RUN --model MODEL --corpus SOURCE --stream"
)
