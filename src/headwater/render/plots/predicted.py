"""Predicted against measured changes: one panel a verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwater.errors import HeadwaterError
from headwater.render.plots.sheet import LIGHT, QUIET, Picture, sheet
from headwater.render.scatter_parts import GROUP_NAMES, IDENTITY, MARKS, X_TITLE, Y_TITLE, axis_limit, drawable
from headwater.render.verification import verdict
from headwater.render.visible import one_line, shorten
from headwater.verify.verification import GROUPS, Verification

MOST_PANELS = 4
"""Maximum number of verifications side by side."""
SHAPES = {"circle": "o", "square": "s", "cross": "x"}
"""matplotlib's name of each shape of a mark."""
INKS = {"raises": LIGHT.raises_ink, "lowers": LIGHT.lowers_ink, "quiet": QUIET}


@dataclass(frozen=True)
class Verified(Picture):
    """Verifications of one question, or of several."""

    verifications: list[Verification]

    @property
    def meaning(self) -> str:
        if len(self.verifications) == 1:
            return verdict(self.verifications[0])
        parts = [f"{_what(found)}: {_agreement(found)}" for found in self.verifications]
        said = "; ".join(parts)
        return f"On the dashed line, the measured change is as predicted. {said[:1].upper()}{said[1:]}."

    def _drawn(self) -> Any:
        count = len(self.verifications)
        queries = {found.query.prompt + found.query.completion for found in self.verifications}
        about = f": {shorten(one_line(queries.pop()), 80)}" if len(queries) == 1 else ""
        figure = sheet(
            f"Predicted and measured{about}",
            self.meaning,
            6.6 if count == 1 else 3.2 * count + 1.8,
            height=4.2 if count == 1 else 3.5,
        )
        every = figure.subplots(1, count, squeeze=False)[0]
        for axes, found in zip(every, self.verifications, strict=True):
            _draw(axes, found)
            if count > 1:
                what = _what(found)
                axes.set_title(what[:1].upper() + what[1:])
        every[0].set_ylabel(Y_TITLE)
        handles = {label: mark for axes in every for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        every[-1].legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1.02, 1.02))
        return figure


def _draw(axes: Any, found: Verification) -> None:
    limit = axis_limit(found.checks)
    axes.plot((-limit, limit), (-limit, limit), "--", color=QUIET, lw=1, label=IDENTITY)
    if found.slope is not None:
        end = min(limit, limit / abs(found.slope)) if found.slope else limit
        axes.plot((-end, end), (-end * found.slope, end * found.slope), color=LIGHT.ink, lw=1.1, label="slope, fitted")
    for group in GROUPS:
        shape, ink = SHAPES[MARKS[group].shape], INKS[MARKS[group].ink]
        checks = [check for check in drawable(found.checks) if check.group == group]
        for converged in (True, False):
            some = [check for check in checks if check.converged is converged]
            if some:
                label = GROUP_NAMES[group] + ("" if converged else ", not converged")
                x, y = [check.predicted for check in some], [check.measured for check in some]
                fill = ink if converged and shape != "x" else "none"
                axes.plot(x, y, shape, ms=6, mfc=fill, mec=ink, label=label, zorder=3)
        for check in checks:
            if check.deviation is not None:
                axes.errorbar(check.predicted, check.measured, check.deviation, ecolor=QUIET, elinewidth=0.9)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel=X_TITLE)
    axes.grid()


def _what(found: Verification) -> str:
    """What was done, in a few words."""
    if found.kind == "step":
        return "a small step"
    if found.kind == "retrain":
        return "training again"
    return "removal of the example" if found.weight == 1 else f"removal of {found.weight:.0%} of the example"


def _agreement(found: Verification) -> str:
    if found.slope is None or found.correlation is None:
        return "nothing to compare"
    return f"slope {found.slope:.2f}, correlation {found.correlation:.2f}".replace("-", "−")


def verified(verifications: Sequence[Verification]) -> Verified:
    """One panel per verification. Raises HeadwaterError for none, or for more than fit side by side."""
    if not 1 <= len(verifications) <= MOST_PANELS:
        raise HeadwaterError(f"{len(verifications)} verifications: from 1 to {MOST_PANELS} stand side by side.")
    return Verified(list(verifications))
