"""A small training step on one example, which should change the query by the example's influence.

It checks gradients and code to first order. A little more training on z moves the weights by
`δ = −s (H + λI)⁻¹ ∇L(z)/N`, and log p(query) by `s I(q, z)/N` (Koh & Liang 2017). The step is made forwards and
backwards; half the difference is the result, in which terms quadratic in s cancel.
"""

from __future__ import annotations

from headwater.curvature.solvers.vectors import dot, times
from headwater.gradients.factored import Gradients
from headwater.verify.measured_question import MeasuredQuestion

OWN_CHANGE = 0.3
"""Predicted decrease of the example's own loss by the step, in nats. It sets the length of the step.

It is a small part of a loss of about a nat per token, for any example and curvature. Measured on the demo's model in
float32, for the strongest examples: between a third of this and three times this, measured changes are within 0.03 % of
the predicted ones. At a thirtieth of it, rounding makes the difference 0.3 %. Much longer steps show higher orders."""


def step_change(question: MeasuredQuestion, gradient: Gradients, preconditioned: Gradients) -> float:
    """Change of log p(query) in nats by a step on one example, divided by s/N: the measured I(q, z).

    `gradient` is ∇L(z) and `preconditioned` (H + λI)⁻¹ ∇L(z), both {layer: [1, O, I]}, zero in layers that do not
    count.
    """
    own = dot(gradient, preconditioned)
    if own <= 0:  # an example without a gradient changes nothing
        return 0.0
    length = OWN_CHANGE / own
    forwards, backwards = (question.change(times(sign * length, preconditioned)) for sign in (-1, 1))
    return (forwards - backwards) / (2 * length)
