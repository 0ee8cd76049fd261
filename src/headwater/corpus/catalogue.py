"""Make the catalogues of a streamed corpus, one for each file. A catalogue appears only when it is complete.

Finished catalogues are used again, so cataloguing that was interrupted continues with the first file that has none.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from headwater.base.files import replacing
from headwater.corpus.fingerprint import ChainedFingerprint, Fingerprint, fingerprint_like
from headwater.corpus.metadata import kinds_of
from headwater.corpus.read import LocatedRow, Record, RowReader, Skipped, good_records, id_key
from headwater.corpus.sources import Mark, Source, SourceFile, location, mark_of, rows_of
from headwater.corpus.store import ROWS_PER_BATCH, Counting, cut_all, identity_of, require_examples, write_rows
from headwater.corpus.streamed import (
    CATALOGUE,
    STREAMED,
    CatalogueHeader,
    SourceReader,
    StreamedSegment,
    catalogue_checksum,
    check_of,
    entry_bytes,
)
from headwater.errors import CorpusError

PART = f"{STREAMED}.part"
"""Name of the folder for catalogues that are being made."""
BAD_KEPT = 20
"""Bad rows of a file whose places and reasons are kept. The others are only counted."""

CatalogueProgress = Callable[[int, int, int], None]
"""Called with the number of finished files, the number of all files, and the number of examples so far."""


@dataclass(kw_only=True)
class _State:
    """What is known after the last finished file."""

    seen: dict[bytes, str] = field(default_factory=dict[bytes, str])
    """The used ids (see `id_key`), and where each was used."""
    numbered: set[str] = field(default_factory=set[str])
    """The ids that contain a #."""
    fingerprint: Fingerprint
    """Fingerprint of all examples."""
    records: int = 0
    examples: int = 0
    before: int = 0
    """Number of rows, if the rows of all files are numbered as one file."""

    def take(self, header: CatalogueHeader, rows: Iterable[dict[str, Any]]) -> None:
        """Continue after a file that has a catalogue already."""
        for row in rows:
            id: str = row["id"]
            if "#" in id:
                self.numbered.add(id)
            record = id if row["window"] is None else id.removesuffix(f"#{row['window']}")
            self.seen[id_key(record)] = header.origin.place(row["number"])
        self.fingerprint = ChainedFingerprint(header.ended)
        self.add(header)

    def add(self, header: CatalogueHeader) -> None:
        self.records += header.counts.records
        self.examples += header.counts.examples
        self.before += header.rows


def catalogue(
    folder: Path, source: Source, reader: SourceReader, *, progress: CatalogueProgress, like: str | None = None
) -> list[CatalogueHeader]:
    """Make the catalogue of every file of `source` in the folder PART of the corpus's `folder`.

    A finished catalogue there, or in STREAMED, is used again if its file has not changed. The fingerprint is of the
    same kind as `like`. Raises CorpusError for the same reasons as copying the texts, and if a file is unreachable.
    """
    state = _State(fingerprint=fingerprint_like(like))
    headers: list[CatalogueHeader] = []
    limit = reader.options.limit
    if limit is not None and limit < 1:
        raise CorpusError(f"--limit {limit} leaves no example. Give 1 or more, or leave it out for all.")
    for number, file in enumerate(source.files):
        progress(number, len(source.files), state.examples)
        if limit is not None and state.records >= limit:
            break
        origin = replace(file.origin, before=state.before if source.as_one else 0)
        expected = _Expected(
            replace(file, origin=origin), mark_of(location(source.root, file.name)), _settings_of(reader)
        )
        path = folder / PART / f"{number:06d}.arrow"
        header = _reuse(folder, path, expected, state=state)
        if header is None:
            before = state.examples

            def step(examples: int, number: int = number, before: int = before) -> None:
                progress(number, len(source.files), before + examples)

            header = _write(path, expected, reader, state=state, progress=step)
            state.add(header)
        headers.append(header)
    for stale in sorted((folder / PART).iterdir())[len(headers) :]:  # left from a source that had more files
        stale.unlink()
    progress(len(source.files), len(source.files), state.examples)
    _require_records(headers, source)
    return headers


def finished(folder: Path, source: Source, reader: SourceReader) -> bool:
    """Whether the corpus's `folder` has complete catalogues of `source`, and no file has changed."""
    segments = [StreamedSegment(path) for path in sorted((folder / STREAMED).glob("*.arrow"))]
    settings, limit = _settings_of(reader), reader.options.limit
    limited = limit is not None and sum(segment.counts.records for segment in segments) >= limit
    if len(segments) != len(source.files) and not (limited and len(segments) < len(source.files)):
        return False
    return all(
        segment.header.name == file.name
        and segment.header.settings == settings
        and segment.header.mark.matches(mark_of(location(source.root, file.name)))
        for segment, file in zip(segments, source.files, strict=False)
    )


def publish(folder: Path) -> None:
    """Replace the catalogues of the corpus by those in the folder PART."""
    old = folder / f"{STREAMED}.old"
    shutil.rmtree(old, ignore_errors=True)
    if (folder / STREAMED).exists():
        (folder / STREAMED).rename(old)
    (folder / PART).rename(folder / STREAMED)
    shutil.rmtree(old, ignore_errors=True)


def skipped_in(headers: Iterable[CatalogueHeader]) -> tuple[int, list[Skipped]]:
    """The number of bad rows that were left out, and the first bad rows of each file."""
    return sum(header.skipped for header in headers), [Skipped(*bad) for header in headers for bad in header.bad]


@dataclass(frozen=True)
class _Expected:
    """What a catalogue must have been made from."""

    file: SourceFile
    mark: Mark
    settings: str

    def is_of(self, header: CatalogueHeader, begun: str | None) -> bool:
        same = (header.name, header.origin, header.settings) == (self.file.name, self.file.origin, self.settings)
        return same and header.mark.matches(self.mark) and header.begun == begun


def _settings_of(reader: SourceReader) -> str:
    cutting = reader.cutting
    options = asdict(reader.options) | {"stream": True}
    cut = {"tokenizer": reader.tokenizer, "max_tokens": cutting.max_tokens, "long_texts": cutting.long_texts}
    if cutting.one_bos:  # catalogues of earlier versions do not have it
        cut["one_bos"] = True
    return json.dumps(options | cut, sort_keys=True)


def _reuse(folder: Path, path: Path, expected: _Expected, *, state: _State) -> CatalogueHeader | None:
    """The header of the expected catalogue, if there is one and it is undamaged. It is then at `path`."""
    for place in (path, folder / STREAMED / path.name):
        with suppress(CorpusError):
            if not place.exists():
                continue
            segment = StreamedSegment(place)
            if not expected.is_of(segment.header, state.fingerprint.state) or not segment.is_whole():
                continue
            if place != path:
                with replacing(path) as part:
                    shutil.copyfile(place, part)
            state.take(segment.header, segment.rows())
            return segment.header
    return None


@dataclass(kw_only=True)
class _FileNotes:
    """What is recorded about a file while it is read."""

    counting: Counting = field(default_factory=Counting)
    last: int = 0
    """Number of the last row that was read."""
    skipped: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    fields: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict[str, set[str]](set))
    digest: xxh3_128 = field(default_factory=xxh3_128)

    def rows(self, url: str, file: SourceFile) -> Iterator[LocatedRow]:
        for row in rows_of(url, file.kind):
            self.last = row.number
            yield file.origin, row

    def skip(self, found: Skipped) -> None:
        self.skipped += 1
        if len(self.bad) < BAD_KEPT:
            self.bad.append((found.source, found.reason))

    def entry(self, record: Record, window: int, row: dict[str, Any]) -> dict[str, Any]:
        """The row of the catalogue for an example."""
        for name, kind in kinds_of(record.metadata).items():
            self.fields[name].add(kind)
        assert record.row is not None, "records of a streamed corpus are read from a file"
        start, stop = record.row.span or (None, None)
        entry = {
            "id": row["id"],
            "number": record.row.number,
            "start": start,
            "size": None if start is None or stop is None else stop - start,
            "document": record.document,
            "window": None if row["id"] == record.id else window,
            "tokens": len(row["tokens"]),
            "check": check_of(row),
        }
        self.digest.update(entry_bytes(entry))
        return entry


def _write(
    path: Path, expected: _Expected, reader: SourceReader, *, state: _State, progress: Callable[[int], None]
) -> CatalogueHeader:
    """Write the catalogue of one file."""
    file, notes, begun = expected.file, _FileNotes(), state.fingerprint.state or ""
    headers: list[CatalogueHeader] = []

    def entries() -> Iterator[dict[str, Any]]:
        placed = notes.rows(location(reader.root, file.name), file)
        good = good_records(placed, RowReader(reader.options, reader.render), notes.skip, seen=state.seen)
        left = None if reader.options.limit is None else reader.options.limit - state.records
        for record, window, row in cut_all(islice(good, left), reader.cutting, notes.counting, numbered=state.numbered):
            state.fingerprint.add(identity_of(row))
            yield notes.entry(record, window, row)
            if notes.counting.examples % ROWS_PER_BATCH == 0:
                progress(notes.counting.examples)

    def metadata() -> dict[str, str]:
        header = CatalogueHeader(
            name=file.name,
            kind=file.kind,
            origin=file.origin,
            mark=expected.mark,
            settings=expected.settings,
            counts=notes.counting.counts,
            rows=notes.last,
            skipped=notes.skipped,
            bad=tuple(notes.bad),
            fields={name: sorted(kinds) for name, kinds in notes.fields.items()},
            begun=begun,
            ended=state.fingerprint.state or "",
            fingerprint=state.fingerprint.value,
        )
        headers.append(replace(header, checksum=catalogue_checksum(notes.digest, header)))
        return {"catalogue": headers[0].to_json()}

    write_rows(path, CATALOGUE, entries(), metadata=metadata)
    return headers[0]


def _require_records(headers: list[CatalogueHeader], source: Source) -> None:
    """Raises CorpusError if there is no example."""
    _, bad = skipped_in(headers)
    if not sum(header.counts.records for header in headers):
        if bad:
            raise CorpusError(
                f"{source.root} contains only bad examples. The first is at {bad[0].source}: {bad[0].reason}."
            )
        raise CorpusError(f"{source.root} contains no example: it is empty.")
    require_examples(sum(header.counts.examples for header in headers))
