"""A token × token map in the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from headwater.attribution.answer import TokenMap
from headwater.render.heat import FAINT
from headwater.render.palette import Theme, share
from headwater.render.summary import signed
from headwater.render.terminal_text import BOLD, Ink, ink_of, legend
from headwater.render.theme import terminal_theme
from headwater.render.visible import one_line, token_name

CELL = 9
"""Columns of the screen for one training token and a space."""
ROW_HEAD = 14


def render_token_map(token_map: TokenMap) -> RenderableType:
    """The map as a grid: a row for every query token, a column for every training token that fits.

    Where they do not all fit, the strongest training tokens are shown, in the order of the text.
    """
    return _MapView(token_map, terminal_theme(os.environ))


def strongest_columns(token_map: TokenMap, count: int) -> list[int]:
    """The `count` training tokens with the largest influence on any query token, in the order of the text."""
    places = range(len(token_map.example_tokens))
    peaks = [max((abs(row[place]) for row in token_map.values), default=0.0) for place in places]
    return sorted(sorted(places, key=lambda place: -peaks[place])[:count])


@dataclass(frozen=True)
class _MapView:
    token_map: TokenMap
    theme: Theme

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        ink = ink_of(console, self.theme)
        shown = strongest_columns(self.token_map, max(1, (options.max_width - ROW_HEAD) // CELL - 1))
        yield self._title(len(shown))
        if ink.shades:
            yield legend(ink)
        yield Text()
        yield self._header(shown)
        for token, row in zip(self.token_map.query_tokens, self.token_map.values, strict=True):
            yield self._row(token, row, shown, ink=ink)

    def _title(self, count: int) -> Text:
        total = len(self.token_map.example_tokens)
        tokens = f"{total} training tokens" if count == total else f"the {count} strongest of {total} training tokens"
        which = one_line(self.token_map.example_id)
        return Text(f"Influence of {tokens} of {which} (columns) on the query's tokens (rows)")

    def _header(self, shown: list[int]) -> Text:
        names = [_padded(self.token_map.example_tokens[place], CELL - 1) for place in shown]
        return _line(Text(" " * ROW_HEAD), [Text(name, "dim") for name in [*names, "all".rjust(CELL - 1)]])

    def _row(self, token: str, row: list[float], shown: list[int], *, ink: Ink) -> Text:
        full = max((abs(value) for line in self.token_map.values for value in line), default=0.0)
        cells: list[Text] = []
        for value in (row[place] for place in shown):
            part = share(value, full)
            shaded = ink.shades and abs(part) >= FAINT
            cells.append(Text(signed(value).rjust(CELL - 1), ink.fill(part) if shaded else "dim" if ink.shades else ""))
        total = Text(signed(sum(row)).rjust(CELL - 1), ink.sign(sum(row)) + BOLD)
        return _line(Text(_padded(token, ROW_HEAD - 1).ljust(ROW_HEAD), "bold"), [*cells, total])


def _line(head: Text, cells: list[Text]) -> Text:
    line = Text(no_wrap=True, overflow="crop").append_text(head)
    for cell in cells:
        line.append_text(cell)
        line.append(" ")
    return line


def _padded(token: str, width: int) -> str:
    """The name of a token on exactly `width` columns of the screen."""
    name = token_name(token)
    return set_cell_size(name[: width - 1] + "…" if len(name) > width else name, width)
