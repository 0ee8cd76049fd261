"""How a question is asked and answered. Loads neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headwater.base.plugins import SOLVERS
from headwater.errors import HeadwaterError

RankBy = Literal["influence", "relative"]
Aggregate = Literal["mean", "max"]
"""How scores of many queries become one."""


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """How a question is answered."""

    k: int = 10
    """Examples shown at each end."""
    rank_by: RankBy = "influence"
    """`relative` divides by the example's own norm √I(z, z), so that loud examples do not always win."""
    damping: str | float | None = None
    """λ (see parse_damping); None is what was given to `fit`."""
    exact: bool = False
    """Score every example, even where there is an index."""
    candidates: int = 256
    """Maximum number of examples found by the index that are scored exactly."""
    where: str | None = None
    """SQL condition on the index's columns: only examples that meet it."""
    contains: str | None = None
    """Only examples whose text contains these words."""
    fold: bool = True
    """Show near-duplicates once, with a count."""
    query_rank: int | None = None
    """Rank that the query's gradient is reduced to in every layer; None keeps it whole."""
    layers: tuple[str, ...] | None = None
    """Globs of the layers whose part of the influence counts; None is all that are tracked."""
    solver: str = "curvature"
    """What stands for (H + λI)⁻¹: the fitted curvature, or a solver on the true Gauss–Newton matrix, such as conjugate
    gradients, `cg` (see plugins.SOLVERS)."""
    iterations: int | None = None
    """Maximum solver iterations; None is the solver's own maximum."""
    subset: int | None = 1024
    """Examples that the Gauss–Newton matrix is taken over, a seeded random choice; None is all of them."""

    def check(self) -> None:
        """Raises HeadwaterError for numbers that ask for nothing, and for an unknown solver."""
        SOLVERS.load(self.solver)
        if self.k < 1:
            raise HeadwaterError(f"k is {self.k}: ask for at least one example.")
        if self.candidates < 1:
            raise HeadwaterError(f"--candidates {self.candidates}: score at least one example.")
        if self.subset is not None and self.subset < 1:
            raise HeadwaterError(f"--subset {self.subset}: a solver needs at least one example.")

    @property
    def selection(self) -> str | None:
        """The restriction in words, or None."""
        parts = [f"where {self.where}"] if self.where is not None else []
        parts += [f"containing “{self.contains}”"] if self.contains is not None else []
        return " and ".join(parts) or None


@dataclass(frozen=True)
class Sampling:
    """How the model continues a prompt: greedily, or at a temperature from a seed."""

    max_new_tokens: int = 24
    temperature: float = 0.0
    seed: int = 0
