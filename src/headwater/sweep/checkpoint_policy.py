"""When to save the state of unfinished work, so that saving does not take most of the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

QUICK = 0.5
"""Seconds. A state that takes less to save is always saved."""
BYTES_A_SECOND = 1 << 30
"""Assumed writing speed of a disk, checksum included."""
WORK_TO_SAVING = 4
"""A larger state is saved after this many times the work that saving takes. An interruption loses no more work."""


@dataclass
class CheckpointPolicy:
    """Decides whether to save, from the time since the last save and the estimated time of the next."""

    since: float = field(default_factory=time.monotonic)
    """When the last save ended, or the work began."""

    def is_due(self, state: Mapping[str, Tensor]) -> bool:
        """Whether to save `state` now."""
        takes = bytes_of(state) / BYTES_A_SECOND
        return takes < QUICK or time.monotonic() - self.since > WORK_TO_SAVING * takes

    def saved(self) -> None:
        """Note that the state has just been saved."""
        self.since = time.monotonic()


def bytes_of(state: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
