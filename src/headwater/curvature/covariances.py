"""The covariances of activations and output gradients, which are the first sweep of EK-FAC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.gradients import aligned_rows
from headwater.gradients.basis import spans
from headwater.gradients.factored import FactoredGradient
from headwater.lm.layers import TrackedLayer

WIDE_BLOCK = 384
"""Rows of a wide sum that one product adds to, from the diagonal on. The blocks below the diagonal are not computed."""
GPU_WIDE_BLOCK = 2048
"""The same on a GPU, where only large products are fast."""


class Covariances:
    """A = E[a aᵀ] and S = E[g gᵀ] over real tokens, kept as sums (Grosse et al. 2023, section 2.2, eq. 17).

    For an expert, both are over the tokens that were sent to it, and zero if there were none. Layers that share an
    input share its A, under the name of their group. A is [I, I], S is [O, O]. A covariance wider than
    `block_width` is approximated as block-diagonal, and only its blocks are summed.
    """

    def __init__(self, layers: Sequence[TrackedLayer], block_width: int | None = None) -> None:
        self.layers = tuple(layers)
        self.block_width = block_width
        self.sums: dict[str, Tensor] = {}
        """Name (see `names`) -> the upper triangle of the sum."""
        self.tokens = 0
        self.tokens_of: dict[str, int] = {layer.name: 0 for layer in layers if layer.is_routed}
        """layer of an expert -> the tokens that were sent to it"""
        self.examples = 0

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        for layer in self.layers:
            gradient = gradients[layer.name]
            if layer.name == layer.group:
                self._add(f"{layer.group}.A", gradient.activations.flatten(0, 1))
            self._add(f"{layer.name}.S", gradient.output_gradients.flatten(0, 1))
            if gradient.tokens is not None:
                self.tokens_of[layer.name] += gradient.tokens
        self.tokens += batch.tokens
        self.examples += len(batch.ids)

    def _add(self, name: str, rows: Tensor) -> None:
        for number, span in enumerate(spans(rows.shape[1], self.block_width)):
            _add_gram(self.sums, f"{name}.{number}", rows[:, span])

    def merge(self, other: Self) -> None:
        for name, total in other.sums.items():
            self.sums[name] = self.sums[name].add_(total) if name in self.sums else total
        self.tokens += other.tokens
        self.examples += other.examples
        for name, count in other.tokens_of.items():
            self.tokens_of[name] += count

    def state_dict(self) -> dict[str, Tensor]:
        return self.sums | {"counts": torch.tensor([self.tokens, self.examples, *self.tokens_of.values()])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sums = {name: total for name, total in state.items() if name != "counts"}
        self.tokens, self.examples, *routed = (int(count) for count in state["counts"])
        self.tokens_of = dict(zip(self.tokens_of, routed, strict=True))

    @property
    def names(self) -> list[str]:
        """Names of all covariances, `<group>.A.<block>` and `<layer>.S.<block>`, in the order of the layers."""
        found: list[str] = []
        for layer in self.layers:
            if layer.name == layer.group:
                found += [f"{layer.group}.A.{k}" for k in range(len(spans(layer.inputs, self.block_width)))]
            found += [f"{layer.name}.S.{k}" for k in range(len(spans(layer.outputs, self.block_width)))]
        return found

    def covariance(self, name: str) -> Tensor:
        """A covariance [n, n], or a block of one."""
        layer = name.rsplit(".", 2)[0]
        return _symmetric(self.sums[name]) / max(1, self.tokens_of.get(layer, self.tokens))

    def pop_covariance(self, name: str) -> Tensor:
        """A covariance, whose sum is released."""
        found = self.covariance(name)
        del self.sums[name]
        return found

    @property
    def tokens_per_example(self) -> float:
        """T̄, the mean length of examples. K-FAC's curvature of a *summed* loss is T̄ · S ⊗ A."""
        return self.tokens / self.examples

    def mean_tokens(self, layer: TrackedLayer) -> float:
        """T̄ of a layer: the mean number of an example's tokens that reach it."""
        return self.tokens_of.get(layer.name, self.tokens) / self.examples


def _add_gram(sums: dict[str, Tensor], name: str, rows: Tensor) -> None:
    """Add `rowsᵀ rows` to a running sum. If it is wide, only to its blocks on and above the diagonal."""
    width = rows.shape[1]
    if name not in sums:
        sums[name] = aligned_rows.zeros(width, width, like=rows)
    total = sums[name]
    wide = WIDE_BLOCK if rows.device.type == "cpu" else GPU_WIDE_BLOCK
    if width < 2 * wide:
        total.addmm_(rows.t(), rows)
        return
    step = -(-width // (width // wide))
    for start in range(0, width, step):
        block = slice(start, min(start + step, width))
        total[block, start:].addmm_(rows[:, block].t(), rows[:, start:])


def _symmetric(upper: Tensor) -> Tensor:
    """The whole matrix from its upper triangle. The sum below the diagonal may be incomplete."""
    return upper.triu() + upper.triu(1).t()
