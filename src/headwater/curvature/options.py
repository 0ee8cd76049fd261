"""Options of fitting a curvature. Loads neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from headwater.base.byte_sizes import parse_bytes
from headwater.base.options import Option
from headwater.base.plugins import CURVATURES
from headwater.curvature.damping import parse_damping

Fisher = Literal["sampled", "empirical"]
"""Labels of the Fisher: sampled from the model, or those of the text."""
Layers = Annotated[
    tuple[str, ...] | None,
    Option(help="Glob of layer names, or all-linear; repeatable.", none="every MLP linear"),
]
FitExamples = Annotated[
    int | None,
    Option(help="Examples that the curvature is fitted on, a random choice.", none="all examples", minimum=1),
]
BlockWidth = Annotated[
    int | None,
    Option(
        help="Covariances wider than this become block-diagonal, with blocks of at most this width.",
        none="no blocks",
        minimum=1,
    ),
]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Which curvature is fitted, over which layers, from which examples."""

    panel: ClassVar = "Curvature"
    curvature: Annotated[
        str,
        Option(
            help="Approximation of the curvature: ekfac, kfac, diagonal, identity, exact, or one of a plugin.",
            choices=CURVATURES,
        ),
    ] = "ekfac"
    layers: Layers = None
    fit_examples: FitExamples = None
    fisher: Annotated[
        Fisher, Option(help="Labels of the Fisher: sampled from the model, or the text's own (empirical).")
    ] = "sampled"
    damping: Annotated[
        str | float | None,
        Option(
            help="Damping λ of later questions: an absolute value such as 1e-5, or a factor of each layer's mean "
            "eigenvalue such as 0.01*mean.",
            none="0.1*mean",
            valid=parse_damping,
        ),
    ] = None
    seed: Annotated[int, Option(help="Seed of the sampled labels and of the choice of examples.", minimum=0)] = 0
    memory: Annotated[
        int | None,
        Option(
            help="Memory that the fit may use in total, such as 16GiB; if all layers need more, it fits them in parts.",
            none="what is free",
            minimum=1,
            read=parse_bytes,
        ),
    ] = None
    block_width: BlockWidth = None
