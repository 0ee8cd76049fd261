"""What every scatter plot of predicted against measured changes shares: axes, names, marks and the words of a check.

`scatter.py` draws it as an SVG without a library, `plots/predicted.py` by matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headwater.render.summary import signed
from headwater.verify.verification import Check, ExampleGroup

X_TITLE = "predicted change of log p, nats"
Y_TITLE = "measured change of log p, nats"
IDENTITY = "as predicted"
"""Name of the line on which a change is as predicted."""
GROUP_NAMES: dict[ExampleGroup, str] = {"proponent": "raised it", "opponent": "lowered it", "random": "random"}
STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15)
"""Ends of axes, over a power of ten."""


@dataclass(frozen=True)
class Mark:
    """How the examples of one group are drawn."""

    shape: Literal["circle", "square", "cross"]
    ink: Literal["raises", "lowers", "quiet"]


MARKS: dict[ExampleGroup, Mark] = {
    "proponent": Mark("circle", "raises"),
    "opponent": Mark("square", "lowers"),
    "random": Mark("cross", "quiet"),
}


def drawable(checks: Sequence[Check]) -> list[Check]:
    """The checks of which both changes are finite."""
    return [check for check in checks if math.isfinite(check.predicted) and math.isfinite(check.measured)]


def axis_limit(checks: Sequence[Check]) -> float:
    """Where both axes end: a round number that every finite change lies within."""
    changes = [abs(change) for check in checks for change in (check.predicted, check.measured) if math.isfinite(change)]
    largest = max(changes, default=0.0)
    if largest <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(largest))
    return next(step * unit for step in STEPS if step * unit >= largest * 1.02)


def numbers(check: Check) -> str:
    """ "predicted −0.81, measured −0.64", with the spread over seeds and a note where the response was not found."""
    found = "" if check.converged else f", not converged ({check.remaining:.0%} of the way left)"
    chance = "" if check.deviation is None else f" ± {check.deviation:.2g}"
    return f"predicted {signed(check.predicted)}, measured {signed(check.measured)}{chance}{found}"
