"""Options of a scan over the checkpoints of a training. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from headwater.attribution.options import Damping, QueryRank
from headwater.base.options import Option

CheckpointMethod = Literal["tracin", "adam", "ekfac", "source"]
"""How the checkpoints of a training are summed."""


@dataclass(frozen=True, kw_only=True)
class CheckpointScanOptions:
    """How a scan of the checkpoints of a training scores the corpus."""

    method: Annotated[
        CheckpointMethod,
        Option(
            help="How checkpoints are added up: gradient products by learning rate (tracin), along Adam's steps "
            "(adam), by each checkpoint's own EK-FAC (ekfac), or as unrolled training (source)."
        ),
    ] = "tracin"
    damping: Damping = None
    query_rank: QueryRank = None
