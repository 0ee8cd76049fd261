"""L-BFGS over the tracked weights, with a fitted curvature as the initial inverse Hessian.

The first step is that of the curvature alone. Later steps also use how the gradient changed along earlier steps
(Nocedal & Wright 2006, algorithm 7.4). Nothing is random.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headwater.curvature.solvers.vectors import dot, plus, times
from headwater.gradients.factored import Gradients

Objective = Callable[[Gradients], tuple[float, Gradients]]
"""Maps a point {layer: [1, O, I]} to the value and the gradient there."""
REMEMBERED, REMEMBERED_NUMBERS = 40, 250_000_000
"""Maximum number of remembered steps and gradient changes, and of the numbers in them (1 GB)."""
SUFFICIENT = 1e-4
"""Share of the decrease predicted by the slope that a step must reach (Armijo's condition)."""
SHORTENINGS = 12
"""Maximum number of shorter steps tried when a step does not reach it."""


@dataclass(frozen=True)
class Minimum:
    """The result of a minimisation."""

    point: Gradients
    remaining: float
    """√(decrease predicted for the next step / decrease so far): about the remaining share of the distance in the norm
    of the Hessian."""
    iterations: int
    converged: bool
    """Whether `remaining` is at most the tolerance."""


@dataclass
class LBFGSMemory:
    """Earlier steps and their gradient changes, oldest first. Functions with nearly the same Hessian can share it."""

    precondition: Callable[[Gradients], Gradients]
    steps: deque[tuple[Gradients, Gradients, float]] = field(default_factory=lambda: deque())
    """(step, change of the gradient, their dot product)"""
    scale: float = 1.0
    """Factor by which the curvature's inverse was too small along the last step."""

    def add(self, step: Gradients, change: Gradients) -> None:
        product = dot(step, change)
        if product <= 0:  # not convex here: the pair would make the approximation indefinite
            return
        self.steps.append((step, change, product))
        self.scale = product / dot(change, self.precondition(change))
        room = REMEMBERED_NUMBERS // (2 * sum(part.numel() for part in step.values()))
        while len(self.steps) > max(3, min(REMEMBERED, room)):
            self.steps.popleft()

    def direction(self, gradient: Gradients) -> Gradients:
        """The search direction: minus the approximate inverse Hessian times the gradient."""
        found, shares = gradient, list[float]()
        for step, change, product in reversed(self.steps):
            shares.append(dot(step, found) / product)
            found = plus(found, change, -shares[-1])
        found = times(self.scale, self.precondition(found))
        for (step, change, product), share in zip(self.steps, reversed(shares), strict=True):
            found = plus(found, step, share - dot(change, found) / product)
        return times(-1.0, found)


def minimise(
    objective: Objective,
    history: LBFGSMemory,
    start: Gradients,
    *,
    iterations: int,
    tolerance: float,
    progress: Callable[[int, float], None] = lambda done, remaining: None,
) -> Minimum:
    """Minimise from `start` until `Minimum.remaining` is at most `tolerance`, in at most `iterations` iterations.

    An iteration costs one evaluation if its first step length is accepted, which is nearly always. `history` is read
    and extended.
    """
    point = start
    first, gradient = objective(point)
    value, done = first, 0
    while True:
        direction = history.direction(gradient)
        slope = dot(gradient, direction)
        gained = first - value
        remaining = math.sqrt(-0.5 * slope / gained) if gained > 0 else 1.0 if slope < 0 else 0.0
        progress(done, remaining)
        if remaining <= tolerance or done == iterations:
            break
        accepted = _step(objective, point, value, slope=slope, direction=direction)
        if accepted is None:
            break
        done += 1
        new, value, new_gradient = accepted
        history.add(plus(new, point, -1.0), plus(new_gradient, gradient, -1.0))
        point, gradient = new, new_gradient
    return Minimum(point, remaining, done, remaining <= tolerance)


def _step(
    objective: Objective, point: Gradients, value: float, *, slope: float, direction: Gradients
) -> tuple[Gradients, float, Gradients] | None:
    """The first tried point along `direction` that meets Armijo's condition, with its value and gradient, or None."""
    length = 1.0
    for _ in range(SHORTENINGS):
        new = plus(point, direction, length)
        reached, gradient = objective(new)
        if math.isfinite(reached):
            if reached <= value + SUFFICIENT * length * slope:
                return new, reached, gradient
            # the minimum of the parabola through both points
            lowest = -slope * length**2 / (2 * (reached - value - slope * length))
            length = min(max(lowest, 0.1 * length), 0.5 * length)
        else:
            length *= 0.1
    return None
