"""When a state is worth saving: not so soon that long work would be mostly saving."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

QUICK = 0.5
"""Seconds that saving a state may always take."""
BYTES_A_SECOND = 1 << 30
"""What a disk is taken to write, checksum included."""
WORK_TO_SAVING = 4
"""A state that takes longer is saved after so many times as much work, which is what a kill costs at most."""


@dataclass
class CheckpointPolicy:
    """Says whether a state is due, from how long the work since the last one took, and how long saving it will."""

    since: float = field(default_factory=time.monotonic)
    """When the last saving ended, or else the work began."""

    def is_due(self, state: Mapping[str, Tensor]) -> bool:
        takes = bytes_of(state) / BYTES_A_SECOND
        return takes < QUICK or time.monotonic() - self.since > WORK_TO_SAVING * takes

    def saved(self) -> None:
        self.since = time.monotonic()


def bytes_of(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
