"""The token × token map of one example as a picture, in strips one below another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.answer import TokenMap
from headwater.errors import HeadwaterError
from headwater.render.heat import FAINT
from headwater.render.palette import colour
from headwater.render.plots.sheet import LINE, QUIET, SMALL, TEXT, Picture, sheet
from headwater.render.summary import signed
from headwater.render.visible import one_line, shorten, token_name

STRIP = 32
"""Tokens of the example side by side."""
STRIPS = 8
"""Maximum number of strips; the strongest strips of a longer example are drawn."""
LONGEST = 16
"""Maximum number of letters of a token's name."""


@dataclass(frozen=True)
class Tokens(Picture):
    """A token × token map, drawn."""

    map: TokenMap

    @property
    def values(self) -> NDArray[np.float64]:
        """[Q, T]"""
        return np.array(self.map.values, np.float64)

    @property
    def meaning(self) -> str:
        sums, tokens = self.values.sum(axis=0), self.map.example_tokens
        place = int(np.abs(sums).argmax())
        words = (
            f"Columns are the example's tokens in reading order, rows the tokens of the completion. Blue raised it, "
            f"orange lowered it. All cells add up to the example's influence, {signed(float(sums.sum()))}. "
            f"Most of it, {signed(float(sums[place]))}, enters at “{_short_name(tokens[place])}”"
        )
        if place + 1 < len(tokens):
            words += f", before the next token “{_short_name(tokens[place + 1])}”"
        return words + "."

    @property
    def strips(self) -> list[range]:
        """The tokens of the example that are drawn, by strip: the strongest strips that have a shade, in order."""
        total = len(self.map.example_tokens)
        every = [range(start, min(start + STRIP, total)) for start in range(0, total, STRIP)]
        peaks = np.array([np.abs(self.values[:, strip]).max() for strip in every])
        shaded = np.flatnonzero(peaks >= FAINT * peaks.max())
        kept = shaded[np.argsort(-peaks[shaded], kind="stable")[:STRIPS]]
        return [every[n] for n in sorted(kept.tolist())]

    def _drawn(self) -> Any:
        strips, rows = self.strips, len(self.map.query_tokens)
        longest = max(len(_short_name(self.map.example_tokens[t])) for strip in strips for t in strip)
        high = 0.2 * (rows + 1) + 0.075 * longest + 0.28
        title = f"Which token of {shorten(one_line(self.map.example_id), 60)} pushed which token of the completion"
        shown = sum(map(len, strips))
        meaning = self.meaning
        if shown < len(self.map.example_tokens):
            meaning += f" Its other {len(self.map.example_tokens) - shown:,} tokens are fainter and not drawn."
        figure = sheet(title, meaning, 9.6, height=high * len(strips) + 0.45)
        every = np.atleast_1d(figure.subplots(len(strips), 1))
        for axes, strip in zip(every, strips, strict=True):
            self._draw_strip(axes, strip)
        every[-1].set_xlabel("tokens of the training example, in N × nats by shade", fontsize=TEXT)
        return figure

    def _draw_strip(self, axes: Any, strip: range) -> None:
        from matplotlib.patches import Rectangle

        values = self.values
        sums, rows = values.sum(axis=0), len(values)
        full, most = float(np.abs(values).max()) or 1.0, float(np.abs(sums).max()) or 1.0
        for x, t in enumerate(strip):
            axes.add_patch(Rectangle((x, 0), 1, 1, facecolor=colour(sums[t], most, "light"), edgecolor=QUIET, lw=0.5))
            for q in range(rows):
                fill = colour(values[q, t], full, "light")
                axes.add_patch(Rectangle((x, q + 1.25), 1, 1, facecolor=fill, edgecolor=LINE, lw=0.5))
        axes.set(xlim=(-0.04, STRIP + 0.04), ylim=(rows + 1.3, -0.04))
        names = [_short_name(self.map.example_tokens[t]) for t in strip]
        axes.set_xticks(np.arange(len(strip)) + 0.5, names, rotation=90, fontsize=SMALL)
        first = rows - self.map.contrast_tokens
        queried = [("− " if q >= first else "") + _short_name(token) for q, token in enumerate(self.map.query_tokens)]
        axes.set_yticks([0.5, *(np.arange(rows) + 1.75)], ["all of them", *queried], fontsize=SMALL)
        axes.tick_params(length=0, pad=2)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("bottom")
        axes.spines[:].set_visible(False)


def tokens(token_map: TokenMap) -> Tokens:
    """The map as a picture. Raises HeadwaterError where it has no cell."""
    if not token_map.query_tokens or not token_map.example_tokens:
        raise HeadwaterError("There is nothing to draw: the token map has no cell.")
    return Tokens(token_map)


def _short_name(token: str) -> str:
    return shorten(token_name(token), LONGEST)
