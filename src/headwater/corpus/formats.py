"""The file formats of a corpus, each read row by row with line numbers.

A bad row is given as `Bad`, and reading continues after it. Damage that hides where the next row begins (an unclosed
quote, a broken list or archive) raises CorpusError, because nobody can say how many rows would be left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path, PurePath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.compression import COMPRESSED, DAMAGE, OTHERS, check_content, open_text
from headwater.corpus.json_rows import json_rows, jsonl
from headwater.corpus.rows import CHUNK, Bad, Row, decode
from headwater.errors import CorpusError

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
ARROW_SUFFIXES = (".arrow", ".feather")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet", *ARROW_SUFFIXES)
READABLE = f"{', '.join(SUFFIXES)}; text formats also with {', '.join(COMPRESSED)}"
"""What can be read, for error messages."""
ARCHIVES = {".zip": "unzip", ".tar": "tar xf", ".tgz": "tar xf", ".7z": "7z x", ".rar": "unrar x"}
"""Suffixes of archives, and the command that unpacks each."""
STREAMABLE = (".jsonl", ".ndjson", ".parquet")
"""Formats whose rows can be read without reading the rows before them."""
SEPARATOR = b"<|endoftext|>"
PARQUET_ROWS = 1000
"""Rows that are decoded together."""
LONGEST_CELL = 2**31 - 1
"""Limit for a cell in characters. The default of the csv module is 131072."""


def format_of(path: PurePath) -> str | None:
    """The suffix that says how `path` is read, without that of a compression. None for an unknown suffix."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSED:
        return suffixes[0] if suffixes[0] in TEXT_SUFFIXES else None
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


def stem_of(name: str) -> str:
    """`name` without the suffixes of its format. Other dots stay, because shards may differ only after them."""
    stem = re.sub(rf"({'|'.join(map(re.escape, COMPRESSED))})$", "", name, flags=re.IGNORECASE)
    return stem.removesuffix(Path(stem).suffix)


def unreadable(path: PurePath) -> str:
    """Why a file whose format is unknown cannot be read, and what to do."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    last = suffixes[-1] if suffixes else ""
    if unpack := ARCHIVES.get(last) or (ARCHIVES[".tar"] if ".tar" in suffixes else None):
        return f"{path} is an archive. Unpack it, and give the folder of its files: {unpack} {path.name}"
    if last in COMPRESSED:
        return f"{path} does not say what is compressed in it. Give its name two suffixes, such as .jsonl{last}."
    if not last:
        return f"{path} has no suffix that says its format. Add one of {READABLE}."
    return f"{path}: files with this suffix cannot be read. Give one of {READABLE}."


def read_rows(path: Path, text_field: str = "text") -> Iterator[Row | Bad]:
    """The rows of a file in constant memory. The field of plain text is `text_field`.

    Raises CorpusError, naming the file, for an unknown suffix, for a content that is not what the suffix says, and for
    damage that reading cannot continue after.
    """
    kind = format_of(path)
    if kind is None:
        raise CorpusError(unreadable(path))
    try:
        if kind == ".parquet" or kind in ARROW_SUFFIXES:
            _check_binary(path)
            yield from parquet(path, str(path)) if kind == ".parquet" else _arrow(path)
            return
        with open_text(path) as file:
            check_content(file.peek(64), str(path))
            yield from _text_reader(kind, str(path), text_field)(file)
    except DAMAGE as error:
        cause = getattr(error, "strerror", None) or error
        raise CorpusError(
            f"{path} cannot be read: {cause}. Check that it is complete and that you may read it."
        ) from error


def _check_binary(path: Path) -> None:
    """Raises CorpusError if a Git LFS pointer stands in place of a file."""
    with path.open("rb") as file:
        head = file.read(64)
    for magic, said in OTHERS.items():
        if magic.startswith(b"version") and head.startswith(magic):
            raise CorpusError(f"{path} {said}.")


def read_open(file: BufferedReader, kind: str, name: str) -> Iterator[Row | Bad]:
    """The rows of an open file whose format `kind` is one of STREAMABLE, as `read_rows` gives them.

    Raises CorpusError, naming the file `name`, for damage that reading cannot continue after.
    """
    if kind == ".parquet":
        return parquet(file, name)
    check_content(file.peek(64), name)
    return jsonl(file)


def _text_reader(kind: str, name: str, text_field: str) -> Callable[[BufferedReader], Iterator[Row | Bad]]:
    if kind in (".jsonl", ".ndjson"):
        return jsonl
    if kind == ".json":
        return lambda file: json_rows(file, name)
    if kind == ".txt":
        return lambda file: plain_text(file, text_field, again=lambda: open_text(Path(name)))
    return lambda file: _csv(file, name, "\t" if kind == ".tsv" else ",")


# --- CSV ---


def _csv(file: IO[bytes], name: str, delimiter: str) -> Iterator[Row | Bad]:
    header: list[str] | None = None
    for number, cells in _csv_rows(file, name, delimiter):
        if header is None:
            header = _csv_header(number, cells, name)
        elif isinstance(cells, Bad):
            yield Bad(cells.number, cells.reason)
        elif len(cells) != len(header):
            yield Bad(number, f"columns in the row: {len(cells)}, in the header: {len(header)}")
        else:
            yield Row(number, dict(zip(header, cells, strict=True)))


def _csv_header(number: int, cells: list[str] | Bad, file: str) -> list[str]:
    if isinstance(cells, Bad):
        raise CorpusError(f"{file}:{cells.number}: {cells.reason}.")
    twice = [name for name in cells if cells.count(name) > 1]
    if twice:
        raise CorpusError(f"{file}:{number}: two columns are called {twice[0]!r}. Give each column its own name.")
    return cells


def _csv_rows(file: IO[bytes], name: str, delimiter: str) -> Iterator[tuple[int, list[str] | Bad]]:
    """The line on which each row begins, and the row's cells. Empty lines are left out."""
    csv.field_size_limit(LONGEST_CELL)
    bad: list[Bad] = []

    def lines() -> Iterator[str]:
        for number, raw in enumerate(file, start=1):
            line = decode(raw, number)
            if isinstance(line, Bad):  # passed on all the same, so quotes and line numbers stay right
                bad.append(line)
                line = raw.decode(errors="replace")
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise CorpusError(f"{name}:{number}: {_csv_damage(error)}") from None
        if cells is None:
            return
        if cells:
            yield number, bad[0] if bad else cells
        bad.clear()


def _csv_damage(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "a carriage return is outside quotes. Quote the cell, or end lines with a newline."
    return (
        f"the row that begins here is not CSV: {error}. Put a cell that contains a quote in quotes, and write "
        'the quote twice: "so ""to say""".'
    )


# --- plain text ---


def plain_text(
    file: IO[bytes], text_field: str, *, again: Callable[[], AbstractContextManager[IO[bytes]]]
) -> Iterator[Row | Bad]:
    """Texts separated by `<|endoftext|>` if the file contains it, else by blank lines.

    `again` opens the file once more, because the separator is looked for first.
    """
    separated = _holds(file, SEPARATOR)
    with again() as file:
        yield from _plain(file, text_field, separated)


def _plain(file: IO[bytes], text_field: str, separated: bool) -> Iterator[Row | Bad]:
    separator, margin = (SEPARATOR, " \r\n") if separated else (b"", "\r\n")
    line, column, last, part = 1, 0, 0, 1
    for piece in _separated(file) if separated else _paragraphs(file):
        text = decode(piece, line, column)
        if isinstance(text, Bad):
            yield text
        elif content := text.lstrip():
            number = line + text.count("\n", 0, len(text) - len(content))
            part = part + 1 if number == last else 1
            last = number
            yield Row(number, {text_field: text.strip(margin)}, part)
        newlines = piece.count(b"\n")
        column = len(piece) - piece.rfind(b"\n") - 1 + len(separator) + (0 if newlines else column)
        line += newlines


def _holds(file: IO[bytes], needle: bytes) -> bool:
    tail = b""
    while chunk := file.read(CHUNK):
        tail += chunk
        if needle in tail:
            return True
        tail = tail[1 - len(needle) :]
    return False


def _separated(file: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(CHUNK):
        *whole, rest = (rest + chunk).split(SEPARATOR)
        yield from whole
    yield rest


def _paragraphs(file: IO[bytes]) -> Iterator[bytes]:
    """Paragraphs and the blank lines between them."""
    gathered: list[bytes] = []
    for line in file:
        if line.strip():
            gathered.append(line)
        else:
            yield b"".join(gathered)
            yield line
            gathered.clear()
    yield b"".join(gathered)


# --- Parquet ---


def parquet(source: Path | IO[bytes], name: str) -> Iterator[Row | Bad]:
    """The rows of a Parquet file. Raises CorpusError, which names it, if it is damaged."""
    number = 0
    try:
        with pq.ParquetFile(source, buffer_size=CHUNK) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from parquet_rows(batch, range(number + 1, number + 1 + batch.num_rows))
                number += batch.num_rows
    except pa.ArrowException as error:
        raise not_parquet(name, error) from error


def _arrow(path: Path) -> Iterator[Row | Bad]:
    """The rows of an Arrow file or stream, as the datasets library caches them."""
    number = 0
    try:
        with pa.memory_map(str(path)) as file:
            for batch in _arrow_batches(file):
                for start in range(0, batch.num_rows, PARQUET_ROWS):
                    part = batch.slice(start, PARQUET_ROWS)
                    yield from parquet_rows(part, range(number + 1, number + 1 + part.num_rows))
                    number += part.num_rows
    except pa.ArrowException as error:
        raise CorpusError(f"{path} is not an Arrow file, or it is damaged: {error}") from error


def _arrow_batches(file: Any) -> Iterator[Any]:
    try:
        opened = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        yield from pa.ipc.open_stream(file)
    else:
        yield from (opened.get_batch(k) for k in range(opened.num_record_batches))


def not_parquet(name: str, error: Exception) -> CorpusError:
    """The error for a file that Arrow cannot read."""
    return CorpusError(f"{name} is not a Parquet file, or it is damaged: {error}")


def parquet_rows(batch: Any, numbers: Iterable[int]) -> Iterator[Row | Bad]:
    """The rows of a record batch; `numbers` are their row numbers."""
    for number, values in zip(numbers, _values(batch), strict=True):
        yield Bad(number, values) if isinstance(values, str) else Row(number, values)


def _values(batch: Any) -> Iterable[dict[str, Any] | str]:
    """Each row of a batch, or what is wrong with it. Rows are read one by one only if some value cannot be read."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        return (_value(batch.slice(k, 1)) for k in range(batch.num_rows))


def _value(row: Any) -> dict[str, Any] | str:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError as error:
        value, beginning = f"0x{error.object[error.start]:02x}", error.object[:30].decode(errors="replace")
        return f"invalid UTF-8 ({value}) at byte {error.start + 1} of {beginning!r}"
    except (ValueError, OverflowError) as error:
        return f"a value cannot be read: {error}"
