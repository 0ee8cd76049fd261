"""Minimising a smooth function of the tracked weights: L-BFGS with a fitted curvature as its first inverse Hessian.

The first step is the curvature's own answer; the later ones also know what the gradient has done since (Nocedal &
Wright 2006, algorithm 7.4). Nothing is random.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headwater.curvature.solvers.vectors import dot, plus, times
from headwater.gradients.factored import Gradients

Objective = Callable[[Gradients], tuple[float, Gradients]]
"""From a point {layer: [1, O, I]} to the value there and the gradient."""
REMEMBERED, REMEMBERED_NUMBERS = 40, 250_000_000
"""Steps remembered with what they did to the gradient, and how many numbers they may take (1 GB)."""
SUFFICIENT = 1e-4
"""Of what the slope promises, the part that a step must bring (Armijo's condition)."""
SHORTENINGS = 12
"""A step that does not bring it is tried shorter so many times."""


@dataclass(frozen=True)
class Minimum:
    """Where the minimisation ended."""

    point: Gradients
    remaining: float
    """√(what the next step promises / what was gained so far): about the part of the way, as the Hessian measures
    it, that is left."""
    iterations: int
    converged: bool
    """Whether `remaining` is within the tolerance."""


@dataclass
class LBFGSMemory:
    """What earlier steps have told about the Hessian, the oldest first. It serves every function of like curvature."""

    precondition: Callable[[Gradients], Gradients]
    steps: deque[tuple[Gradients, Gradients, float]] = field(default_factory=lambda: deque())
    """(step, change of the gradient, their dot product)"""
    scale: float = 1.0
    """By which the last step found the curvature's inverse too small."""

    def add(self, step: Gradients, change: Gradients) -> None:
        product = dot(step, change)
        if product <= 0:  # the function is not convex here, and the pair would spoil the direction
            return
        self.steps.append((step, change, product))
        self.scale = product / dot(change, self.precondition(change))
        room = REMEMBERED_NUMBERS // (2 * sum(part.numel() for part in step.values()))
        while len(self.steps) > max(3, min(REMEMBERED, room)):
            self.steps.popleft()

    def direction(self, gradient: Gradients) -> Gradients:
        """The way down: minus the inverse Hessian, as far as it is known, times the gradient."""
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
    """From `start` down to where less than `tolerance` of the way is left, in at most so many iterations.

    An iteration costs one evaluation where its first step length will do, which is nearly always. `history` is used
    and added to.
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
        taken = _step(objective, point, value, slope=slope, direction=direction)
        if taken is None:
            break
        done += 1
        new, value, steeper = taken
        history.add(plus(new, point, -1.0), plus(steeper, gradient, -1.0))
        point, gradient = new, steeper
    return Minimum(point, remaining, done, remaining <= tolerance)


def _step(
    objective: Objective, point: Gradients, value: float, *, slope: float, direction: Gradients
) -> tuple[Gradients, float, Gradients] | None:
    """The first point along `direction` that lies enough lower, its value and gradient; None where none does."""
    length = 1.0
    for _ in range(SHORTENINGS):
        new = plus(point, direction, length)
        reached, gradient = objective(new)
        if math.isfinite(reached):
            if reached <= value + SUFFICIENT * length * slope:
                return new, reached, gradient
            lowest = -slope * length**2 / (2 * (reached - value - slope * length))  # of the parabola through both
            length = min(max(lowest, 0.1 * length), 0.5 * length)
        else:
            length *= 0.1
    return None
