"""Making the catalogues of a streamed corpus, file by file, each whole or not at all.

Those that are finished are found again, so that a catalogue that was interrupted goes on with the first file that has
none.
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
from headwater.corpus.read import Placed, Record, RowReader, Skipped, good_records, id_key
from headwater.corpus.sources import Mark, Source, SourceFile, location, mark_of, rows_of
from headwater.corpus.store import ROWS_PER_BATCH, Counting, cut_all, identity_of, require_examples, write_rows
from headwater.corpus.streamed import (
    CATALOGUE,
    STREAMED,
    CatalogueHeader,
    SourceReader,
    StreamedSegment,
    check_of,
    entry_bytes,
    kinds_of,
    sealed,
)
from headwater.errors import CorpusError

PART = f"{STREAMED}.part"
"""The folder of catalogues that are being made."""
BAD_KEPT = 20
"""Bad rows of a file whose places and reasons are kept; of all others only the number."""

Progress = Callable[[int, int, int], None]
"""Called with the files that are done, how many there are, and the examples there are."""


@dataclass(kw_only=True)
class _SoFar:
    """What is known behind the last file."""

    seen: dict[bytes, str] = field(default_factory=dict[bytes, str])
    """The ids that are taken, and where."""
    numbered: set[str] = field(default_factory=set[str])
    """The ids with a #."""
    fingerprint: Fingerprint
    """Of every example."""
    records: int = 0
    examples: int = 0
    before: int = 0
    """Rows, where all are numbered as those of one file."""

    def take(self, head: CatalogueHeader, rows: Iterable[dict[str, Any]]) -> None:
        """Go on behind a file that is catalogued already."""
        for row in rows:
            id: str = row["id"]
            if "#" in id:
                self.numbered.add(id)
            record = id if row["window"] is None else id.removesuffix(f"#{row['window']}")
            self.seen[id_key(record)] = head.origin.place(row["number"])
        self.fingerprint = ChainedFingerprint(head.ended)
        self.add(head)

    def add(self, head: CatalogueHeader) -> None:
        self.records += head.counts.records
        self.examples += head.counts.examples
        self.before += head.rows


def catalogue(
    folder: Path, source: Source, reader: SourceReader, *, progress: Progress, like: str | None = None
) -> list[CatalogueHeader]:
    """Make the catalogue of every file of `source` in the folder PART of the corpus's `folder`.

    Those that were finished there, or in STREAMED, are kept where the file is as it was. Raises CorpusError as reading
    the files into the run would, and where one cannot be reached.
    """
    so_far = _SoFar(fingerprint=fingerprint_like(like))
    heads: list[CatalogueHeader] = []
    limit = reader.options.limit
    if limit is not None and limit < 1:
        raise CorpusError(f"--limit {limit} leaves no example. Give 1 or more, or leave it out for all.")
    for number, file in enumerate(source.files):
        progress(number, len(source.files), so_far.examples)
        if limit is not None and so_far.records >= limit:
            break
        origin = replace(file.origin, before=so_far.before if source.as_one else 0)
        wanted = _Wanted(replace(file, origin=origin), mark_of(location(source.root, file.name)), _settings_of(reader))
        path = folder / PART / f"{number:06d}.arrow"
        head = _found(folder, path, wanted, so_far=so_far)
        if head is None:
            before = so_far.examples

            def step(examples: int, number: int = number, before: int = before) -> None:
                progress(number, len(source.files), before + examples)

            head = _write(path, wanted, reader, so_far=so_far, progress=step)
            so_far.add(head)
        heads.append(head)
    for stale in sorted((folder / PART).iterdir())[len(heads) :]:  # of a source that had more files
        stale.unlink()
    progress(len(source.files), len(source.files), so_far.examples)
    _require_records(heads, source)
    return heads


def finished(folder: Path, source: Source, reader: SourceReader) -> bool:
    """Whether the corpus's `folder` has the whole catalogue of `source`, with every file as it is now."""
    segments = [StreamedSegment(path) for path in sorted((folder / STREAMED).glob("*.arrow"))]
    settings, limit = _settings_of(reader), reader.options.limit
    limited = limit is not None and sum(segment.counts.records for segment in segments) >= limit
    if len(segments) != len(source.files) and not (limited and len(segments) < len(source.files)):
        return False
    return all(
        segment.head.name == file.name
        and segment.head.settings == settings
        and segment.head.mark.fits(mark_of(location(source.root, file.name)))
        for segment, file in zip(segments, source.files, strict=False)
    )


def settle(folder: Path) -> None:
    """Put the catalogues that were made in the place of those that were there."""
    old = folder / f"{STREAMED}.old"
    shutil.rmtree(old, ignore_errors=True)
    if (folder / STREAMED).exists():
        (folder / STREAMED).rename(old)
    (folder / PART).rename(folder / STREAMED)
    shutil.rmtree(old, ignore_errors=True)


def skipped_in(heads: Iterable[CatalogueHeader]) -> tuple[int, list[Skipped]]:
    """How many bad rows were left out, and the first of each file."""
    return sum(head.skipped for head in heads), [Skipped(*bad) for head in heads for bad in head.bad]


@dataclass(frozen=True)
class _Wanted:
    """What a catalogue is to be of."""

    file: SourceFile
    mark: Mark
    settings: str

    def is_met(self, head: CatalogueHeader, begun: str | None) -> bool:
        same = (head.name, head.origin, head.settings) == (self.file.name, self.file.origin, self.settings)
        return same and head.mark.fits(self.mark) and head.begun == begun


def _settings_of(reader: SourceReader) -> str:
    cutting = reader.cutting
    options = asdict(reader.options) | {"stream": True}
    cut = {"tokenizer": reader.tokenizer, "max_tokens": cutting.max_tokens, "long_texts": cutting.long_texts}
    return json.dumps(options | cut, sort_keys=True)


def _found(folder: Path, path: Path, wanted: _Wanted, *, so_far: _SoFar) -> CatalogueHeader | None:
    """The catalogue that is wanted, where it is there already and undamaged; then it is at `path`."""
    for place in (path, folder / STREAMED / path.name):
        with suppress(CorpusError):
            if not place.exists():
                continue
            segment = StreamedSegment(place)
            if not wanted.is_met(segment.head, so_far.fingerprint.state) or not segment.is_whole():
                continue
            if place != path:
                with replacing(path) as part:
                    shutil.copyfile(place, part)
            so_far.take(segment.head, segment.rows())
            return segment.head
    return None


@dataclass(kw_only=True)
class _Noted:
    """What is noted of a file while it is read."""

    counting: Counting = field(default_factory=Counting)
    last: int = 0
    """Number of the row read last."""
    skipped: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    fields: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict[str, set[str]](set))
    digest: xxh3_128 = field(default_factory=xxh3_128)

    def rows(self, url: str, file: SourceFile) -> Iterator[Placed]:
        for row in rows_of(url, file.kind):
            self.last = row.number
            yield file.origin, row

    def skip(self, found: Skipped) -> None:
        self.skipped += 1
        if len(self.bad) < BAD_KEPT:
            self.bad.append((found.source, found.reason))

    def entry(self, record: Record, window: int, row: dict[str, Any]) -> dict[str, Any]:
        """The catalogue's row for an example."""
        for name, kind in kinds_of(record.metadata).items():
            self.fields[name].add(kind)
        assert record.row is not None, "it was read from a file"
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
    path: Path, wanted: _Wanted, reader: SourceReader, *, so_far: _SoFar, progress: Callable[[int], None]
) -> CatalogueHeader:
    """Catalogue one file."""
    file, noted, begun = wanted.file, _Noted(), so_far.fingerprint.state or ""
    heads: list[CatalogueHeader] = []

    def entries() -> Iterator[dict[str, Any]]:
        placed = noted.rows(location(reader.root, file.name), file)
        good = good_records(placed, RowReader(reader.options, reader.render), noted.skip, seen=so_far.seen)
        left = None if reader.options.limit is None else reader.options.limit - so_far.records
        for record, window, row in cut_all(
            islice(good, left), reader.cutting, noted.counting, numbered=so_far.numbered
        ):
            so_far.fingerprint.add(identity_of(row))
            yield noted.entry(record, window, row)
            if noted.counting.examples % ROWS_PER_BATCH == 0:
                progress(noted.counting.examples)

    def metadata() -> dict[str, str]:
        head = CatalogueHeader(
            name=file.name,
            kind=file.kind,
            origin=file.origin,
            mark=wanted.mark,
            settings=wanted.settings,
            counts=noted.counting.counts,
            rows=noted.last,
            skipped=noted.skipped,
            bad=tuple(noted.bad),
            fields={name: sorted(kinds) for name, kinds in noted.fields.items()},
            begun=begun,
            ended=so_far.fingerprint.state or "",
            fingerprint=so_far.fingerprint.value,
        )
        heads.append(replace(head, checksum=sealed(noted.digest, head)))
        return {"catalogue": heads[0].to_json()}

    write_rows(path, CATALOGUE, entries(), metadata=metadata)
    return heads[0]


def _require_records(heads: list[CatalogueHeader], source: Source) -> None:
    """Raises CorpusError where nothing was found to learn."""
    _, bad = skipped_in(heads)
    if not sum(head.counts.records for head in heads):
        if bad:
            raise CorpusError(f"{source.root} holds only bad examples, the first at {bad[0].source}: {bad[0].reason}.")
        raise CorpusError(f"{source.root} holds no example: it is empty.")
    require_examples(sum(head.counts.examples for head in heads))
