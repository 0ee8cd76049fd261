"""Conjugate gradients on the damped Gauss–Newton matrix, preconditioned by a fitted curvature.

EK-FAC takes layers for independent, and the Fisher of each for diagonal in a Kronecker-factored basis; neither is so.
As a preconditioner it only sets out the way, and the solution is that of the true (H + λI) x = ∇L(q).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.curvature.kinds import Curvature
from headwater.errors import HeadwaterError
from headwater.gradient import Gradients
from headwater.solvers.gauss_newton import gauss_newton_product
from headwater.sweep.progress import Report, Step, silent
from headwater.sweep.sweep import Sweep

TOLERANCE = 1e-3
"""Of the residual, relative to the gradient, at which a question is solved well enough."""


@dataclass(frozen=True)
class Solution:
    """The preconditioned gradients R_q, and how well each solves its equation."""

    gradients: Gradients
    residuals: list[list[float]]
    """For every iteration, the first one before any, ‖∇L(q) − (H + λI) R_q‖ / ‖∇L(q)‖ of every question."""


def solve(
    curvature: Curvature, sweep: Sweep, gradients: Gradients, iterations: int, report: Report = silent
) -> Solution:
    """(H + λI)⁻¹ applied to `gradients` {layer: [Q, O, I]}, H over the sequences of `sweep`, λ the curvature's.

    The first guess is the curvature's own answer. One iteration costs a product with H for every question. Raises
    HeadwaterError where λ is zero or iterations are fewer than one.
    """
    if iterations < 1:
        raise HeadwaterError(f"--iterations {iterations}: conjugate gradients need at least one.")
    damping = {layer.name: curvature.damping_of(layer.name) for layer in curvature.layers}
    if min(damping.values()) <= 0:
        raise HeadwaterError("The cg solver needs a damping above zero, and a fitted curvature to set out from.")

    def damped(vectors: Gradients) -> Gradients:
        product = gauss_newton_product(sweep, vectors)
        return {name: part + damping[name] * vectors[name] for name, part in product.items()}

    return _conjugate_gradients(damped, curvature.precondition, gradients, iterations, report)


def _conjugate_gradients(
    product: Callable[[Gradients], Gradients], precondition: Callable[[Gradients], Gradients], target: Gradients,
    iterations: int, report: Report,
) -> Solution:  # fmt: skip
    """Preconditioned conjugate gradients for all questions at once, each with its own step lengths."""
    found = precondition(target)
    residual = _plus(target, product(found), -1.0)
    size = _dot(target, target).sqrt().clamp(min=1e-30)
    residuals = [(_dot(residual, residual).sqrt() / size).tolist()]
    direction = better = precondition(residual)
    descent = _dot(residual, better)
    for done in range(iterations):
        report(Step("conjugate gradients", done, iterations, 0, f"residual {max(residuals[-1]):.2g}"))
        if max(residuals[-1]) < TOLERANCE:
            break
        moved = product(direction)
        length = descent / _dot(direction, moved).clamp(min=1e-30)
        found = _plus(found, direction, length)
        residual = _plus(residual, moved, -length)
        residuals.append((_dot(residual, residual).sqrt() / size).tolist())
        better = precondition(residual)
        before, descent = descent, _dot(residual, better)
        direction = _plus(better, direction, descent / before.clamp(min=1e-30))
    report(Step("conjugate gradients", iterations, iterations, 0, f"residual {max(residuals[-1]):.2g}"))
    return Solution(found, residuals)


def _dot(one: Gradients, other: Gradients) -> Tensor:
    """[Q] in float64."""
    parts = [(one[name].double() * other[name].double()).flatten(1).sum(1) for name in one]
    return torch.stack(parts).sum(0)


def _plus(one: Gradients, other: Gradients, factor: Tensor | float) -> Gradients:
    """one + factor · other, with a factor for every question."""
    if isinstance(factor, Tensor):
        return {name: part + factor.to(part)[:, None, None] * other[name] for name, part in one.items()}
    return {name: part + factor * other[name] for name, part in one.items()}
