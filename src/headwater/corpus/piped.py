"""Texts from standard input, whose first bytes show their format."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import BufferedReader
from typing import IO, Any

from headwater.corpus.compression import check_content, compression_of, decompressed
from headwater.corpus.formats import parquet, plain_text
from headwater.corpus.json_rows import json_rows, jsonl
from headwater.corpus.rows import CHUNK, Bad, Row
from headwater.errors import CorpusError

PIPE = "-"
"""Stands for standard input where a file is given."""
NAME = "stdin"
"""In the places and ids of its rows."""


def is_piped(source: object) -> bool:
    """Whether a source is standard input."""
    return isinstance(source, str) and source == PIPE


def piped_rows(text_field: str, note: Callable[[str], None]) -> Iterator[Row | Bad]:
    """The rows of standard input: JSON lines, a JSON list, Parquet, or else plain text; also compressed.

    JSON is read in constant memory and while it arrives. Parquet and plain text are copied to a temporary file first.
    `note` is told the format. Raises CorpusError for a terminal and for damage, as a file does.
    """
    if sys.stdin.isatty():
        raise CorpusError("Standard input is a terminal. Send texts to it: headwater fit … --corpus - < stories.jsonl")
    piped = sys.stdin.buffer
    if not isinstance(piped, BufferedReader):
        piped = BufferedReader(piped, CHUNK)  # pyright: ignore[reportArgumentType]
    try:
        packed = compression_of(piped.peek(16))
        file = piped if packed is None else decompressed(piped, packed)
        compressed = "" if packed is None else f", compressed ({packed})"
        yield from _rows(file, text_field, lambda kind: note(f"Standard input is read as {kind}{compressed}."))
    except (OSError, EOFError) as error:
        raise CorpusError(f"Standard input cannot be read: {error}.") from error


def _rows(file: BufferedReader, text_field: str, told: Callable[[str], None]) -> Iterator[Row | Bad]:
    head = file.peek(64)
    content = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PAR1"):
        told("Parquet")
        with _spooled(file) as spooled:
            yield from parquet(spooled, NAME)
        return
    check_content(head, "Standard input")
    if content.startswith(b"{"):
        told("JSON, one object on each line")
        yield from jsonl(file)
    elif content.startswith(b"["):
        told("a JSON list")
        yield from json_rows(file, NAME)
    else:
        told("plain text (give CSV and other formats as a file)")
        with _spooled(file) as spooled:
            yield from plain_text(spooled, text_field, again=lambda: _again(spooled))


def _spooled(file: BufferedReader) -> Any:
    """A temporary file with the rest of an open file."""
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(file, spooled, CHUNK)
    spooled.seek(0)
    return spooled


def _again(file: IO[bytes]) -> nullcontext[IO[bytes]]:
    file.seek(0)
    return nullcontext(file)
