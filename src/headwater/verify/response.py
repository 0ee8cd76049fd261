"""The proximal Bregman response: the weights after one example is removed and the reference set keeps its predictions.

It is the minimum over the tracked weights θ of

    (1/N) Σ_i KL(p_s(·|z_i) ‖ p_θ(·|z_i)) + ½ Σ_l λ_l ‖θ_l − θ_s,l‖² + ε L(z, θ),    ε = −w/N,

with the divergence summed over an example's tokens (Bae et al. 2022; Grosse et al. 2023, section 2.1.1). ε = 1/N would
train on the example once more; ε = −w/N removes the share w of it. The influence is this response to first order. The
Hessian of the first two terms at θ_s is the damped Gauss–Newton matrix, so θ − θ_s → (w/N) (H + λI)⁻¹ ∇L(z) and log
p(query) changes by −w I(q, z)/N. The response differs from the influence in two ways: it uses the true matrix instead
of EK-FAC's, and it includes higher orders.

The sum over i runs over a subset of the corpus, which represents all examples except z. z counts with its own 1/N.
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
from headwater.verify.prediction_change import ReferenceBatch, prediction_change, reference_batches


@dataclass(frozen=True)
class Term:
    """A batch with the weights of its `n` predicted tokens in the objective."""

    reference: ReferenceBatch
    divergence: Tensor
    """[n] weight of the token's divergence."""
    loss: Tensor
    """[n] weight of the token's loss."""


@dataclass(frozen=True, kw_only=True)
class ProximalBregman:
    """The objective of one example, as a function of the change of the tracked weights."""

    lm: LanguageModel
    curvature: Curvature
    terms: Sequence[Term]
    moving: Sequence[str]
    """The layers whose weights move."""
    damping: Mapping[str, float]
    """layer -> λ_l"""

    def __call__(self, moved: Gradients) -> tuple[float, Gradients]:
        """Value relative to θ_s, and gradient, at θ_s + `moved` {layer: [1, O, I]}. Sums are in float64."""
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
        reference = term.reference
        forward = capture.forward(reference.batch)
        states = forward.hidden.detach()[:, :-1][reference.predicts]
        change = prediction_change(
            states, reference, self.lm.head, divergence_weights=term.divergence, loss_weights=term.loss
        )
        (gradients,) = forward.weight_gradients([change.gradient])
        for name in self.moving:
            total[name][0] += gradients[name]
        return float((change.divergences.double() * term.divergence + change.losses.double() * term.loss).sum())


@dataclass(frozen=True, kw_only=True)
class ReferenceSet:
    """The examples whose predictions the response keeps. It is computed once and shared by all removals."""

    lm: LanguageModel
    curvature: Curvature
    batches: list[ReferenceBatch]
    total: int
    """N"""
    moving: Sequence[str]

    def without(self, removed: TokenSequence, weight: float) -> ProximalBregman:
        """The objective whose minimum is the response to removing the share `weight` of an example."""
        counted = sum(sum(id != removed.id for id in reference.batch.ids) for reference in self.batches)
        share = (1 - 1 / self.total) / max(1, counted)
        terms: list[Term] = []
        for reference in self.batches:
            shares = [share if id != removed.id else 0.0 for id in reference.batch.ids]
            weights = torch.tensor(shares, dtype=torch.float64).to(reference.rows.device)[reference.rows]
            terms.append(Term(reference, weights, torch.zeros_like(weights)))
        (own,) = reference_batches(self.lm, [removed])
        ones = torch.ones(len(own.rows), dtype=torch.float64, device=own.rows.device)
        terms.append(Term(own, ones / self.total, -weight * ones / self.total))
        damping = {layer.name: self.curvature.damping_of(layer.name) for layer in self.curvature.layers}
        return ProximalBregman(lm=self.lm, curvature=self.curvature, terms=terms, moving=self.moving, damping=damping)


def reference_set(
    lm: LanguageModel, curvature: Curvature, others: Sequence[TokenSequence], *, total: int, moving: Sequence[str]
) -> ReferenceSet:
    """Run the fitted model over `others`, the subset that represents the corpus of `total` examples.

    It stores H numbers per token. Raises HeadwaterError if a layer whose weights move has no damping.
    """
    if min(curvature.damping_of(name) for name in moving) <= 0:
        raise HeadwaterError(
            "A response needs a damping above zero in every layer. Ask again with a damping: headwater ask … --json "
            "--damping 0.1*mean"
        )
    batches = reference_batches(lm, others)
    return ReferenceSet(lm=lm, curvature=curvature, batches=batches, total=total, moving=moving)
