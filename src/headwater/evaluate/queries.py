"""Reads the queries of an evaluation: prompts, completions, and the examples known to state them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from headwater.corpus.lines import read_lines
from headwater.errors import HeadwaterError


@dataclass(frozen=True)
class EvalQuery:
    """One query, a line of a JSON Lines file. Other fields of the line are ignored."""

    id: str
    prompt: str
    completion: str
    stories: tuple[str, ...] = ()
    """Ids of the training examples that state it, if known: the ground truth of fact tracing."""


def read_evaluation_queries(path: Path) -> tuple[EvalQuery, ...]:
    """The queries of a file. Raises HeadwaterError, which names the place, for an invalid line or a repeated id."""
    one = TypeAdapter(EvalQuery)
    found: list[EvalQuery] = []
    for number, line in enumerate(read_lines(path, "the queries (--queries)"), start=1):
        if not line.strip():
            continue
        try:
            found.append(one.validate_python(json.loads(line)))
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(f"{part}: " for part in first["loc"])
            raise HeadwaterError(f"{path}, line {number}: {place}{first['msg']}.") from error
        except json.JSONDecodeError as error:
            raise HeadwaterError(f"{path}, line {number} is not JSON: {error}.") from error
    ids = [query.id for query in found]
    if not found:
        raise HeadwaterError(f"{path} has no query.")
    if repeated := {id for id in ids if ids.count(id) > 1}:
        raise HeadwaterError(f"{path}: the id {min(repeated)!r} occurs twice.")
    return tuple(found)


def select_queries(queries: Sequence[EvalQuery], count: int) -> list[int]:
    """Positions of `count` queries, balanced over the number of stories that state them, the first of each number."""
    by_stories: dict[int, list[int]] = {}
    for position, query in enumerate(queries):
        by_stories.setdefault(len(query.stories), []).append(position)
    columns = list(by_stories.values())
    longest = max(map(len, columns))
    balanced = [column[row] for row in range(longest) for column in columns if row < len(column)]
    return sorted(balanced[:count])
