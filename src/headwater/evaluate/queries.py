"""What methods are asked: completions after prompts, and, where it is known, the examples that teach them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from headwater.errors import HeadwaterError


@dataclass(frozen=True)
class EvalQuery:
    """One query, a line of a JSON Lines file; other fields of the line do not matter."""

    id: str
    prompt: str
    completion: str
    stories: tuple[str, ...] = ()
    """Ids of the training examples that state it, where these are known: what fact tracing should find."""


def read_evaluation_queries(path: Path) -> tuple[EvalQuery, ...]:
    """The queries of a file. Raises HeadwaterError naming the line that is none, or an id that comes twice."""
    one = TypeAdapter(EvalQuery)
    found: list[EvalQuery] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also split inside some strings
    except OSError as error:
        raise HeadwaterError(f"--queries {path}: it cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise HeadwaterError(f"--queries {path} is no text in UTF-8: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(one.validate_python(json.loads(line)))
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(f"{part}: " for part in first["loc"])
            raise HeadwaterError(f"{path}, line {number}: {place}{first['msg']}.") from error
        except json.JSONDecodeError as error:
            raise HeadwaterError(f"{path}, line {number} is no JSON: {error}.") from error
    ids = [query.id for query in found]
    if not found:
        raise HeadwaterError(f"{path} holds no query.")
    if twice := {id for id in ids if ids.count(id) > 1}:
        raise HeadwaterError(f"{path}: the id {min(twice)!r} comes twice.")
    return tuple(found)


def select_queries(queries: Sequence[EvalQuery], count: int) -> list[int]:
    """Positions of `count` of the queries: as many of each number of stories as there may be, the first of each."""
    by_times: dict[int, list[int]] = {}
    for position, query in enumerate(queries):
        by_times.setdefault(len(query.stories), []).append(position)
    columns = list(by_times.values())
    longest = max(map(len, columns))
    dealt = [column[row] for row in range(longest) for column in columns if row < len(column)]
    return sorted(dealt[:count])
