"""The faces of results: a table from the name of a result's type to what shows it.

`headwater.base.shown` imports this module by name when a face is asked for, so results do not know their renderers.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from headwater.render.html import answer_html, fragment_html, token_map_cell, token_map_html
from headwater.render.ranking import render_ranking
from headwater.render.scatter import scatter_svg
from headwater.render.table import answer_csv, answer_table
from headwater.render.terminal import render_answer, render_example
from headwater.render.terminal_histogram import render_distribution
from headwater.render.terminal_map import render_token_map
from headwater.render.terminal_text import WIDTH
from headwater.render.verification import render_verification, verification_html

PLAIN_WIDTH = 100
"""Columns of plain text that is not printed to a terminal."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """What shows the results of one type; None where the type has no such face."""

    terminal: Callable[[Any], RenderableType]
    """What a rich console prints."""
    cell: Callable[[Any], str] | None = None
    """HTML for the cell of a notebook."""
    page: Callable[[Any], str] | None = None
    """A self-contained HTML page."""
    svg: Callable[[Any], str] | None = None
    """A picture."""
    table: Callable[[Any], Any] | None = None
    """A pyarrow Table."""
    csv: Callable[[Any], str] | None = None

    def text(self, result: Any) -> str:
        """What the terminal shows, as plain text."""
        return plain_text(self.terminal(result))


FACES: dict[str, Face] = {
    "Answer": Face(terminal=render_answer, cell=fragment_html, page=answer_html, table=answer_table, csv=answer_csv),
    "TokenMap": Face(terminal=render_token_map, cell=token_map_cell, page=token_map_html),
    "ScoredExample": Face(terminal=render_example),
    "Distribution": Face(terminal=render_distribution),
    "Ranking": Face(terminal=render_ranking),
    "Verification": Face(terminal=render_verification, cell=scatter_svg, page=verification_html, svg=scatter_svg),
}
"""By name, because showing an answer must not load what computes a ranking."""


def face_of(kind: type) -> Face:
    """The face of a type of result, or of the nearest base class that has one."""
    return next(FACES[base.__name__] for base in kind.__mro__ if base.__name__ in FACES)


def plain_text(shown: RenderableType) -> str:
    """What a console prints, without colour codes: as wide as the terminal, or PLAIN_WIDTH where there is none."""
    output = StringIO()
    console = Console(
        file=output, width=_width(), color_system=None, no_color=True, force_jupyter=False, legacy_windows=False
    )
    console.print(shown)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()).rstrip("\n")


def _width() -> int:
    if sys.stdout is None or not sys.stdout.isatty():  # pythonw has no standard output
        return PLAIN_WIDTH
    return min(shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, WIDTH)
