"""What the template of a token map draws: a heat table with its sums."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.attribution.answer import TokenInfluence, TokenMap
from headwater.render.heat import FAINT, Piece, shade
from headwater.render.palette import share
from headwater.render.visible import token_name


@dataclass(frozen=True)
class Cell:
    """The influence of one training token on one query token."""

    influence: float
    share: float
    """Of the strongest cell, from −1 to 1."""
    title: str
    """Empty for a cell that is too faint to be shaded, to keep the page of a long text small."""


@dataclass(frozen=True)
class QueryRow:
    """All cells of one query token."""

    token: str
    total: float
    cells: list[Cell]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A token map ready to be drawn."""

    example_id: str
    text: list[Piece]
    """The training text, shaded by the sum of every column."""
    columns: list[str]
    rows: list[QueryRow]
    total: float


def grid(token_map: TokenMap) -> Grid:
    """Shade every cell on the scale of the strongest one."""
    full = max((abs(value) for row in token_map.values for value in row), default=0.0)
    columns = [token_name(token) for token in token_map.example_tokens]
    rows: list[QueryRow] = []
    for token, values in zip(token_map.query_tokens, token_map.values, strict=True):
        cells = [
            _cell(value, full, f"{token_name(token)} ← {column}") for value, column in zip(values, columns, strict=True)
        ]
        rows.append(QueryRow(token_name(token), sum(values), cells))
    sums = [sum(column) for column in zip(*token_map.values, strict=True)]
    tokens = [TokenInfluence(*pair) for pair in zip(token_map.example_tokens, sums, strict=False)]
    return Grid(example_id=token_map.example_id, text=shade(tokens), columns=columns, rows=rows, total=sum(sums))


def _cell(value: float, full: float, title: str) -> Cell:
    part = share(value, full)
    return Cell(value, part, title) if abs(part) >= FAINT else Cell(value, 0.0, "")
