"""Options of plans measured on this machine, and of estimates for a model and corpus elsewhere. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from headwater.attribution.index.options import DEFAULT_BYTES, Directions, SketchBytes
from headwater.base.byte_sizes import parse_bytes
from headwater.base.options import Option
from headwater.curvature.options import BlockWidth, FitExamples, FitOptions, Layers
from headwater.lm.options import Dtype


@dataclass(frozen=True)
class PlanOptions:
    """Settings of a plan."""

    fit: FitOptions = FitOptions()
    bytes: SketchBytes = None
    queries: Annotated[int, Option(help="Queries of the scan.", minimum=1)] = 8
    directions: Directions = None


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """The size of the work, and the machines that do it."""

    examples: Annotated[int, Option(help="Examples in the corpus.", minimum=1)]
    tokens: Annotated[int, Option(help="Tokens per example.", minimum=1)]
    fit_examples: FitExamples = None
    layers: Layers = None
    dtype: Annotated[Dtype, Option(help="Type that the model would run in.")] = "bf16"
    block_width: BlockWidth = None
    bytes: Annotated[int, Option(help="Bytes of sketch per example.", minimum=64)] = DEFAULT_BYTES
    directions: Annotated[int, Option(help="Eigenvectors kept on each side of a layer; 0 keeps all.", minimum=0)] = 0
    workers: Annotated[int, Option(help="GPUs, or processes, that share the work.", minimum=1)] = 1
    memory: Annotated[
        int | None,
        Option(help="Memory of each worker, such as 80GB.", none="no limit", minimum=1, read=parse_bytes),
    ] = None
    rate: Annotated[
        float,
        Option(
            help="Multiplications per second that each worker reaches in matrix products.",
            unit=1e12,
        ),
    ] = 100e12
