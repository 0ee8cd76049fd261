"""The distribution of an answer's numbers in the terminal: one character per bin."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.text import Text

from headwater.attribution.answer import Distribution
from headwater.base.shown import counted
from headwater.render.summary import signed

LEVELS = " ▁▂▃▄▅▆▇█"


def render_distribution(distribution: Distribution) -> RenderableType:
    """A histogram on a logarithmic scale, so that single examples at the ends show, above its axis."""
    counts = [a + b for a, b in zip(distribution.scored, distribution.estimated, strict=True)]
    full = math.log1p(max(counts, default=0)) or 1.0
    bars = "".join(LEVELS[math.ceil(math.log1p(count) / full * (len(LEVELS) - 1))] for count in counts)
    low, high = signed(distribution.edges[0]), signed(distribution.edges[-1])
    middle = max(1, (len(bars) - 1) // 2 - len(low))
    axis = f"{low}{'0':>{middle + 1}}{high:>{max(len(high) + 1, len(bars) - len(low) - middle - 1)}}"
    scored, estimated = sum(distribution.scored), sum(distribution.estimated)
    kinds = f"{counted(scored, 'example')} scored" + (f", {estimated:,} estimated" if estimated else "")
    note = f"{kinds}; the height is the logarithm of the count, at most {max(counts, default=0):,} in a bin"
    return Group(Text(bars, no_wrap=True), Text(axis, no_wrap=True), Text(note, style="dim"))
