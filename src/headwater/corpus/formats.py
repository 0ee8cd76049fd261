"""The file formats a corpus may come in, each read row by row with its line numbers."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import CorpusError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".txt")
"""Those of text may end in .gz besides."""
SEPARATOR = "<|endoftext|>"


@dataclass(frozen=True)
class Row:
    source: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """A place that could not be read as a row."""

    source: str
    reason: str


def format_of(path: Path) -> str | None:
    """The suffix that says how `path` is read, without .gz; None for an unknown one."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
        if suffixes and suffixes[-1] == ".parquet":
            return None
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


def read_rows(path: Path, name: str) -> Iterator[Row | Bad]:
    """The rows of a file, called `name` in their sources. Raises CorpusError for an unknown suffix or broken file."""
    kind = format_of(path)
    readers = {
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _csv,
        ".txt": _plain,
    }
    if kind == ".parquet":
        yield from _parquet(path, name)
        return
    if kind is None:
        raise CorpusError(f"{path}: this suffix cannot be read. Give one of {', '.join(SUFFIXES)}.")
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield from readers[kind](file, name)  # pyright: ignore[reportArgumentType]
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[int, str | Bad]]:
    """Numbered lines, which end at \\n alone: a text may hold other separators of lines."""
    for number, raw in enumerate(file, start=1):
        try:
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield number, Bad(f"{name}:{number}", f"invalid UTF-8 at byte {error.start} of the line")


def _jsonl(file: IO[bytes], name: str) -> Iterator[Row | Bad]:
    for number, line in _lines(file, name):
        if isinstance(line, Bad):
            yield line
        elif line.strip():
            yield _object(f"{name}:{number}", line)


def _object(source: str, line: str) -> Row | Bad:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Bad(source, f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return Bad(source, "JSON nested too deeply")
    return Row(source, value) if isinstance(value, dict) else Bad(source, "not a JSON object")


def _json(file: IO[bytes], name: str) -> Iterator[Row | Bad]:
    try:
        values = json.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name}: invalid UTF-8 at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        raise CorpusError(f"{name}:{error.lineno}: not JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(values, list):
        raise CorpusError(f"{name} must hold a list of objects. One object a line belongs in a .jsonl file.")
    for number, value in enumerate(values, start=1):
        source = f"{name}:{number}"
        yield Row(source, value) if isinstance(value, dict) else Bad(source, "not a JSON object")


def _csv(file: IO[bytes], name: str) -> Iterator[Row | Bad]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    bad: list[Bad] = []

    def decoded() -> Iterator[str]:
        for _, line in _lines(file, name):
            if isinstance(line, Bad):
                bad.append(line)
            else:
                yield line

    reader = csv.reader(decoded(), delimiter="\t" if ".tsv" in name.lower() else ",", strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            yield from bad
            bad.clear()
            source = f"{name}:{reader.line_num}"
            if header is None:
                header = cells
            elif cells and len(cells) != len(header):
                yield Bad(source, f"{len(cells)} columns where the header has {len(header)}")
            elif cells:
                yield Row(source, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise CorpusError(f"{name}:{reader.line_num}: not CSV: {error}.") from error
    yield from bad


def _plain(file: IO[bytes], name: str) -> Iterator[Row | Bad]:
    """Texts separated by `<|endoftext|>` where the file has it, else by blank lines."""
    separated = SEPARATOR.encode() in file.read()
    file.seek(0)
    start = 0
    gathered: list[str] = []
    broken: Bad | None = None

    def flush() -> Iterator[Row | Bad]:
        nonlocal start, broken
        text = "".join(gathered).strip("\r\n" if not separated else " \r\n")
        if broken:
            yield broken
        elif text.strip():
            yield Row(f"{name}:{start}", {"text": text})
        gathered.clear()
        start, broken = 0, None

    for number, line in _lines(file, name):
        start = start or (number if isinstance(line, Bad) or line.strip() else 0)
        if isinstance(line, Bad):
            broken = broken or line
        elif separated:
            first, *rest = line.split(SEPARATOR)
            gathered.append(first)
            for part in rest:
                yield from flush()
                start = number if part.strip() else 0
                gathered.append(part)
        elif line.strip():
            gathered.append(line)
        else:
            yield from flush()
    yield from flush()


def _parquet(path: Path, name: str) -> Iterator[Row | Bad]:
    try:
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{name}:{number}", values)
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"{path} is not a Parquet file: {error}") from error
