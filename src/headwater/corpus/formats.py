"""The file formats a corpus may come in, each read row by row with its line numbers.

A row that is bad by itself is given as `Bad`, and reading goes on behind it. Damage that hides where the next row
begins (a quote never closed, a broken list or archive) is a CorpusError: nobody could say how much it would leave out.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import CorpusError

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
READABLE = f"{', '.join(SUFFIXES)}; those of text also with .gz"
"""What can be read, for messages."""
STREAMABLE = (".jsonl", ".ndjson", ".parquet")
"""Formats of which a single row can be read without what stands before it."""
SEPARATOR = b"<|endoftext|>"
CHUNK = 1 << 20
PARQUET_ROWS = 1000
"""Decoded at a time."""
LONGEST_CELL = 2**31 - 1
"""Characters; the csv module would stop at 131072."""


@dataclass(frozen=True)
class Row:
    """One row as it was found: every field of it, not yet checked."""

    number: int
    """Where it begins, counted from 1: the line in JSONL, CSV and plain text, the row in a JSON list and Parquet."""
    values: dict[str, Any]
    part: int = 1
    """Which one of the texts that begin on this line."""
    span: tuple[int, int] | None = None
    """The bytes of the file that hold it, from and to, where it can be read by them alone: in JSONL."""


@dataclass(frozen=True)
class Bad:
    """A place that could not be read as a row."""

    number: int
    reason: str


def format_of(path: PurePath) -> str | None:
    """The suffix that says how `path` is read, without .gz; None for an unknown one."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[-1:] == [".gz"]:
        return suffixes[0] if suffixes[0] in TEXT_SUFFIXES else None
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


def clean(text: str) -> str:
    """`text` with halves of surrogate pairs, which no file can hold, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def stem_of(name: str) -> str:
    """`name` without the suffixes of its format; other dots are kept, for shards may differ behind them alone."""
    stem = re.sub(r"\.gz$", "", name, flags=re.IGNORECASE)
    return stem.removesuffix(Path(stem).suffix)


def read_rows(path: Path, text_field: str = "text") -> Iterator[Row | Bad]:
    """The rows of a file in constant memory; plain text is put in `text_field`.

    Raises CorpusError, naming the file, for an unknown suffix and for damage behind which nothing can be read.
    """
    kind = format_of(path)
    if kind is None:
        raise CorpusError(f"{path}: files of this suffix cannot be read. Give one of {READABLE}.")
    try:
        if kind == ".parquet":
            yield from _parquet(path, str(path))
            return
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield from _text_reader(kind, path, text_field)(file)  # pyright: ignore[reportArgumentType]
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or error
        raise CorpusError(f"{path} cannot be read: {cause}. Is it whole, and may you read it?") from error


def read_open(file: IO[bytes], kind: str, name: str) -> Iterator[Row | Bad]:
    """The rows of an open file whose `kind` is one of STREAMABLE, as `read_rows` gives them.

    Raises CorpusError, with its `name`, for damage behind which nothing can be read.
    """
    return _parquet(file, name) if kind == ".parquet" else _jsonl(file)


def _text_reader(kind: str, path: Path, text_field: str) -> Callable[[IO[bytes]], Iterator[Row | Bad]]:
    if kind in (".jsonl", ".ndjson"):
        return _jsonl
    if kind == ".json":
        return lambda file: _json_list(file, path)
    if kind == ".txt":
        return lambda file: _plain(file, text_field)
    return lambda file: _csv(file, path, "\t" if kind == ".tsv" else ",")


def _decode(raw: bytes, line: int, column: int = 0) -> str | Bad:
    """The text of `raw`, which begins behind `column` bytes of `line`, or where it is not UTF-8."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        newlines = raw.count(b"\n", 0, error.start)
        byte = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + (0 if newlines else column) + 1
        value = f"0x{raw[error.start]:02x}"
        return Bad(line + newlines, f"invalid UTF-8 ({value}) at byte {byte} of the line: save the file as UTF-8")
    return text.removeprefix("\ufeff") if (line, column) == (1, 0) else text


# --- JSON ---


def _integer(digits: str) -> int | str:
    """An integer; as text where it has more digits than Python is willing to convert."""
    return int(digits) if len(digits) < 4000 else digits


_DECODER = json.JSONDecoder(parse_int=_integer)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""How the error handler surrogateescape writes a byte that is not UTF-8."""


def _said(error: json.JSONDecodeError) -> str:
    """What is wrong, without the "at" that some messages end with for a place of their own."""
    return error.msg.removesuffix(" at")


def _jsonl(file: IO[bytes]) -> Iterator[Row | Bad]:
    stop = 0
    for number, raw in enumerate(file, start=1):  # lines end at \n alone: a text may hold other separators of lines
        start, stop = stop, stop + len(raw)
        row = json_line(number, raw, start)
        if row is not None:
            yield row


def json_line(number: int, raw: bytes, start: int) -> Row | Bad | None:
    """The row on one line of JSONL, which begins behind `start` bytes of the file; None where the line is blank."""
    line = _decode(raw, number)
    if isinstance(line, Bad):
        return line
    if not line.strip():
        return None
    try:
        value = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        return Bad(number, f"not JSON: {_said(error)} at column {error.colno}")
    except RecursionError:
        return Bad(number, "the JSON is nested too deeply")
    return _as_row(number, value, (start, start + len(raw)))


def _as_row(number: int, value: Any, span: tuple[int, int] | None = None) -> Row | Bad:
    if isinstance(value, dict):
        return Row(number, value, span=span)
    return Bad(number, 'not a JSON object: each example is written as {"text": "…"}')


def _json_list(file: IO[bytes], path: Path) -> Iterator[Row | Bad]:
    window = _JsonWindow(file, path)
    if window.take() != "[":
        raise CorpusError(
            f"{path}:{window.line}: a .json file must hold a list of objects. "
            "Where it has one object a line, call it .jsonl; where it is no part of the corpus, move it elsewhere."
        )
    number, following = 0, window.peek()
    if following == "]":
        window.take()
    while following != "]":
        number += 1
        yield window.item(number)
        if (following := window.take()) not in (",", "]"):
            raise window.broken(f"a comma or ] is missing behind item {number}")
    if window.peek():
        raise window.broken("something follows behind the end of the list")


class _JsonWindow:
    """The part of a long JSON text that is being decoded."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text, self._at, self._lines_before = "", 0, 0

    @property
    def line(self) -> int:
        return self._lines_before + self._text.count("\n", 0, self._at) + 1

    def broken(self, what: str) -> CorpusError:
        return CorpusError(f"{self._path}:{self.line}: not JSON: {what}. Mend the file, or write it anew.")

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._read_on():
                return ""

    def take(self) -> str:
        character = self.peek()
        self._at += len(character)
        return character

    def item(self, number: int) -> Row | Bad:
        """The value that begins here. Raises CorpusError where it cannot be decoded."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._read_on():  # it may only have been cut off
                    continue
                self._at = max(self._at, error.pos)
                raise self.broken(f"{_said(error)}, in item {number}") from None
            except RecursionError:
                raise self.broken(f"item {number} is nested too deeply") from None
            if end == len(self._text) and self._read_on():  # a number may go on
                continue
            bad = self._invalid_utf8(number, end)
            self._at = end
            return bad or _as_row(number, value)

    def _invalid_utf8(self, number: int, end: int) -> Bad | None:
        found = _ESCAPED_BYTE.search(self._text, self._at, end)
        if not found:
            return None
        value = f"0x{ord(found[0]) - 0xDC00:02x}"
        byte = len(self._text[self._at : found.start()].encode("utf-8", "surrogateescape")) + 1
        where = f"at byte {byte} of the item, which begins on line {self.line}"
        return Bad(number, f"invalid UTF-8 ({value}) {where}: save the file as UTF-8")

    def _read_on(self) -> bool:
        self._lines_before = self.line - 1
        # As much again as is still undecided, so that a long item is not begun anew too often.
        raw = self._file.read(max(CHUNK, len(self._text) - self._at))
        self._text = self._text[self._at :] + self._decoder.decode(raw, final=not raw)
        self._at = 0
        return bool(raw)


# --- CSV ---


def _csv(file: IO[bytes], path: Path, delimiter: str) -> Iterator[Row | Bad]:
    header: list[str] | None = None
    for number, cells in _csv_rows(file, path, delimiter):
        if header is None:
            header = _csv_header(number, cells, path)
        elif isinstance(cells, Bad):
            yield Bad(cells.number, cells.reason)
        elif len(cells) != len(header):
            yield Bad(number, f"columns in the row: {len(cells)}, in the header: {len(header)}")
        else:
            yield Row(number, dict(zip(header, cells, strict=True)))


def _csv_header(number: int, cells: list[str] | Bad, path: Path) -> list[str]:
    if isinstance(cells, Bad):
        raise CorpusError(f"{path}:{cells.number}: {cells.reason}.")
    twice = [name for name in cells if cells.count(name) > 1]
    if twice:
        raise CorpusError(f"{path}:{number}: two columns are called {twice[0]!r}. Give each its own name.")
    return cells


def _csv_rows(file: IO[bytes], path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | Bad]]:
    """The line on which each row begins and its cells; empty lines are left out."""
    csv.field_size_limit(LONGEST_CELL)
    bad: list[Bad] = []

    def lines() -> Iterator[str]:
        for number, raw in enumerate(file, start=1):
            line = _decode(raw, number)
            if isinstance(line, Bad):  # still given, so that quotes and line numbers stay right
                bad.append(line)
                line = raw.decode(errors="replace")
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise CorpusError(f"{path}:{number}: {_csv_damage(error)}") from None
        if cells is None:
            return
        if cells:
            yield number, bad[0] if bad else cells
        bad.clear()


def _csv_damage(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "a carriage return stands outside quotes. Quote the cell, or let lines end in a newline."
    return (
        f"the row that begins here is not CSV: {error}. Put a cell that holds a quote in quotes, and write the "
        'quote twice: "so ""to say""".'
    )


# --- plain text ---


def _plain(file: IO[bytes], text_field: str) -> Iterator[Row | Bad]:
    """Texts separated by `<|endoftext|>` where the file has it, else by blank lines."""
    separated = _holds(file, SEPARATOR)
    file.seek(0)
    separator, margin = (SEPARATOR, " \r\n") if separated else (b"", "\r\n")
    line, column, last, part = 1, 0, 0, 1
    for piece in _separated(file) if separated else _paragraphs(file):
        text = _decode(piece, line, column)
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


def _parquet(source: Path | IO[bytes], name: str) -> Iterator[Row | Bad]:
    number = 0
    try:
        with pq.ParquetFile(source, buffer_size=CHUNK) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from parquet_rows(batch, range(number + 1, number + 1 + batch.num_rows))
                number += batch.num_rows
    except pa.ArrowException as error:
        raise not_parquet(name, error) from error


def not_parquet(name: str, error: Exception) -> CorpusError:
    """What to raise where Arrow cannot read a file."""
    return CorpusError(f"{name} is no Parquet file, or a damaged one: {error}")


def parquet_rows(batch: Any, numbers: Iterable[int]) -> Iterator[Row | Bad]:
    """The rows of a record batch, by their `numbers`."""
    for number, values in zip(numbers, _values(batch), strict=True):
        yield Bad(number, values) if isinstance(values, str) else Row(number, values)


def _values(batch: Any) -> Iterable[dict[str, Any] | str]:
    """The rows of a batch, or what is wrong with one; read one by one only where some value cannot be read."""
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
