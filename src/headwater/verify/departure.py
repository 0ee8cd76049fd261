"""How far moved weights have taken the model's predictions from those of the fitted ones.

The changes looked for are small differences of large losses, so losses are never subtracted: the logits change by
`d = (h − h_s) Wᵀ`, and all else follows from `d` and the fitted model's own `p_s`. Float32 then loses nothing but what
it loses in the hidden states.
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
"""Numbers in one chunk of logits: few enough for a processor's cache, through which they pass many times."""


@dataclass(frozen=True, kw_only=True)
class Anchored:
    """A batch, and what the fitted weights make of its `n` predicted tokens."""

    batch: Batch
    predicts: Tensor
    """[B, T − 1] True where the next token is predicted."""
    rows: Tensor
    """[n] the row in the batch of each predicted token."""
    labels: Tensor
    """[n] the predicted tokens."""
    states: Tensor
    """[n, H] h_s, the final hidden states that predict them."""


@dataclass(frozen=True)
class Departure:
    """What moved weights have changed for `n` predicted tokens."""

    divergences: Tensor
    """[n] KL(p_s ‖ p) in nats: the Bregman divergence of the cross-entropy (Grosse et al. 2023, section 2.1.1)."""
    losses: Tensor
    """[n] change of −log p(label) in nats."""
    gradient: Tensor
    """[n, H] gradient of the weighted sum of both with respect to the hidden states."""


@torch.no_grad()
def anchored(lm: LanguageModel, sequences: Sequence[TokenSequence]) -> list[Anchored]:
    """The sequences in batches, with their hidden states under the weights that the model has now."""
    found: list[Anchored] = []
    for batch in make_batches(sequences, MOST_TOKENS):
        input_ids = torch.from_numpy(batch.input_ids).to(lm.device)
        predicts = torch.from_numpy(batch.targets[:, 1:]).to(lm.device)
        states = lm.hidden_states(input_ids)[:, :-1][predicts]
        found.append(
            Anchored(
                batch=batch,
                predicts=predicts,
                rows=predicts.nonzero()[:, 0],
                labels=input_ids[:, 1:][predicts],
                states=states,
            )
        )
    return found


@torch.no_grad()
def departure(
    hidden: Tensor, anchor: Anchored, head: Head, *, divergence_weights: Tensor, loss_weights: Tensor
) -> Departure:
    """Divergences and loss changes of hidden states [n, H], chunk by chunk; the weights [n] are for the gradient.

    With respect to the logits the gradient of the divergence is p − p_s, that of the loss p − onehot(label).
    """
    divergences, losses = hidden.new_empty(len(hidden)), hidden.new_empty(len(hidden))
    gradient = torch.empty_like(hidden)
    chunk = max(32, LOGITS_PER_CHUNK // len(head.weight))
    for start in range(0, len(hidden), chunk):
        part = slice(start, start + chunk)
        states, labels = anchor.states[part], anchor.labels[part, None]
        fitted = head.logits(states).softmax(dim=1)
        moved = (hidden[part] - states) @ head.weight.t() * head.scale
        mean = (fitted * moved).sum(dim=1, keepdim=True)
        losses[part] = mean[:, 0] - moved.gather(1, labels)[:, 0]
        moved -= mean
        grown = moved.expm1()
        # Σ p_s d is zero about its mean, so taking d away changes nothing but the rounding.
        surplus = (fitted * (grown - moved)).sum(dim=1, keepdim=True)
        divergences[part] = surplus[:, 0].log1p()
        losses[part] += divergences[part]
        # p − p_s = p_s (exp(d) / Σ p_s exp(d) − 1)
        shift = fitted * (grown - surplus) / (1 + surplus)
        by_divergence, by_loss = divergence_weights[part, None].to(hidden), loss_weights[part, None].to(hidden)
        seed = shift * (by_divergence + by_loss) + fitted * by_loss
        seed.scatter_add_(1, labels, -by_loss)
        gradient[part] = seed @ head.weight * head.scale
    return Departure(divergences, losses, gradient)
