"""Reducers of exact influence: by example, by layer and by token.

Every score is `⟨R_q, G_z⟩` with the preconditioned query gradient R_q. So one pass over the corpus serves any number of
queries, as in the query batching of Grosse et al. 2023, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

import torch
from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.curvature.base import Curvature
from headwater.curvature.truncated import TruncatedCurvature
from headwater.gradients.factored import FactoredGradient, LowRank, at_positions, inner, inner_by_token


class Rows:
    """Base of the reducers whose result is one row per example, in corpus order."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._values: list[Tensor] = []

    def add(self, batch: Batch, values: Tensor) -> None:
        """`values` [B, ...] of a batch."""
        self._rows.append(torch.from_numpy(batch.rows))
        self._values.append(values.detach().cpu())

    def merge(self, other: Self) -> None:
        count = sum(len(rows) for rows in self._rows)
        self._rows += [rows + count for rows in other._rows]
        self._values += other._values

    @property
    def values(self) -> Tensor:
        """[N, ...] in corpus order."""
        order = torch.cat(self._rows).argsort()
        return torch.cat(self._values)[order]

    def state_dict(self) -> dict[str, Tensor]:
        return {"values": self.values}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._values = [state["values"].cpu()]
        self._rows = [torch.arange(len(state["values"]))]


class Scores(Rows):
    """[N, Q] influence of every example on every query; `preconditioned` maps each layer to R_q [Q, O, I]."""

    def __init__(self, preconditioned: Mapping[str, Tensor | LowRank]) -> None:
        super().__init__()
        self.preconditioned = preconditioned

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        self.add(batch, sum_of(inner(gradient, self.preconditioned[name]) for name, gradient in gradients.items()))


class WhitenedGradients(Rows):
    """[N, D] whitened gradients of a few sequences."""

    def __init__(self, curvature: Curvature | TruncatedCurvature) -> None:
        super().__init__()
        self.curvature = curvature

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        self.add(batch, self.curvature.whiten(gradients))


class SelfInfluence(Rows):
    """[N] self-influence I(z, z) of every example."""

    def __init__(self, curvature: Curvature) -> None:
        super().__init__()
        self.curvature = curvature

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        self.add(batch, self.curvature.self_influence(gradients))


class TokenScores:
    """Influence by token: [T, Q] for every example, or [L, T, Q] with `by_layer`. The sum over tokens is `Scores`.

    `s_t = g_tᵀ R a_t` is the part of training token t. a_t are the token's activations, and g_t is the gradient that
    flows back to it from the tokens it helps to predict (Grosse et al. 2023, section 3.4).
    """

    def __init__(self, preconditioned: Mapping[str, Tensor | LowRank], by_layer: bool = False) -> None:
        self.preconditioned = preconditioned
        self.by_layer = by_layer
        self.by_row: dict[int, Tensor] = {}

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        tokens = batch.input_ids.shape[1]
        parts = (
            at_positions(inner_by_token(gradient, self.preconditioned[name]), gradient.positions, tokens)
            for name, gradient in gradients.items()
        )
        shares = torch.stack(list(parts), dim=1) if self.by_layer else sum_of(parts)
        shares = shares.cpu()
        for b, row in enumerate(batch.rows.tolist()):
            self.by_row[row] = shares[b, ..., : batch.lengths[b], :].clone()

    def merge(self, other: Self) -> None:
        count = len(self.by_row)
        self.by_row |= {row + count: shares for row, shares in other.by_row.items()}

    @property
    def values(self) -> list[Tensor]:
        """One tensor per example, in corpus order."""
        return [self.by_row[row] for row in range(len(self.by_row))]

    def state_dict(self) -> dict[str, Tensor]:
        return {str(row): shares for row, shares in self.by_row.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.by_row = {int(row): shares.cpu() for row, shares in state.items()}


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors, with at most two in memory."""
    total: Tensor | None = None
    for part in parts:
        total = part if total is None else total.add_(part)
    assert total is not None, "a sweep tracks at least one layer"
    return total
