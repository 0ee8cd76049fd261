"""How usual texts are to a model: their mean loss a token, beside what the model itself expects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from headwater.corpus.batches import TokenSequence

if TYPE_CHECKING:
    from headwater.lm.load import LanguageModel  # which takes seconds to import

SAMPLE = 64
"""Examples that are read, evenly spread over the corpus."""
CHUNK = 256
"""Tokens whose logits are held at the same time."""


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """Means over the learned tokens of a sample of the corpus."""

    loss: float
    """Nats a token."""
    entropy: float
    """Nats a token that the model itself expects: the mean entropy of its predictions. It equals `loss` on texts that
    are distributed as the model predicts."""
    tokens: int
    examples: int
    vocabulary: int

    @property
    def untrained(self) -> bool:
        """Whether the model hardly does better than guessing, which costs ln V nats a token, and expects no better."""
        return min(self.loss, self.entropy) >= 0.9 * math.log(self.vocabulary)

    @property
    def unusual(self) -> bool:
        """Whether the texts cost the model much more than it expects, as texts do that it was not trained on."""
        return self.loss > self.entropy + 1.0


@torch.no_grad()
def familiarity(lm: LanguageModel, sequences: Sequence[TokenSequence]) -> Familiarity:
    """Loss and entropy over at most SAMPLE of the `sequences`, by a forward pass of each."""
    step = max(1, len(sequences) // SAMPLE)
    chosen = range(0, len(sequences), step)[:SAMPLE]
    loss = entropy = 0.0
    tokens = 0
    for place in chosen:
        sequence = sequences[place]
        input_ids = torch.from_numpy(sequence.input_ids).to(lm.device)
        learned = torch.from_numpy(sequence.targets).to(lm.device)[1:]
        hidden, labels = lm.hidden_states(input_ids[None])[0, :-1][learned], input_ids[1:][learned]
        for part, label in zip(hidden.split(CHUNK), labels.split(CHUNK), strict=True):
            logs = lm.head.logits(part).float().log_softmax(1)
            loss -= float(logs.gather(1, label[:, None]).sum())
            entropy -= float((logs.exp() * logs).sum())
        tokens += len(labels)
    return Familiarity(
        loss=loss / tokens,
        entropy=entropy / tokens,
        tokens=tokens,
        examples=len(chosen),
        vocabulary=len(lm.head.weight),
    )
