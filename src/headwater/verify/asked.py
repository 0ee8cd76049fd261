"""The query whose likelihood is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headwater.attribution.question import Question
from headwater.gradients.factored import Gradients
from headwater.lm.layers import stepped
from headwater.lm.load import LanguageModel
from headwater.verify.departure import Anchored, anchored, departure


@dataclass(frozen=True)
class MeasuredQuestion:
    """A question with what the fitted weights make of it."""

    lm: LanguageModel
    parts: list[tuple[Anchored, int]]
    """The question with sign 1 and its contrast, where it has one, with sign −1."""

    @torch.no_grad()
    def change(self, moved: Gradients) -> float:
        """What moving the tracked weights by `moved` {layer: [1, O, I]} does to log p(query), in nats.

        With a contrast: to log p(query) − log p(contrast). Summed over tokens in float64.
        """
        total = 0.0
        with stepped(self.lm.model, {name: part[0] for name, part in moved.items()}):
            for anchor, sign in self.parts:
                input_ids = torch.from_numpy(anchor.batch.input_ids).to(self.lm.device)
                hidden = self.lm.hidden_states(input_ids)[:, :-1][anchor.predicts]
                weights = torch.zeros_like(anchor.labels)
                losses = departure(
                    hidden, anchor, self.lm.head, divergence_weights=weights, loss_weights=weights
                ).losses
                total -= sign * float(losses.double().sum())
        return total


def asked(lm: LanguageModel, question: Question) -> MeasuredQuestion:
    """The question under the weights that the model has now."""
    return MeasuredQuestion(lm, [(anchored(lm, [part.sequence])[0], sign) for part, sign in question.parts])
