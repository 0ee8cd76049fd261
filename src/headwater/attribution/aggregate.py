"""One score an example for many queries: each query's influences relative to its own norm, then their mean or maximum.

`I(q, z) / √I(q, q)` is the length of the whitened gradient of `z` along that of `q`, so that a long or badly predicted
query, whose gradient is long, counts as much as any other (Xia et al. 2024, LESS, take cosines for the same reason).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from headwater.attribution.question import Question, question_gradients
from headwater.attribution.scores import Scores, of_rank
from headwater.base.choices import Aggregate
from headwater.corpus.batches import Batch
from headwater.curvature.base import Curvature
from headwater.gradients.factored import Gradients
from headwater.lm.load import LanguageModel

TOGETHER = 16
"""Queries whose gradients are normalised at a time."""


class Highest(Scores):
    """[N] the highest of an example's scores on all queries."""

    def add(self, batch: Batch, values: Tensor) -> None:
        super().add(batch, values.amax(dim=1))


def aggregated(
    lm: LanguageModel, curvature: Curvature, questions: Sequence[Question], *, aggregate: Aggregate, rank: int | None
) -> Callable[[], Scores]:
    """Makes the reducers that come to [N] or [N, 1] aggregated scores.

    The mean of inner products is that with the mean, so that it takes the memory and the time of a single query
    however many there are. The maximum takes those of all; `rank` reduces every query's gradient to that rank.
    """
    found: list[Gradients] = []
    for start in range(0, len(questions), TOGETHER):
        part = _unit_queries(lm, curvature, questions[start : start + TOGETHER])
        if aggregate == "max":
            found.append(part)
            continue
        mean = {name: weights.sum(0, keepdim=True).div_(len(questions)) for name, weights in part.items()}
        found = [mean if not found else {name: found[0][name].add_(share) for name, share in mean.items()}]
    weights = {name: torch.cat([part.pop(name) for part in found]) for name in list(found[0])}
    return partial(Scores if aggregate == "mean" else Highest, of_rank(weights, rank))


def _unit_queries(lm: LanguageModel, curvature: Curvature, questions: Sequence[Question]) -> Gradients:
    """R_q / √I(q, q) of every question, layer -> [Q, O, I]; 0 of a question without a gradient."""
    gradients = question_gradients(lm, curvature.layers, questions, curvature=curvature)
    norms = torch.linalg.vector_norm(curvature.whitened_from(gradients), dim=1)
    factors = torch.where(norms > 0, norms.reciprocal(), torch.zeros_like(norms))
    return {name: weights * factors[:, None, None] for name, weights in gradients.items()}
