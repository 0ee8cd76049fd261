"""The table of the sections in which a fit works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from headwater.base.byte_sizes import in_bytes

if TYPE_CHECKING:
    from headwater.curvature.sections import Section


def parts_table(parts: Sequence[Section]) -> Table:
    """One row per section: first layer, number of layers, and bytes."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("section, from layer", no_wrap=True)
    for column in ("layers", "covariances", "Λ", "at most"):
        table.add_column(column, justify="right")
    for number, part in enumerate(parts, start=1):
        table.add_row(
            f"{number}. {part.layers[0].name}",
            str(len(part.layers)),
            in_bytes(part.covariances),
            in_bytes(part.eigenvalues),
            in_bytes(part.peak),
        )
    return table
