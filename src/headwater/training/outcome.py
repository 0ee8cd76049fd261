"""Losses and correctness of a model on questions: all that is stored of a retrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headwater.attribution.question import Question
from headwater.lm.load import LanguageModel


@dataclass(frozen=True)
class Outcome:
    """Results of one model on Q questions."""

    losses: list[float]
    """[Q] summed loss of the selected tokens in nats, minus that of the contrast, if there is one."""
    correct: list[bool]
    """[Q] whether greedy decoding gives every selected token."""


@torch.no_grad()
def measure(lm: LanguageModel, questions: Sequence[Question]) -> Outcome:
    """Measure the model on every question, with logits in float32 or better."""
    losses: list[float] = []
    correct: list[bool] = []
    for question in questions:
        found = [(_losses(lm, part), sign) for part, sign in question.parts]
        losses.append(sum(sign * loss for (loss, _), sign in found))
        correct.append(found[0][0][1])
    return Outcome(losses, correct)


def _losses(lm: LanguageModel, question: Question) -> tuple[float, bool]:
    ids = torch.from_numpy(question.sequence.input_ids).to(lm.device)
    predicts = torch.from_numpy(question.sequence.targets[1:]).to(lm.device)
    hidden = lm.hidden_states(ids[None])[0, :-1][predicts]
    logits, labels = lm.head.logits(hidden), ids[1:][predicts]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    return float(loss), bool((logits.argmax(-1) == labels).all())
