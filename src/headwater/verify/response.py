"""The proximal Bregman response: where the weights go when one example is taken out and all else is held fast.

It is the minimum over the tracked weights θ of

    (1/N) Σ_i KL(p_s(·|z_i) ‖ p_θ(·|z_i)) + ½ Σ_l λ_l ‖θ_l − θ_s,l‖² + ε L(z, θ),    ε = −w/N,

the divergence summed over an example's tokens (Bae et al. 2022; Grosse et al. 2023, section 2.1.1). ε = 1/N would
learn the example once more; −w/N takes the part w of it away. The influence is this response to first order: the
Hessian of the first two terms at θ_s is the damped Gauss–Newton matrix, so θ − θ_s → (w/N) (H + λI)⁻¹ ∇L(z) and log
p(query) changes by −w I(q, z)/N. What the response has beyond it is the true matrix instead of EK-FAC's, and the curve.

The sum over i runs over a subset of the corpus, which stands for all examples but z; z itself counts with its own 1/N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.corpus.batches import TokenSequence
from headwater.curvature.base import Curvature
from headwater.curvature.solvers.vectors import only
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients
from headwater.lm.capture import Capture
from headwater.lm.layers import stepped
from headwater.lm.load import LanguageModel
from headwater.verify.departure import Anchored, anchored, departure


@dataclass(frozen=True)
class Term:
    """A batch, and how much every one of its `n` predicted tokens counts."""

    anchor: Anchored
    divergence: Tensor
    """[n] weight of the token's divergence."""
    loss: Tensor
    """[n] weight of the token's loss."""


@dataclass(frozen=True, kw_only=True)
class ProximalBregman:
    """The objective of one example, as a function of how far the tracked weights have moved."""

    lm: LanguageModel
    curvature: Curvature
    terms: Sequence[Term]
    moving: Sequence[str]
    """The layers whose weights move."""
    damping: Mapping[str, float]
    """layer -> λ_l"""

    def __call__(self, moved: Gradients) -> tuple[float, Gradients]:
        """Value, less what it is at θ_s, and gradient at θ_s + `moved` {layer: [1, O, I]}; sums in float64."""
        value = sum(0.5 * self.damping[name] * float(part.double().square().sum()) for name, part in moved.items())
        gradient = {name: self.damping[name] * part for name, part in moved.items()}
        with (
            stepped(self.lm.model, {name: part[0] for name, part in moved.items()}),
            Capture(self.lm, self.curvature.layers) as capture,
        ):
            for term in self.terms:
                value += self._add(capture, term, gradient)
        return value, only(gradient, self.moving)

    def _add(self, capture: Capture, term: Term, total: Gradients) -> float:
        anchor = term.anchor
        forward = capture.forward(anchor.batch)
        states = forward.hidden.detach()[:, :-1][anchor.predicts]
        away = departure(states, anchor, self.lm.head, divergence_weights=term.divergence, loss_weights=term.loss)
        (gradients,) = forward.weight_gradients([away.gradient])
        for name in self.moving:
            total[name][0] += gradients[name]
        return float((away.divergences.double() * term.divergence + away.losses.double() * term.loss).sum())


@dataclass(frozen=True, kw_only=True)
class Others:
    """The examples that are held fast, with what the fitted weights make of them: the same for every removal."""

    lm: LanguageModel
    curvature: Curvature
    anchors: list[Anchored]
    total: int
    """N"""
    moving: Sequence[str]

    def without(self, removed: TokenSequence, weight: float) -> ProximalBregman:
        """The objective whose minimum is the response to taking out the part `weight` of an example."""
        counted = sum(sum(id != removed.id for id in anchor.batch.ids) for anchor in self.anchors)
        share = (1 - 1 / self.total) / max(1, counted)
        terms: list[Term] = []
        for anchor in self.anchors:
            others = torch.tensor([share if id != removed.id else 0.0 for id in anchor.batch.ids], dtype=torch.float64)
            weights = others.to(anchor.rows.device)[anchor.rows]
            terms.append(Term(anchor, weights, torch.zeros_like(weights)))
        (own,) = anchored(self.lm, [removed])
        ones = torch.ones(len(own.rows), dtype=torch.float64, device=own.rows.device)
        terms.append(Term(own, ones / self.total, -weight * ones / self.total))
        damping = {layer.name: self.curvature.damping_of(layer.name) for layer in self.curvature.layers}
        return ProximalBregman(lm=self.lm, curvature=self.curvature, terms=terms, moving=self.moving, damping=damping)


def reference_set(
    lm: LanguageModel, curvature: Curvature, others: Sequence[TokenSequence], *, total: int, moving: Sequence[str]
) -> Others:
    """Run the fitted model over `others`, the subset that stands for the corpus of `total` examples.

    It keeps H numbers a token of theirs. Raises HeadwaterError where a layer that moves has no damping.
    """
    if min(curvature.damping_of(name) for name in moving) <= 0:
        raise HeadwaterError(
            "A response needs a damping above zero: without it nothing holds the weights. Set --damping."
        )
    return Others(lm=lm, curvature=curvature, anchors=anchored(lm, others), total=total, moving=moving)
