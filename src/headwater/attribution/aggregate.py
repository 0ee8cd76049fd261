"""One score per example for many queries: the mean or maximum of the normalised influences.

`I(q, z) / √I(q, q)` is the length of the whitened gradient of `z` along that of `q`. So a long or badly predicted
query, whose gradient is long, counts as much as any other. Xia et al. 2024 (LESS) use cosines for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from headwater.attribution.context import AttributionContext
from headwater.attribution.options import Aggregate
from headwater.attribution.preconditioned import PreconditionedQueries, question_gradients
from headwater.attribution.question import Question
from headwater.attribution.scores import Scores
from headwater.corpus.batches import Batch
from headwater.gradients.factored import Gradients

TOGETHER = 16
"""Queries whose gradients are computed and normalised together."""


class Highest(Scores):
    """A reducer: [N] the highest of an example's scores on all queries."""

    def add(self, batch: Batch, values: Tensor) -> None:
        super().add(batch, values.amax(dim=1))


def aggregated(
    context: AttributionContext, questions: Sequence[Question], how: Aggregate, *, rank: int | None
) -> Callable[[], Scores]:
    """A factory of reducers whose result is [N] or [N, 1] aggregated scores.

    The mean of inner products is the inner product with the mean, so it costs as much memory and time as one query.
    The maximum costs as much as all queries. `rank` reduces every query's gradient to that rank.
    """
    found: list[Gradients] = []
    for start in range(0, len(questions), TOGETHER):
        part = _unit_queries(context, questions[start : start + TOGETHER])
        if how == "max":
            found.append(part)
            continue
        mean = {name: every.sum(0, keepdim=True).div_(len(questions)) for name, every in part.items()}
        found = [mean if not found else {name: found[0][name].add_(share) for name, share in mean.items()}]
    combined = {name: torch.cat([part.pop(name) for part in found]) for name in list(found[0])}
    return partial(Scores if how == "mean" else Highest, PreconditionedQueries(combined).of_rank(rank))


def _unit_queries(context: AttributionContext, questions: Sequence[Question]) -> Gradients:
    """R_q / √I(q, q) of every question, layer name -> [Q, O, I]; 0 if a question has no gradient."""
    curvature = context.curvature
    gradients = question_gradients(context.lm, curvature.layers, questions, curvature=curvature)
    norms = torch.linalg.vector_norm(curvature.whitened_from(gradients), dim=1)
    factors = torch.where(norms > 0, norms.reciprocal(), torch.zeros_like(norms))
    return {name: every * factors[:, None, None] for name, every in gradients.items()}
