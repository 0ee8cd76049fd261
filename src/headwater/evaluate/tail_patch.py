"""Tail patch: how much one training step on a method's top examples raises the likelihood of the query.

Chang et al. 2024 (arXiv 2410.17413), section 4.2. Each step starts from the trained model and uses one example.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.base.progress import Step
from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.metrics import top_positions
from headwater.lm.load import LanguageModel, wrap_model
from headwater.training.adam import MOMENTS_FILE, second_moments
from headwater.training.outcome import measure
from headwater.training.train import gradients_of

EXAMPLES = 10
RATE = 0.1
"""Learning rate as a share of the recipe's peak."""


def tail_patch(context: EvaluationContext, scores: NDArray[Any]) -> list[float]:
    """[Q] mean change of log p(query) in nats from one step on each of the ten examples with the highest scores.

    The step is Adam's without momentum: a tenth of the peak learning rate, times the gradient of the mean loss per
    token, divided by the root of the second moments. Raises HeadwaterError if these are not beside the model.
    """
    moments = second_moments(Path(context.run.lm.name))
    if moments is None:
        raise HeadwaterError(
            f"tail-patch takes an Adam step, and {context.run.lm.name} has no {MOMENTS_FILE} beside it. "
            "`headwater train` writes one."
        )
    recipe = context.retraining.recipe
    before = measure(context.run.lm, context.questions).losses
    tops = [top_positions(scores[:, q], EXAMPLES) for q in range(len(context.questions))]
    examples = sorted({position for top in tops for position in top})
    changes: dict[tuple[int, int], float] = {}
    for done, position in enumerate(examples):
        context.report(Step(stage="tail patch", done=done, total=len(examples), tokens=0))
        affected = [q for q, top in enumerate(tops) if position in top]
        stepped = _stepped(context, position, moments, rate=RATE * recipe.learning_rate)
        after = measure(stepped, [context.questions[q] for q in affected]).losses
        changes |= {(q, position): before[q] - loss for q, loss in zip(affected, after, strict=True)}
    context.report(Step(stage="tail patch", done=len(examples), total=len(examples), tokens=0))
    return [float(np.mean([changes[q, position] for position in top])) for q, top in enumerate(tops)]


def _stepped(
    context: EvaluationContext, position: int, moments: dict[str, torch.Tensor], *, rate: float
) -> LanguageModel:
    """The run's model after one step on one example."""
    model = copy.deepcopy(context.run.lm.model).requires_grad_(True)
    recipe, longest = context.retraining.recipe, context.run.lm.max_positions
    sequence = recipe.sequences([context.run.corpus[position].sequence], context.run.lm.tokenizer, longest)
    gradients = gradients_of(model, sequence)
    with torch.no_grad():
        for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
            parameter -= rate * gradient / (moments[name].to(gradient).sqrt() + 1e-8)
    return wrap_model(model, context.run.lm.tokenizer, "stepped")
