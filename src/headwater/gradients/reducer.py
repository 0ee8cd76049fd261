"""What a pass over a corpus folds its factored gradients into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, TypeVar

from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.gradients.factored import FactoredGradient


class LayerGradients(dict[str, FactoredGradient]):
    """The factored gradients of a batch by layer, and the losses [B, T] that they are the gradients of."""

    def __init__(self, gradients: Mapping[str, FactoredGradient], losses: Tensor) -> None:
        super().__init__(gradients)
        self.losses = losses


class Reducer(Protocol):
    """What a sweep folds its factored gradients into."""

    def update(self, batch: Batch, gradients: LayerGradients) -> None: ...
    def merge(self, other: Self) -> None:
        """Add the result of the next shard. Associative; shards are merged in order."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


R = TypeVar("R", bound=Reducer)
