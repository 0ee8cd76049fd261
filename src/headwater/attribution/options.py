"""Options of `ask`, `rank` and `scan`, declared once. Loads neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from headwater.base.options import Option, check
from headwater.base.plugins import SOLVERS
from headwater.curvature.damping import parse_damping

RankBy = Literal["influence", "relative"]
Aggregate = Literal["mean", "max"]
"""How the scores of many queries are combined."""

Damping = Annotated[
    str | float | None,
    Option(
        help="Damping λ: an absolute value such as 1e-5, or a factor of each layer's mean eigenvalue such as 0.1*mean.",
        none="the damping given to fit",
        valid=parse_damping,
    ),
]
QueryRank = Annotated[
    int | None,
    Option(
        help="Rank that the query's gradient is reduced to in each layer: faster for wide layers, and 32 keeps nearly "
        "all of it.",
        none="full rank",
        minimum=1,
    ),
]


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """How a question is answered."""

    panel: ClassVar = "Answer"
    k: Annotated[
        int, Option(help="Examples shown at each end.", flags=("-k",), minimum=1, also=("top", "top_k", "n", "limit"))
    ] = 10
    rank_by: Annotated[
        RankBy, Option(help="Score to rank by; relative divides by the example's own norm √I(z, z).", also=("sort",))
    ] = "influence"
    where: Annotated[
        str | None, Option(help="SQL condition on the index's columns that examples must meet.", none="all examples")
    ] = None
    contains: Annotated[
        str | None, Option(help="Words, in this order, that an example's text must contain.", none="all examples")
    ] = None
    exact: Annotated[bool, Option(help="Score every example exactly, even if the run has an index.")] = False
    candidates: Annotated[
        int, Option(help="Maximum number of the index's candidates that are scored exactly.", minimum=1)
    ] = 256
    fold: Annotated[bool, Option(help="Show near-duplicates once, with a count.")] = True
    layers: Annotated[
        tuple[str, ...] | None,
        Option(help="Name or glob of layers whose influence counts; repeatable.", none="all tracked layers"),
    ] = None
    heads: Annotated[
        bool, Option(help="Also split the influence of attention layers by head; the run has to track some.")
    ] = False
    damping: Damping = None
    query_rank: QueryRank = None
    solver: Annotated[
        str,
        Option(
            help="Solver of (H + λI)⁻¹: the fitted curvature, or the slower but closer conjugate gradients (cg) on the "
            "true Gauss–Newton matrix.",
            choices=SOLVERS,
        ),
    ] = "curvature"
    iterations: Annotated[
        int | None, Option(help="Maximum solver iterations.", none="the solver's own maximum", minimum=1)
    ] = None
    subset: Annotated[
        int | None,
        Option(
            help="Examples in the solver's Gauss–Newton matrix, a random choice.",
            none="all examples",
            minimum=1,
            zero_is_none=True,
        ),
    ] = 1024
    seed: Annotated[int, Option(help="Seed of the solver's random choice of examples.", minimum=0)] = 0

    def check(self) -> None:
        """Raises HeadwaterError for a value of a wrong type or outside its limits, and for an unknown solver."""
        check(self)
        SOLVERS.load(self.solver)

    @property
    def selection(self) -> str | None:
        """The restriction in words, or None."""
        parts = [f"where {self.where}"] if self.where is not None else []
        parts += [f"containing “{self.contains}”"] if self.contains is not None else []
        return " and ".join(parts) or None


@dataclass(frozen=True)
class Sampling:
    """How the model continues a prompt: greedily, or at a temperature from a seed."""

    panel: ClassVar = "Continuation"
    max_new_tokens: Annotated[
        int, Option(help="Maximum tokens of a continuation that the model writes.", minimum=1)
    ] = 24
    temperature: Annotated[
        float, Option(help="Temperature of the continuation; 0 always takes the most probable token.", minimum=0)
    ] = 0.0
    seed: Annotated[int, Option(help="Seed of the sampled continuation.", minimum=0)] = 0


@dataclass(frozen=True, kw_only=True)
class RankOptions:
    """How training examples are ranked by what they did to queries."""

    aggregate: Annotated[
        Aggregate, Option(help="How the scores of the queries become one: their mean, or their maximum.")
    ] = "mean"
    rank_by: Annotated[
        RankBy,
        Option(help="Score to rank by; relative divides by the example's own norm √I(z, z), so long ones do not win."),
    ] = "influence"
    lowest: Annotated[bool, Option(help="Start with the lowest scores: examples to inspect or drop.")] = False
    damping: Damping = None
    query_rank: QueryRank = None


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """How a scan scores the corpus."""

    tokens: Annotated[bool, Option(help="Also write a column '<query id>.tokens' of per-token scores.")] = False
    damping: Damping = None
    query_rank: QueryRank = None
