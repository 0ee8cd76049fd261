"""Reports of the progress of long work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished batch."""

    stage: str
    """Name of the work, for people: "covariances", "scores"."""
    done: int
    """Finished examples, with those from before an interruption."""
    total: int
    tokens: int
    """Tokens of this batch. 0 at the start of a stage."""
    note: str = ""
    """Shown beside the bar, such as the loss of a training."""


Report = Callable[[Step], None]
"""Receives the steps of all stages."""


def silent(_: Step) -> None:
    """A Report that does nothing."""
