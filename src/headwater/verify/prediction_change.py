"""Change of the model's predictions between the fitted weights and moved weights.

The changes are small differences of large losses, so losses are never subtracted. The logits change by
`d = (h − h_s) Wᵀ` (and a soft cap changes `d` exactly), and the rest follows from `d` and the fitted model's
probabilities `p_s`. The only rounding error in float32 is that of the hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.corpus.batches import Batch, TokenSequence, make_batches
from headwater.lm.head import Head
from headwater.lm.load import LanguageModel
from headwater.sweep.shard_gradients import MOST_TOKENS

LOGITS_PER_CHUNK = 500_000
"""Numbers in one chunk of logits. A chunk is read many times and fits into the CPU cache."""


@dataclass(frozen=True, kw_only=True)
class ReferenceBatch:
    """A batch with the hidden states that the fitted weights compute for its `n` predicted tokens."""

    batch: Batch
    predicts: Tensor
    """[B, T − 1] True where the next token is predicted."""
    rows: Tensor
    """[n] the row in the batch of each predicted token."""
    labels: Tensor
    """[n] the predicted tokens."""
    states: Tensor
    """[n, H] h_s, the final hidden states of the fitted weights at these tokens."""


@dataclass(frozen=True)
class PredictionChange:
    """Divergence and change of loss at `n` predicted tokens."""

    divergences: Tensor
    """[n] KL(p_s ‖ p) in nats: the Bregman divergence of the cross-entropy (Grosse et al. 2023, section 2.1.1)."""
    losses: Tensor
    """[n] change of −log p(label) in nats."""
    gradient: Tensor
    """[n, H] gradient with respect to the hidden states of the weighted sum of divergences and losses."""


@torch.no_grad()
def reference_batches(lm: LanguageModel, sequences: Sequence[TokenSequence]) -> list[ReferenceBatch]:
    """The sequences in batches, with the hidden states of the model's current weights."""
    found: list[ReferenceBatch] = []
    for batch in make_batches(sequences, MOST_TOKENS):
        input_ids = torch.from_numpy(batch.input_ids).to(lm.device)
        predicts = torch.from_numpy(batch.targets[:, 1:]).to(lm.device)
        states = lm.hidden_states(input_ids)[:, :-1][predicts]
        found.append(
            ReferenceBatch(
                batch=batch,
                predicts=predicts,
                rows=predicts.nonzero()[:, 0],
                labels=input_ids[:, 1:][predicts],
                states=states,
            )
        )
    return found


@torch.no_grad()
def prediction_change(
    hidden: Tensor, reference: ReferenceBatch, head: Head, *, divergence_weights: Tensor, loss_weights: Tensor
) -> PredictionChange:
    """Divergences and loss changes of hidden states [n, H], chunk by chunk; the weights [n] enter the gradient only.

    The gradient with respect to the logits is p − p_s for the divergence and p − onehot(label) for the loss.
    """
    divergences, losses = hidden.new_empty(len(hidden)), hidden.new_empty(len(hidden))
    gradient = torch.empty_like(hidden)
    chunk = max(32, LOGITS_PER_CHUNK // len(head.weight))
    for start in range(0, len(hidden), chunk):
        part = slice(start, start + chunk)
        states, labels = reference.states[part], reference.labels[part, None]
        logits = head.logits(states)
        fitted = logits.softmax(dim=1)
        moved = head.change(logits, (hidden[part] - states) @ head.weight.t() * head.scale)
        slope = None if head.cap is None else head.slope(logits + moved)
        mean = (fitted * moved).sum(dim=1, keepdim=True)
        losses[part] = mean[:, 0] - moved.gather(1, labels)[:, 0]
        moved -= mean
        grown = moved.expm1()
        # Σ p_s d is 0 after the mean is subtracted, so subtracting d here changes only the rounding.
        surplus = (fitted * (grown - moved)).sum(dim=1, keepdim=True)
        divergences[part] = surplus[:, 0].log1p()
        losses[part] += divergences[part]
        # p − p_s = p_s (exp(d) / Σ p_s exp(d) − 1)
        shift = fitted * (grown - surplus) / (1 + surplus)
        by_divergence, by_loss = divergence_weights[part, None].to(hidden), loss_weights[part, None].to(hidden)
        seed = shift * (by_divergence + by_loss) + fitted * by_loss
        seed.scatter_add_(1, labels, -by_loss)
        if slope is not None:
            seed *= slope
        gradient[part] = seed @ head.weight * head.scale
    return PredictionChange(divergences, losses, gradient)
