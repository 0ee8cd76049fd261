"""How large a predicted change of log p may be before a linear prediction cannot give its size.

A change of the logits by δ changes the log-probability of a token of probability p by about (1 − p) δ, as long as δ
is small. So predictions above a part of Σ (1 − p) over the explained tokens are out of reach: a token that is almost
certain has hardly anything to lose to first order, and one that is unlikely loses δ itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from headwater.attribution.answer import Query

LINEAR = 0.3
"""Of Σ (1 − p). Of 21 predictions below it, 20 had the sign of the measured response and none was exceeded by it more
than 1.5-fold; of 37 above it, 25 had the sign and 6 were exceeded. Below it the median of measured over predicted is
0.34, above it 0.13 (docs/benchmarks.md, `python -m benchmarks.linearity`)."""


def linear_reach(queries: Iterable[Query]) -> float:
    """The largest change of log p, in nats, whose size a linear prediction can give for these completions together."""
    return LINEAR * sum(
        1 - math.exp(-(token.loss or 0.0)) for query in queries for token in query.tokens if token.selected
    )
