"""Conjugate gradients on the damped Gauss–Newton matrix, preconditioned by a fitted curvature.

EK-FAC assumes that layers are independent, and that the Fisher of each is diagonal in a Kronecker-factored basis. Both
are approximations. As a preconditioner EK-FAC changes only the speed of convergence: the solution is that of the true
(H + λI) x = ∇L(q).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headwater.base.progress import Report, Step
from headwater.curvature.solvers.solver import LinearProblem, Solver
from headwater.curvature.solvers.vectors import dots, plus, times
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients

CONVERGED = 1e-3
"""Residual over the norm of the gradient at which the solver stops, if all questions have reached it."""


@dataclass(frozen=True)
class Solution:
    """The preconditioned gradients R_q, and their residuals."""

    gradients: Gradients
    residuals: list[list[float]]
    """‖∇L(q) − (H + λI) R_q‖ / ‖∇L(q)‖ of every question, before the first iteration and after each."""


def solve(problem: LinearProblem, iterations: int) -> Solution:
    """(H + λI)⁻¹ times the gradients of `problem`.

    The search begins at zero, so the first iteration gives the answer of the curvature, scaled to its best length.
    Beginning at that answer itself would cost one more product, for its residual. An iteration costs one product with H
    for every question. Raises HeadwaterError if λ is zero, or for fewer than one iteration.
    """
    if iterations < 1:
        raise HeadwaterError(f"--iterations {iterations}: conjugate gradients need at least one.")
    curvature = problem.curvature
    if min(curvature.damping_of(layer.name) for layer in curvature.layers) <= 0:
        raise HeadwaterError("--solver cg needs a fitted curvature and a damping above zero. Set --damping.")

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
    """Preconditioned conjugate gradients for all questions together. Each question has its own step lengths."""
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
        if max(residuals[-1]) < CONVERGED:
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
