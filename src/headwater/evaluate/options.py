"""Options of evaluating methods of attribution. Loads neither torch nor numpy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from headwater.base.options import Option
from headwater.base.plugins import METRICS


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is measured, and on how much."""

    metrics: Annotated[
        tuple[str, ...],
        Option(
            help=f"Metric to measure; repeatable: {', '.join(METRICS.builtin)}, or one of a plugin. "
            "Default: lds, trace.",
            flags=("--metric",),
            choices=METRICS,
        ),
    ] = ("lds", "trace")
    subsets: Annotated[int, Option(help="lds: random halves of the corpus that models are trained on.")] = 64
    seeds: Annotated[int, Option(help="lds: trainings on each half.", minimum=1)] = 1
    removed: Annotated[int, Option(help="qld, brittleness: queries for which examples are removed.", minimum=1)] = 9
    jobs: Annotated[
        int,
        Option(
            help="Trainings at the same time.",
            minimum=1,
            cli_default=os.cpu_count() or 1,
            shown="one per core",
        ),
    ] = 1
