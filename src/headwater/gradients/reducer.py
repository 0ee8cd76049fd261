"""Reducers: what the factored gradients of a sweep are folded into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, TypeVar

from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.gradients.factored import FactoredGradient


class LayerGradients(dict[str, FactoredGradient]):
    """The factored gradients of a batch by layer, and the losses [B, T] that were differentiated."""

    def __init__(self, gradients: Mapping[str, FactoredGradient], losses: Tensor) -> None:
        super().__init__(gradients)
        self.losses = losses


class Reducer(Protocol):
    """The running result of a sweep."""

    def update(self, batch: Batch, gradients: LayerGradients) -> None:
        """Add a batch."""
        ...

    def merge(self, other: Self) -> None:
        """Add the result of the next shard. Associative. Shards are merged in order."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The result as tensors, to be saved or sent."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the result by a saved one."""
        ...


R = TypeVar("R", bound=Reducer)
