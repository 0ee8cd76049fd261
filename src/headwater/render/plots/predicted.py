"""Predicted against measured changes: one panel a verification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwater.errors import HeadwaterError
from headwater.render.comparison import verdict
from headwater.render.plots.sheet import LIGHT, QUIET, Picture, sheet
from headwater.render.scatter import NAMES, axis_limit
from headwater.render.visible import one_line, shorten
from headwater.verify.comparison import GROUPS, Comparison, ExampleGroup

MOST = 4
"""Verifications side by side."""
MARKS: dict[ExampleGroup, tuple[str, str, str]] = {
    "proponent": ("o", LIGHT.raises_ink, LIGHT.raises_ink),
    "opponent": ("s", LIGHT.lowers_ink, LIGHT.lowers_ink),
    "random": ("x", "none", QUIET),
}
"""Of each group: marker, fill and edge."""


@dataclass(frozen=True)
class Verified(Picture):
    """Verifications of one question, or of several."""

    comparisons: list[Comparison]

    @property
    def meaning(self) -> str:
        if len(self.comparisons) == 1:
            return verdict(self.comparisons[0])
        parts = [f"{_what(found)}: {_agreement(found)}" for found in self.comparisons]
        said = "; ".join(parts)
        return f"A mark on the dashed line came out as predicted. {said[:1].upper()}{said[1:]}."

    def _drawn(self) -> Any:
        count = len(self.comparisons)
        queries = {found.query.prompt + found.query.completion for found in self.comparisons}
        about = f": {shorten(one_line(queries.pop()), 80)}" if len(queries) == 1 else ""
        figure = sheet(
            f"Predicted and measured{about}",
            self.meaning,
            6.6 if count == 1 else 3.2 * count + 1.8,
            height=4.2 if count == 1 else 3.5,
        )
        every = figure.subplots(1, count, squeeze=False)[0]
        for axes, found in zip(every, self.comparisons, strict=True):
            _draw(axes, found)
            if count > 1:
                what = _what(found)
                axes.set_title(what[:1].upper() + what[1:])
        every[0].set_ylabel("measured change of log p, nats")
        handles = {label: mark for axes in every for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        every[-1].legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1.02, 1.02))
        return figure


def _draw(axes: Any, found: Comparison) -> None:
    limit = axis_limit(found.checks)
    axes.plot((-limit, limit), (-limit, limit), "--", color=QUIET, lw=1, label="as predicted")
    if found.slope is not None:
        end = min(limit, limit / abs(found.slope)) if found.slope else limit
        axes.plot((-end, end), (-end * found.slope, end * found.slope), color=LIGHT.ink, lw=1.1, label="slope, fitted")
    for group in GROUPS:
        marker, fill, edge = MARKS[group]
        checks = [c for c in found.checks if c.group == group and math.isfinite(c.predicted + c.measured)]
        for settled in (True, False):
            some = [check for check in checks if check.converged is settled]
            if some:
                label = NAMES[group] + ("" if settled else ", not settled")
                x, y = [check.predicted for check in some], [check.measured for check in some]
                axes.plot(x, y, marker, ms=6, mfc=fill if settled else "none", mec=edge, label=label, zorder=3)
        for check in checks:
            if check.deviation is not None:
                axes.errorbar(check.predicted, check.measured, check.deviation, ecolor=QUIET, elinewidth=0.9)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="predicted change of log p, nats")
    axes.grid()


def _what(found: Comparison) -> str:
    """What was done, in a few words."""
    if found.kind == "step":
        return "a small step"
    if found.kind == "retrain":
        return "training again"
    return "taken out whole" if found.weight == 1 else f"{found.weight:.0%} of it taken out"


def _agreement(found: Comparison) -> str:
    if found.slope is None or found.correlation is None:
        return "nothing to compare"
    return f"slope {found.slope:.2f}, correlation {found.correlation:.2f}".replace("-", "−")


def verified(comparisons: Sequence[Comparison]) -> Verified:
    """A panel each. Raises HeadwaterError for none, or more than fit side by side."""
    if not 1 <= len(comparisons) <= MOST:
        raise HeadwaterError(f"{len(comparisons)} verifications: from 1 to {MOST} stand side by side.")
    return Verified(list(comparisons))
