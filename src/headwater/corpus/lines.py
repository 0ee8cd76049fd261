"""Lines of small text files that people write, such as queries and lists of ids; `-` is standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from headwater.corpus.compression import check_content
from headwater.corpus.piped import PIPE
from headwater.corpus.rows import Bad, decode
from headwater.errors import CorpusError, HeadwaterError


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a file in UTF-8, without a byte order mark. Only a newline ends a line.

    Raises HeadwaterError, which names the file as `what` and the line, if it cannot be read or is of another encoding.
    """
    try:
        content = sys.stdin.buffer.read() if str(path) == PIPE else path.read_bytes()
    except OSError as error:
        raise HeadwaterError(f"Cannot read {what} in {path}: {error.strerror or error}.") from error
    name = "standard input" if str(path) == PIPE else str(path)
    try:
        check_content(content[:64], name)
    except CorpusError as error:
        raise HeadwaterError(f"Cannot read {what}: {error}") from None
    lines: list[str] = []
    for number, raw in enumerate(content.split(b"\n"), start=1):
        line = decode(raw, number)
        if isinstance(line, Bad):
            raise HeadwaterError(f"{name}:{number}: {line.reason}.")
        lines.append(line.removesuffix("\r"))
    return lines
