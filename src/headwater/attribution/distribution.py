"""How influence is distributed over the corpus: the histogram in an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.answer import Distribution

BINS = 81
"""Odd, so that zero has a bin of its own in the middle."""


def distribution(scored: NDArray[Any], estimated: NDArray[Any] | None = None) -> Distribution | None:
    """The histogram of numbers scored exactly and of others estimated; None where there are none of either."""
    others = np.zeros(0) if estimated is None else estimated
    furthest = max((float(np.abs(part).max()) for part in (scored, others) if len(part)), default=None)
    if furthest is None or not np.isfinite(furthest):
        return None
    furthest = furthest or 1.0
    edges = np.linspace(-furthest, furthest, BINS + 1)
    counts = [np.histogram(np.clip(part, -furthest, furthest), edges)[0].tolist() for part in (scored, others)]
    return Distribution(edges.tolist(), *counts)
