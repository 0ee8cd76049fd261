"""Options of `index`, declared once. Loads neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from headwater.base.options import Option
from headwater.base.plugins import SKETCHES

DEFAULT_BYTES = 8192
"""Default number of bytes of sketch per example."""
DEFAULT_KIND = "planes"
SketchBytes = Annotated[
    int | None,
    Option(
        help="Bytes of sketch per example: more bytes find more.",
        none=f"what the index has, or else {DEFAULT_BYTES}",
        flags=("--bytes",),
    ),
]
Directions = Annotated[
    int | None,
    Option(
        help="Eigenvectors kept on each side of a layer: cheaper for wide layers, but finds less. 0 keeps all.",
        none="what the index has, or else all",
        minimum=0,
    ),
]


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How an index is built."""

    bytes: SketchBytes = None
    directions: Directions = None
    sketch: Annotated[
        str | None,
        Option(
            help="Kind of sketch: planes, or one of a plugin.",
            none="what the index has, or else planes",
            choices=SKETCHES,
        ),
    ] = None
    store: Annotated[
        str | None,
        Option(
            help="URL of an object store's folder for the table (s3://…, gs://…, az://…).",
            none="where the table is, or else RUN",
        ),
    ] = None
    seed: Annotated[int, Option(help="Seed of the sketch's random signs.", minimum=0)] = 0
