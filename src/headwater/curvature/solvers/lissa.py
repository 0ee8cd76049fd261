"""LiSSA: the damped inverse as a truncated Neumann series over random batches (Agarwal et al. 2017; Koh & Liang 2017).

It needs no fitted curvature. It is a reference for comparisons: with σ the largest eigenvalue, n steps do not solve
directions whose eigenvalue is below σ/n.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from headwater.base.progress import Report, Step, silent
from headwater.curvature.solvers.solver import LinearProblem, Solver
from headwater.curvature.solvers.vectors import dot, plus, times
from headwater.gradients.factored import Gradients

POWER_STEPS = 8
"""Steps of the power iteration that estimates σ."""
MARGIN = 1.5
"""σ over the estimated eigenvalue. Later batches may have a larger one than those that it was estimated on."""


def neumann_series(
    product: Callable[[Gradients], Gradients], gradients: Gradients, steps: int, *, report: Report = silent
) -> Gradients:
    """(H + λI)⁻¹ times `gradients` {layer: [Q, O, I]}, by v ← v + (∇L(q) − (H + λI) v)/σ from v = ∇L(q)/σ.

    `product` returns (H + λI) v. It may use another random batch at each call.
    """
    scale = MARGIN * _largest(product, gradients)
    found = times(1 / scale, gradients)
    for done in range(steps):
        report(Step(stage="LiSSA", done=done, total=steps, tokens=0))
        found = plus(found, plus(gradients, product(found), -1.0), 1 / scale)
    report(Step(stage="LiSSA", done=steps, total=steps, tokens=0))
    return found


def _solved(problem: LinearProblem, iterations: int, batch: int) -> Gradients:
    rng = np.random.default_rng(problem.seed)

    def product(vectors: Gradients) -> Gradients:
        chosen = rng.choice(problem.examples, min(batch, problem.examples), replace=False)
        return problem.product(vectors, np.sort(chosen).tolist())

    return neumann_series(product, problem.gradients, iterations, report=problem.report)


LISSA = Solver(_solved, {"iterations": 40, "batch": 32})


def _largest(product: Callable[[Gradients], Gradients], like: Gradients) -> float:
    """The largest eigenvalue, by power iteration on a seeded random vector."""
    source = torch.Generator().manual_seed(0)
    vector = {name: torch.randn((1, *part.shape[1:]), generator=source).to(part) for name, part in like.items()}
    size = 1.0
    for _ in range(POWER_STEPS):
        vector = product(vector)
        size = math.sqrt(dot(vector, vector))
        vector = times(1 / max(size, 1e-30), vector)
    return size
