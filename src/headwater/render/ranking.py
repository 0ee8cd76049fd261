"""The first examples of a ranking as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from headwater.render.visible import one_line, shorten

if TYPE_CHECKING:
    from headwater.attribution.ranking import Ranking

SHOWN = 10
"""Examples that are shown by default."""
TEXT = 200
"""Characters of an example's text; the width of the terminal cuts it further."""


def render_ranking(ranking: Ranking, show: int = SHOWN) -> Table:
    """Rank, score, id and text of the first `show` examples."""
    table = Table("rank", "score", "id", "text", box=None, header_style="dim", pad_edge=False)
    for place, (score, example) in enumerate(ranking.top(show), start=1):
        text = Text(one_line(shorten(example.text, TEXT)), no_wrap=True, overflow="ellipsis")
        table.add_row(str(place), f"{score:.3g}", Text(one_line(example.id)), text)
    return table
