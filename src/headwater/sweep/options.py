"""Options of the workers of a Ray cluster, and of shards. Loads neither torch nor Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from headwater.base.options import Option

ShardExamples = Annotated[
    int | None,
    Option(
        help="Examples in a shard, the work that an interruption loses at most.",
        none="a sixteenth of the corpus, from 256 to 4,096",
        minimum=1,
    ),
]


@dataclass(frozen=True)
class Workers:
    """How many workers, and what each of them has of the cluster."""

    panel: ClassVar = "Engine"
    count: Annotated[
        int, Option(help="Number of Ray workers; each holds the model.", flags=("--workers",), minimum=1)
    ] = 2
    gpus: Annotated[float, Option(help="GPUs of each Ray worker.", flags=("--gpus-per-worker",), minimum=0)] = 0
    cpus: Annotated[
        int,
        Option(
            help="Cores and threads of each Ray worker: the same number gives the same bytes.",
            flags=("--cpus-per-worker",),
            minimum=1,
        ),
    ] = 1
