"""Rows as the readers of all file formats give them, and the text of their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CHUNK = 1 << 20
"""Bytes that a reader takes from a file in one go."""


@dataclass(frozen=True)
class Row:
    """One row of a file with all its fields, not yet checked."""

    number: int
    """Where it begins, counted from 1: the line of JSONL, CSV and plain text, the row of a JSON list and Parquet."""
    values: dict[str, Any]
    part: int = 1
    """Number among the texts that begin on this line, counted from 1."""
    span: tuple[int, int] | None = None
    """First byte of the file that holds it and one past the last, for a format that is read by bytes: JSONL."""


@dataclass(frozen=True)
class Bad:
    """A part of a file that cannot be read as a row, and why."""

    number: int
    reason: str


def clean(text: str) -> str:
    """`text` with unpaired surrogates, which UTF-8 cannot encode, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode(raw: bytes, line: int, column: int = 0) -> str | Bad:
    """The text of `raw`, or where it is not UTF-8. `raw` begins after `column` bytes of `line`."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        newlines = raw.count(b"\n", 0, error.start)
        byte = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + (0 if newlines else column) + 1
        value = f"0x{raw[error.start]:02x}"
        return Bad(line + newlines, f"invalid UTF-8 ({value}) at byte {byte} of the line: save the file as UTF-8")
    return text.removeprefix("\ufeff") if (line, column) == (1, 0) else text
