"""The histogram of influence over the corpus that an answer contains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.answer import Distribution

BINS = 81
"""Number of bins. It is odd, so that zero is in the middle of a bin."""


def distribution(scored: NDArray[Any], estimated: NDArray[Any] | None = None) -> Distribution | None:
    """The histogram of exact scores and of estimates of other examples; None if there are no finite numbers."""
    others = np.zeros(0) if estimated is None else estimated
    furthest = max((float(np.abs(part).max()) for part in (scored, others) if len(part)), default=None)
    if furthest is None or not np.isfinite(furthest):
        return None
    furthest = furthest or 1.0
    edges = np.linspace(-furthest, furthest, BINS + 1)
    counts = [np.histogram(np.clip(part, -furthest, furthest), edges)[0].tolist() for part in (scored, others)]
    return Distribution(edges.tolist(), *counts)
