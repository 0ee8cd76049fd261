"""Rows of JSON files: JSONL, one object on each line, and a list of objects."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any

from headwater.corpus.rows import CHUNK, Bad, Row, decode
from headwater.errors import CorpusError


def _integer(digits: str) -> int | str:
    """An integer, or its text if it has more digits than Python converts by default."""
    return int(digits) if len(digits) < 4000 else digits


_DECODER = json.JSONDecoder(parse_int=_integer)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""What the error handler surrogateescape makes of a byte that is not UTF-8."""


def _reason(error: json.JSONDecodeError) -> str:
    """The decoder's message, without the "at" that some messages end with."""
    return error.msg.removesuffix(" at")


def jsonl(lines: Iterable[bytes]) -> Iterator[Row | Bad]:
    """The rows of an open JSONL file, or of its lines."""
    stop = 0
    for number, raw in enumerate(lines, start=1):  # only \n ends a line: a text may contain other line separators
        start, stop = stop, stop + len(raw)
        row = json_line(number, raw, start)
        if row is not None:
            yield row


def json_line(number: int, raw: bytes, start: int) -> Row | Bad | None:
    """The row on one line of JSONL that begins after `start` bytes of the file. None if the line is blank."""
    line = decode(raw, number)
    if isinstance(line, Bad):
        return line
    if not line.strip():
        return None
    try:
        value = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        return Bad(number, f"not JSON: {_reason(error)} at column {error.colno}")
    except RecursionError:
        return Bad(number, "the JSON is nested too deeply")
    return _as_row(number, value, (start, start + len(raw)))


def _as_row(number: int, value: Any, span: tuple[int, int] | None = None) -> Row | Bad:
    if isinstance(value, dict):
        return Row(number, value, span=span)
    return Bad(number, 'not a JSON object: each example is written as {"text": "…"}')


def json_rows(file: IO[bytes], name: str) -> Iterator[Row | Bad]:
    """The rows of an open JSON file, in constant memory: a list of objects, or one object on each line.

    The first character decides. Raises CorpusError, which names the file, for any other content.
    """
    begun = file.read(CHUNK)
    content = begun.removeprefix(codecs.BOM_UTF8).lstrip()
    if not content:
        return
    first, newline, _ = content.partition(b"\n")
    if content.startswith(b"["):
        yield from _json_list(_JsonWindow(file, name, begun))
    elif content.startswith(b"{") and (not newline or first.rstrip().endswith(b"}")):
        yield from jsonl(_lines(begun, file))
    else:
        line = begun.count(b"\n", 0, len(begun) - len(content)) + 1
        raise CorpusError(
            f"{name}:{line}: a .json file must hold a list of objects, or one object on each line. "
            "If it is not part of the corpus, move it elsewhere."
        )


def _lines(begun: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file whose first bytes, `begun`, were read already."""
    *whole, rest = begun.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if last := rest + file.readline():
        yield last
    yield from file


def _json_list(window: _JsonWindow) -> Iterator[Row | Bad]:
    """The rows of a list of objects."""
    window.take()
    number, following = 0, window.peek()
    if following == "]":
        window.take()
    while following != "]":
        number += 1
        yield window.item(number)
        if (following := window.take()) not in (",", "]"):
            raise window.broken(f"a comma or ] is missing after item {number}")
    if window.peek():
        raise window.broken("something follows the end of the list")


class _JsonWindow:
    """The part of a long JSON text that is being decoded."""

    def __init__(self, file: IO[bytes], name: str, begun: bytes = b"") -> None:
        """`begun` are the first bytes of the file, which were read already."""
        self._file, self._name = file, name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text, self._at, self._lines_before = self._decoder.decode(begun), 0, 0

    @property
    def line(self) -> int:
        return self._lines_before + self._text.count("\n", 0, self._at) + 1

    def broken(self, what: str) -> CorpusError:
        return CorpusError(f"{self._name}:{self.line}: not JSON: {what}. Correct the file, or write it again.")

    def peek(self) -> str:
        """The next character that is not a space. Empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._read_on():
                return ""

    def take(self) -> str:
        """The next character that is not a space; reading continues after it."""
        character = self.peek()
        self._at += len(character)
        return character

    def item(self, number: int) -> Row | Bad:
        """The value that begins here. Raises CorpusError if it cannot be decoded."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._read_on():  # the value may go on in the next chunk
                    continue
                self._at = max(self._at, error.pos)
                raise self.broken(f"{_reason(error)}, in item {number}") from None
            except RecursionError:
                raise self.broken(f"item {number} is nested too deeply") from None
            if end == len(self._text) and self._read_on():  # the digits of a number may go on in the next chunk
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
        """Read the next chunk. Returns False at the end of the file."""
        self._lines_before = self.line - 1
        # Read at least as much as is not yet decoded, so a long item is not decoded from its start too often.
        raw = self._file.read(max(CHUNK, len(self._text) - self._at))
        self._text = self._text[self._at :] + self._decoder.decode(raw, final=not raw)
        self._at = 0
        return bool(raw)
