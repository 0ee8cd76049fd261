"""Solvers of (H + λI) x = ∇L(q), H the true Gauss–Newton matrix, behind one interface."""

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
    """What is to be solved, for Q questions at once."""

    curvature: Curvature
    """Whose λ it is, and which approximates H."""
    sweep: Sweep
    """Whose sequences H is taken over."""
    gradients: Gradients
    """∇L(q) {layer: [Q, O, I]}"""
    report: Report = silent
    seed: int = 0
    """Of a solver that draws examples at random."""

    @property
    def examples(self) -> int:
        """How many sequences H is taken over."""
        return len(self.sweep.sequences)

    def product(self, vectors: Gradients, among: Sequence[int] | None = None) -> Gradients:
        """(H + λI) v for vectors {layer: [Q, O, I]}, with H over all examples, or over those at the places `among`."""
        sweep = self.sweep
        if among is not None:
            sweep = replace(sweep, sequences=[sweep.sequences[place] for place in among])
        return damped_product(self.curvature, sweep, vectors)


@dataclass(frozen=True)
class Solver:
    """One way to solve it."""

    solve: Callable[..., Gradients]
    """Of a LinearProblem, and of every option by its name: x {layer: [Q, O, I]}."""
    options: Mapping[str, int]
    """Whole numbers that can be set, with their defaults. What is called `iterations` is set by `ask --iterations`."""


def solver_of(name: str) -> Solver:
    """The solver of that name. Raises HeadwaterError where there is none (see plugins.Group.load)."""
    return SOLVERS.load(name)


def damped_product(curvature: Curvature, sweep: Sweep, vectors: Gradients) -> Gradients:
    """(H + λI) v, H the true Gauss–Newton matrix over the sequences of `sweep`, λ the curvature's, layer by layer."""
    product = gauss_newton_product(sweep, vectors)
    return {name: part + curvature.damping_of(name) * vectors[name] for name, part in product.items()}


def _by_the_curvature(problem: LinearProblem) -> Gradients:
    return problem.curvature.precondition(problem.gradients)


CURVATURE = Solver(_by_the_curvature, {})
"""The fitted curvature itself, in place of H."""
