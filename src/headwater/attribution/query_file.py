"""Reading queries from a JSONL file: `{"id", "prompt", "completion"}` per line, or "messages" instead of "prompt"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from headwater.errors import HeadwaterError


@dataclass(frozen=True, kw_only=True)
class QueryLine:
    """One line of a queries file."""

    id: str
    completion: str
    prompt: str | None = None
    span: str | None = None
    messages: list[dict[str, str]] | None = None
    """A conversation instead of a prompt."""

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages, not both or neither")


def read_queries(path: Path) -> list[QueryLine]:
    """All queries of a file. Raises HeadwaterError with the file and line of the first bad one."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwaterError(f"Cannot read the queries in {path}: {error}") from error
    found: list[QueryLine] = []
    adapter = TypeAdapter(QueryLine)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(adapter.validate_python(json.loads(line)))
        except json.JSONDecodeError as error:
            raise HeadwaterError(f"{path}:{number} is not JSON: {error.msg} at column {error.colno}.") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the line"
            raise HeadwaterError(
                f'{path}:{number}: {field}: {first["msg"]}. A query is {{"id": "q1", "prompt": "Once upon a", '
                '"completion": " time"}.'
            ) from error
    if not found:
        raise HeadwaterError(
            f'{path} contains no query. A query is a line such as {{"id": "q1", "prompt": "Once upon a", '
            '"completion": " time"}.'
        )
    return found
