"""Read single rows of files: of JSONL by their bytes, of Parquet by their row groups."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.formats import PARQUET_ROWS, not_parquet, parquet_rows
from headwater.corpus.json_rows import json_line
from headwater.corpus.rows import CHUNK, Bad, Row
from headwater.corpus.sources import filesystem_of, unreachable
from headwater.errors import CorpusError

GAP = 1 << 18
"""Gaps between two lines up to this many bytes are read through instead of sending another request."""
PIECE = 32 << 20
"""Bytes that are requested together and kept in memory. One line may be longer."""
OPEN_FILES = 16
"""Parquet files that stay open, each with the rows that were decoded last."""


@dataclass(frozen=True)
class RowPlace:
    """Where a row is in a file."""

    number: int
    """Number of the row, counted from 1."""
    start: int | None
    """Its first byte. None in Parquet."""
    size: int | None
    """Its bytes. None in Parquet."""


class RowFiles:
    """Files that single rows are read from. Up to OPEN_FILES Parquet files stay open for the next read."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, ParquetRows] = OrderedDict()
        self._lock = Lock()

    def read(self, url: str, kind: str, places: Sequence[RowPlace]) -> list[Row | Bad]:
        """The rows at `places`, which are in increasing order. Raises CorpusError if they cannot be read."""
        try:
            if kind != ".parquet":
                return list(_lines(url, places))
            return self._parquet(url).read([place.number for place in places])
        except CorpusError:
            raise
        except pa.ArrowException as error:
            raise not_parquet(url, error) from error
        except Exception as error:  # a file system may raise anything
            raise unreachable(url, error) from error

    def _parquet(self, url: str) -> ParquetRows:
        with self._lock:
            found = self._open.pop(url, None)
        if found is None:
            found = ParquetRows(url)
        with self._lock:
            self._open[url] = found
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return found


def _lines(url: str, places: Sequence[RowPlace]) -> Iterator[Row | Bad]:
    """Lines of a JSONL file. Neighbouring lines are read in one piece."""
    system, path = filesystem_of(url)
    for pieces in _pieces(places):
        starts = [piece[0].start or 0 for piece in pieces]
        stops = [_stop(piece[-1]) for piece in pieces]
        found = system.cat_ranges([path] * len(pieces), starts, stops, on_error="raise")
        for piece, first, data in zip(pieces, starts, found, strict=True):
            for place in piece:
                start = place.start or 0
                row = json_line(place.number, bytes(data[start - first : _stop(place) - first]), start)
                yield row or Bad(place.number, "the line is blank")


def _stop(place: RowPlace) -> int:
    return (place.start or 0) + (place.size or 0)


def _pieces(places: Sequence[RowPlace]) -> Iterator[list[list[RowPlace]]]:
    """Pieces of neighbouring places, and as many pieces together as may be kept in memory."""
    pieces: list[list[RowPlace]] = []
    held = 0
    for place in places:
        gap = (place.start or 0) - _stop(pieces[-1][-1]) if pieces else GAP + 1
        more = (place.size or 0) + (gap if gap <= GAP else 0)
        if pieces and held + more > PIECE:
            yield pieces
            pieces, held, gap = [], 0, GAP + 1
        if gap > GAP:
            pieces.append([place])
        else:
            pieces[-1].append(place)
        held += more
    if pieces:
        yield pieces


class ParquetRows:
    """An open Parquet file. Consecutive rows are decoded once and in order, PARQUET_ROWS at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = Lock()
        system, path = filesystem_of(url)
        self._file = pq.ParquetFile(system.open(path, "rb"), buffer_size=CHUNK)
        metadata = self._file.metadata
        self._starts: list[int] = np.cumsum(
            [0, *(metadata.row_group(k).num_rows for k in range(metadata.num_row_groups))]
        ).tolist()
        """Number of the first row of each row group, counted from 0, and one past the last row."""
        self._batches: Iterator[Any] = iter(())
        """The batches after the decoded rows in their row group."""
        self._decoded: tuple[int, int, Any] = (0, 0, None)
        """First of the decoded rows, one past the last, and the rows themselves."""

    def read(self, numbers: Sequence[int]) -> list[Row | Bad]:
        """The rows with these numbers, which are counted from 1 and in increasing order."""
        found: list[Row | Bad] = []
        with self._lock:  # a server may show an example while it answers a question
            while len(found) < len(numbers):
                first, stop, batch = self._decode_to(numbers[len(found)] - 1)
                part = numbers[len(found) : bisect_left(numbers, stop + 1)]
                found += parquet_rows(batch.take(pa.array([number - 1 - first for number in part])), part)
        return found

    def _decode_to(self, row: int) -> tuple[int, int, Any]:
        """Decode until `row`, counted from 0, is decoded. Raises CorpusError if there is no such row."""
        first, stop, _ = self._decoded
        group = bisect_left(self._starts, row + 1) - 1
        if group >= len(self._starts) - 1:
            raise CorpusError(f"{self.url} has only {self._starts[-1]:,} rows, and row {row + 1:,} is needed.")
        if row < first or stop <= self._starts[group]:  # before the decoded rows, or in a later row group
            self._batches = self._file.iter_batches(batch_size=PARQUET_ROWS, row_groups=[group])
            stop = self._starts[group]
        while stop <= row:
            batch = next(self._batches)
            self._decoded = stop, stop + batch.num_rows, batch
            stop += batch.num_rows
        return self._decoded
