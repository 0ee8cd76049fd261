"""Sketches: a whitened gradient of D numbers in a few thousand bytes that keep its dot products.

The dot product of two whitened gradients is the influence. A question's own stays in float: every byte of a sketch has
a table of 256 numbers made from it, and an estimate is the sum of what the bytes look up there, times the example's own
factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.index.options import DEFAULT_BYTES, DEFAULT_KIND
from headwater.base.plugins import SKETCHES
from headwater.errors import HeadwaterError

FEWEST_BYTES, MOST_BYTES = 64, 1 << 20


@dataclass(frozen=True)
class Codes:
    """Sketches of n examples."""

    codes: NDArray[np.uint8]
    """[n, bytes], plane after plane."""
    scales: NDArray[np.float32]
    """[n] what the looked-up sum is multiplied with to estimate the influence without bias."""
    energies: NDArray[np.float64]
    """[n] squared norms of the whitened gradients: I(z, z)."""


class Sketch(Protocol):
    """How whitened gradients are sketched: a frozen dataclass of numbers, which give the same sketch everywhere.

    One of them is called `seed`.
    """

    @property
    def dimensions(self) -> int:
        """D: numbers of a whitened gradient."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes an example. The first of them must tell by themselves, roughly, what all do."""
        ...

    @property
    def noise(self) -> float:
        """Standard deviation of an estimated influence over √(I(q, q) · I(z, z)), for gradients in general position."""
        ...

    def encode(self, whitened: NDArray[Any]) -> Codes:
        """Sketch the rows of `whitened` [n, D]; a row of zeros gets a scale of zero."""
        ...

    def table(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """[bytes, 256] for a query's whitened gradient [D]: what each value of each byte adds to the dot product."""
        ...


@dataclass(frozen=True)
class SketchKind:
    """One way to sketch."""

    of_width: Callable[[int, int, int], Sketch]
    """Of D dimensions, bytes an example at most, and a seed: the sketch."""
    read: Callable[..., Sketch]
    """Its class: of every field by its name, the sketch again. The fields are numbers, kept as JSON with the index."""


def sketch_kind(name: str, package: str = "") -> SketchKind:
    """The kind of that name. Raises HeadwaterError where there is none (see plugins.Group.load)."""
    return SKETCHES.load(name, package)


def sketch_of_width(dimensions: int, width: int = DEFAULT_BYTES, seed: int = 0, *, kind: str = DEFAULT_KIND) -> Sketch:
    """The sketch of D `dimensions` that takes about `width` bytes an example, and not more.

    Raises HeadwaterError for a width out of bounds, or where there is no such kind.
    """
    if not FEWEST_BYTES <= width <= MOST_BYTES:
        raise HeadwaterError(f"--bytes {width}: a sketch takes between {FEWEST_BYTES} and {MOST_BYTES:,} bytes.")
    return sketch_kind(kind).of_width(dimensions, width, seed)
