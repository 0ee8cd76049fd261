"""Choices of looking back at a training. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from headwater.base.options import Option

CheckpointMethod = Literal["tracin", "adam", "ekfac", "source"]
"""How the checkpoints of a training are added up."""
Method = Annotated[
    CheckpointMethod | None,
    Option(
        help="How checkpoints are added up: gradient products by learning rate (tracin), along Adam's steps (adam), by "
        "each checkpoint's own EK-FAC (ekfac), or as unrolled training (source).",
        none="tracin",
    ),
]
