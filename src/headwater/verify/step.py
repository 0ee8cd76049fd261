"""A small step on one example: does the query move by its influence? It checks gradients and plumbing, to first order.

Training a little more on z moves the weights by `δ = −s (H + λI)⁻¹ ∇L(z)/N`, and log p(query) by `s I(q, z)/N`
(Koh & Liang 2017). The step is taken forwards and backwards, and half the difference counts, in which whatever is
quadratic in s cancels.
"""

from __future__ import annotations

from headwater.curvature.solvers.vectors import dot, times
from headwater.gradients.factored import Gradients
from headwater.verify.asked import MeasuredQuestion

OWN_CHANGE = 0.3
"""A step is as long as is predicted to lower the example's own loss by so many nats: a small part of a loss of a nat
or so a token, whatever the example and the curvature. On the demo's model in float32 the measured changes of the
strongest examples are within 0.03 % of the predicted ones from a third of this to three times as much; at a thirtieth
rounding makes it 0.3 %, beyond 3 % it is the curve that would."""


def step_change(asked: MeasuredQuestion, gradient: Gradients, preconditioned: Gradients) -> float:
    """Change of log p(query) in nats by a step on one example, over s/N: the measured I(q, z).

    `gradient` is ∇L(z), `preconditioned` (H + λI)⁻¹ of it, {layer: [1, O, I]}; zero in layers that do not count.
    """
    own = dot(gradient, preconditioned)
    if own <= 0:  # an example without a gradient moves nothing
        return 0.0
    length = OWN_CHANGE / own
    forwards, backwards = (asked.change(times(sign * length, preconditioned)) for sign in (-1, 1))
    return (forwards - backwards) / (2 * length)
