"""First sweep of EK-FAC: the covariances of activations and of output gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from headwater import aligned
from headwater.corpus.batches import Batch
from headwater.gradient import FactoredGradient
from headwater.lm.layers import TrackedLayer

_BLOCK = 384
"""Rows of a wide sum that are added to at a time, from the diagonal on: what is left out is saved."""


class Covariances:
    """A = E[a aᵀ] and S = E[g gᵀ] over real tokens, kept as sums (Grosse et al. 2023, section 2.2, eq. 17).

    Layers that share an input share its A, under the name of their group. A is [I, I], S is [O, O].
    """

    def __init__(self, layers: Sequence[TrackedLayer]) -> None:
        self.layers = tuple(layers)
        self.input_sums: dict[str, Tensor] = {}
        self.output_sums: dict[str, Tensor] = {}
        self.tokens = 0
        self.examples = 0

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        for layer in self.layers:
            gradient = gradients[layer.name]
            if layer.name == layer.group:
                _add_gram(self.input_sums, layer.group, gradient.activations.flatten(0, 1))
            _add_gram(self.output_sums, layer.name, gradient.output_gradients.flatten(0, 1))
        self.tokens += batch.tokens
        self.examples += len(batch.ids)

    def merge(self, other: Self) -> None:
        for mine, theirs in ((self.input_sums, other.input_sums), (self.output_sums, other.output_sums)):
            for name, total in theirs.items():
                mine[name] = mine[name].add_(total) if name in mine else total
        self.tokens += other.tokens
        self.examples += other.examples

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"{group}.A": total for group, total in self.input_sums.items()}
        state |= {f"{name}.S": total for name, total in self.output_sums.items()}
        return state | {"counts": torch.tensor([self.tokens, self.examples])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.input_sums = {layer.group: state[f"{layer.group}.A"] for layer in self.layers}
        self.output_sums = {layer.name: state[f"{layer.name}.S"] for layer in self.layers}
        self.tokens, self.examples = (int(count) for count in state["counts"])

    def input_covariance(self, layer: TrackedLayer) -> Tensor:
        """A [I, I] of the layer's group."""
        return _symmetric(self.input_sums[layer.group]) / self.tokens

    def output_covariance(self, layer: TrackedLayer) -> Tensor:
        """S [O, O] of the layer."""
        return _symmetric(self.output_sums[layer.name]) / self.tokens

    def release(self, layer: TrackedLayer) -> None:
        """Let go of the sums of a layer, once they are decomposed."""
        self.output_sums.pop(layer.name)
        if layer.name == layer.group:
            self.input_sums.pop(layer.group)

    @property
    def tokens_per_example(self) -> float:
        """T̄: K-FAC's curvature of a *summed* loss is T̄ · S ⊗ A."""
        return self.tokens / self.examples


def _add_gram(sums: dict[str, Tensor], name: str, rows: Tensor) -> None:
    """Add `rowsᵀ rows` to a running sum; of a wide one only the blocks on and above the diagonal."""
    width = rows.shape[1]
    if name not in sums:
        sums[name] = aligned.zeros(width, width, like=rows)
    total = sums[name]
    if width < 2 * _BLOCK:
        total.addmm_(rows.t(), rows)
        return
    step = -(-width // (width // _BLOCK))
    for start in range(0, width, step):
        block = slice(start, min(start + step, width))
        total[block, start:].addmm_(rows[:, block].t(), rows[:, start:])


def _symmetric(upper: Tensor) -> Tensor:
    """The whole matrix from its upper triangle (what lies below was not always summed)."""
    return upper.triu() + upper.triu(1).t()
