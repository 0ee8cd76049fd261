"""Conjugate gradients on the damped Gauss–Newton matrix, preconditioned by a fitted curvature.

EK-FAC takes layers for independent, and the Fisher of each for diagonal in a Kronecker-factored basis; neither is so.
As a preconditioner it only sets out the way, and the solution is that of the true (H + λI) x = ∇L(q).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headwater.base.progress import Report, Step
from headwater.curvature.solvers.solver import LinearProblem, Solver
from headwater.curvature.solvers.vectors import dots, plus, times
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients

TOLERANCE = 1e-3
"""Of the residual, relative to the gradient, at which a question is solved well enough."""


@dataclass(frozen=True)
class Solution:
    """The preconditioned gradients R_q, and how well each solves its equation."""

    gradients: Gradients
    residuals: list[list[float]]
    """For every iteration, the first one before any, ‖∇L(q) − (H + λI) R_q‖ / ‖∇L(q)‖ of every question."""


def solve(problem: LinearProblem, iterations: int) -> Solution:
    """(H + λI)⁻¹ applied to the gradients of `problem`.

    The first iteration gives the curvature's own answer at its best length: beginning with that answer as it is would
    spend a product on its residual, to search a smaller space. An iteration costs a product with H for every question.
    Raises HeadwaterError where λ is zero or iterations are fewer than one.
    """
    if iterations < 1:
        raise HeadwaterError(f"--iterations {iterations}: conjugate gradients need at least one.")
    curvature = problem.curvature
    if min(curvature.damping_of(layer.name) for layer in curvature.layers) <= 0:
        raise HeadwaterError("The cg solver needs a damping above zero, and a fitted curvature to set out from.")

    return _conjugate_gradients(
        problem.product, curvature.precondition, problem.gradients, iterations=iterations, report=problem.report
    )


def _solved(problem: LinearProblem, iterations: int) -> Gradients:
    return solve(problem, iterations).gradients


CG = Solver(_solved, {"iterations": 10})


def _conjugate_gradients(
    product: Callable[[Gradients], Gradients],
    precondition: Callable[[Gradients], Gradients],
    target: Gradients,
    *,
    iterations: int,
    report: Report,
) -> Solution:
    """Preconditioned conjugate gradients for all questions at once, each with its own step lengths."""
    found = times(0.0, target)
    residual = target
    size = dots(target, target).sqrt().clamp(min=1e-30)
    residuals = [[1.0] * len(size)]
    direction = better = precondition(residual)
    descent = dots(residual, better)
    for done in range(iterations):
        report(
            Step(
                stage="conjugate gradients",
                done=done,
                total=iterations,
                tokens=0,
                note=f"residual {max(residuals[-1]):.2g}",
            )
        )
        if max(residuals[-1]) < TOLERANCE:
            break
        moved = product(direction)
        length = descent / dots(direction, moved).clamp(min=1e-30)
        found = plus(found, direction, length)
        residual = plus(residual, moved, -length)
        residuals.append((dots(residual, residual).sqrt() / size).tolist())
        better = precondition(residual)
        before, descent = descent, dots(residual, better)
        direction = plus(better, direction, descent / before.clamp(min=1e-30))
    report(
        Step(
            stage="conjugate gradients",
            done=iterations,
            total=iterations,
            tokens=0,
            note=f"residual {max(residuals[-1]):.2g}",
        )
    )
    return Solution(found, residuals)
