"""The interface of solvers of (H + λI) x = ∇L(q), where H is the true Gauss–Newton matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from headwater.base.plugins import SOLVERS
from headwater.base.progress import Report, silent
from headwater.curvature.base import Curvature
from headwater.curvature.solvers.gauss_newton import gauss_newton_product
from headwater.gradients.factored import Gradients
from headwater.sweep.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class LinearProblem:
    """(H + λI) x = ∇L(q) for Q questions together."""

    curvature: Curvature
    """It gives λ, and approximates H."""
    sweep: Sweep
    """H is the mean over its sequences."""
    gradients: Gradients
    """∇L(q) {layer: [Q, O, I]}"""
    report: Report = silent
    seed: int = 0
    """Seed of solvers that draw random examples."""

    @property
    def examples(self) -> int:
        """The number of sequences that H is the mean of."""
        return len(self.sweep.sequences)

    def product(self, vectors: Gradients, among: Sequence[int] | None = None) -> Gradients:
        """(H + λI) v for vectors {layer: [Q, O, I]}, with H over all examples, or over those with indices `among`."""
        sweep = self.sweep
        if among is not None:
            sweep = replace(sweep, sequences=[sweep.sequences[place] for place in among])
        return damped_product(self.curvature, sweep, vectors)


@dataclass(frozen=True)
class Solver:
    """One way to solve a LinearProblem."""

    solve: Callable[..., Gradients]
    """Takes a LinearProblem, and each option by its name. Returns x {layer: [Q, O, I]}."""
    options: Mapping[str, int]
    """Options, which are whole numbers, with their defaults. `ask --iterations` sets the one called `iterations`."""


def solver_of(name: str) -> Solver:
    """The solver with this name. Raises HeadwaterError if there is none (see plugins.Group.load)."""
    return SOLVERS.load(name)


def damped_product(curvature: Curvature, sweep: Sweep, vectors: Gradients) -> Gradients:
    """(H + λI) v, with the true Gauss–Newton matrix H over the sequences of `sweep`, and the λ of each layer."""
    product = gauss_newton_product(sweep, vectors)
    return {name: part + curvature.damping_of(name) * vectors[name] for name, part in product.items()}


def _precondition(problem: LinearProblem) -> Gradients:
    return problem.curvature.precondition(problem.gradients)


CURVATURE = Solver(_precondition, {})
"""The fitted curvature in place of H."""
