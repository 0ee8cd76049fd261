"""How a long piece of work says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """One batch is done."""

    stage: str
    """What is being done, in words a person would use: "covariances", "scores"."""
    done: int
    """Examples finished, those of an earlier, interrupted run included."""
    total: int
    tokens: int
    """Tokens of this batch; 0 where a stage starts or resumes."""
    note: str = ""
    """Said beside the bar, such as a training's loss."""


Report = Callable[[Step], None]


def silent(_: Step) -> None:
    """Report to nobody."""
