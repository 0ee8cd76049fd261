"""How influence is distributed over the examples: its size against its rank, at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.render.plots.power_law import PLAUSIBLE, PowerLaw, fit_power_law
from headwater.render.plots.sheet import LIGHT, QUIET, SMALL, Picture, numbered, sheet
from headwater.render.visible import one_line, shorten

SHARE = 100
"""The share of the strongest 1/SHARE of the examples is reported."""
EVERY, DRAWN = 40, 60
"""The EVERY strongest examples are all drawn, and DRAWN of the others, evenly along the axis."""
DECADES = 4
"""Decades of size that are drawn, from the largest down."""


@dataclass(frozen=True)
class Tail(Picture):
    """The influences of all N examples on one query, by size."""

    subject: str
    """The question."""
    raised: NDArray[np.float64]
    """The positive influences, the largest first."""
    lowered: NDArray[np.float64]
    """The sizes of the negative influences, the largest first."""
    examples: int
    """N"""

    @property
    def top_percent(self) -> int:
        """Number of examples in the strongest 1%."""
        return max(1, self.examples // SHARE)

    @cached_property
    def law(self) -> PowerLaw | None:
        """The power law that fits the positive tail best; None where it has too few numbers."""
        return fit_power_law(self.raised)

    @property
    def meaning(self) -> str:
        if not len(self.raised):
            return f"None of the {self.examples:,} examples raised it."
        held = self.raised[: self.top_percent].sum() / self.raised.sum()
        one = "the strongest one holds" if self.top_percent == 1 else f"the strongest 1% ({self.top_percent:,}) hold"
        words = (
            f"Half of all positive influence comes from {fewest_for_half(self.raised):,} of {self.examples:,} "
            f"examples; {one} {held:.0%} of it."
        )
        if len(self.lowered):
            words += f" Half of all negative influence comes from {fewest_for_half(self.lowered):,}."
        return f"{words} {self._law_in_words()}"

    def _law_in_words(self) -> str:
        law = self.law
        if law is None:
            return "They are too few to test for a power law."
        if not law.plausible:
            if law.p >= PLAUSIBLE:
                return "The tail is too short to tell a power law from an exponential, so no exponent is given."
            return f"No power law fits the tail (p = {law.p:.2g}), so no exponent is given."
        return (
            f"The strongest {law.tail:,} fall about as rank^{law.slope:.2f}".replace("-", "−")
            + f": a power law is not ruled out (p = {law.p:.2g}), a thin tail is."
        )

    def _drawn(self) -> Any:
        figure = sheet(f"How heavy the tail is: {self.subject}", self.meaning)
        axes = figure.subplots()
        largest = max((float(part[0]) for part in (self.raised, self.lowered) if len(part)), default=1.0)
        ends = (
            (self.raised, "o", LIGHT.raises_ink, "raised the likelihood"),
            (self.lowered, "s", LIGHT.lowers_ink, "lowered it"),
        )
        for values, marker, colour, label in ends:
            ranks = drawn_ranks(len(values))
            axes.plot(
                ranks,
                values[ranks - 1],
                marker,
                ms=4,
                mfc="none" if marker == "s" else colour,
                mec=colour,
                mew=0.9,
                label=f"{label}: {len(values):,} examples",
            )
        self._draw_law(axes)
        self._mark(axes, self.top_percent, "1% of the examples", line=0)
        if len(self.raised):
            self._mark(axes, fewest_for_half(self.raised), "half of the positive influence", line=1)
        axes.set(xscale="log", yscale="log", xlim=(0.8, self.examples * 1.25))
        smallest = min((float(part[part > 0].min()) for part in (self.raised, self.lowered) if len(part)), default=0.1)
        axes.set_ylim(max(smallest / 1.5, largest / 10**DECADES), largest * 2)
        axes.set(xlabel="rank of the example, the strongest first", ylabel="size of its influence, N × nats")
        numbered(axes.xaxis)
        numbered(axes.yaxis)
        axes.grid()
        axes.legend(loc="lower left", frameon=True, framealpha=1, edgecolor=LIGHT.background)
        return figure

    @staticmethod
    def _mark(axes: Any, rank: int, words: str, *, line: int) -> None:
        """A line at a rank, with its words at the top, `line` lines down."""
        axes.axvline(rank, color=QUIET, lw=0.9, ls=":")
        axes.annotate(
            words,
            (rank, 1),
            (4, -2 - 12 * line),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=QUIET,
            va="top",
            fontsize=SMALL,
            bbox={"facecolor": LIGHT.background, "edgecolor": "none", "pad": 1},
        )

    def _draw_law(self, axes: Any) -> None:
        law = self.law
        if law is not None and law.plausible:
            ranks = np.array([1.0, law.tail])
            label = f"rank^{law.slope:.2f}, fitted".replace("-", "−")
            axes.plot(ranks, law.start * (ranks / law.tail) ** law.slope, color=LIGHT.ink, lw=1.2, label=label)


def tail(scores: Sequence[float] | NDArray[Any], subject: str = "one query") -> Tail:
    """The tail of the scores [N] of a whole corpus on one query. Raises HeadwaterError for infinite or NaN scores."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise HeadwaterError("There is nothing to draw: there are no scores, or some of them are infinite or NaN.")
    raised, lowered = np.sort(values[values > 0])[::-1], np.sort(-values[values < 0])[::-1]
    return Tail(shorten(one_line(subject), 90), raised, lowered, len(values))


def fewest_for_half(falling: NDArray[Any]) -> int:
    """The smallest number of the largest values that add up to half of the sum of `falling`."""
    return int(np.searchsorted(np.cumsum(falling), falling.sum() / 2)) + 1


def drawn_ranks(count: int) -> NDArray[np.int64]:
    """The ranks from 1 to `count` that are drawn: all of the first, the others evenly on a logarithmic axis."""
    if count <= EVERY + DRAWN:
        return np.arange(1, count + 1)
    others = np.geomspace(EVERY, count, DRAWN, dtype=np.float64).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(1, EVERY + 1), np.minimum(others, count)]))
