"""A question whose likelihood is measured before and after the weights move."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headwater.attribution.question import Question
from headwater.gradients.factored import Gradients
from headwater.lm.layers import stepped
from headwater.lm.load import LanguageModel
from headwater.verify.prediction_change import ReferenceBatch, prediction_change, reference_batches


@dataclass(frozen=True)
class MeasuredQuestion:
    """A question with the hidden states that the fitted weights compute for it."""

    lm: LanguageModel
    parts: list[tuple[ReferenceBatch, int]]
    """The question with sign 1, and its contrast, if it has one, with sign −1."""

    @torch.no_grad()
    def change(self, moved: Gradients) -> float:
        """Change of log p(query) in nats when the tracked weights move by `moved` {layer: [1, O, I]}.

        With a contrast: change of log p(query) − log p(contrast). Summed over tokens in float64.
        """
        total = 0.0
        with stepped(self.lm.model, {name: part[0] for name, part in moved.items()}):
            for reference, sign in self.parts:
                input_ids = torch.from_numpy(reference.batch.input_ids).to(self.lm.device)
                hidden = self.lm.hidden_states(input_ids)[:, :-1][reference.predicts]
                weights = torch.zeros_like(reference.labels)
                losses = prediction_change(
                    hidden, reference, self.lm.head, divergence_weights=weights, loss_weights=weights
                ).losses
                total -= sign * float(losses.double().sum())
        return total


def measured_question(lm: LanguageModel, question: Question) -> MeasuredQuestion:
    """The question with the hidden states of the current weights."""
    return MeasuredQuestion(lm, [(reference_batches(lm, [part.sequence])[0], sign) for part, sign in question.parts])
