"""Sketches: whitened gradients of D numbers in a few thousand bytes that keep dot products.

The dot product of two whitened gradients is the influence. The whitened gradient of a question stays in float. It gives
a table of 256 numbers for every byte of a sketch. An estimate is the sum of the numbers that the bytes of a sketch look
up, times the example's own scale.
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
    """[n, bytes] plane after plane."""
    scales: NDArray[np.float32]
    """[n] factors that make the looked-up sums unbiased estimates of influence."""
    energies: NDArray[np.float64]
    """[n] squared norms of the whitened gradients: I(z, z)."""


class Sketch(Protocol):
    """A way to sketch whitened gradients: a frozen dataclass whose fields are numbers, one of them `seed`.

    The same numbers give the same sketch on every machine.
    """

    @property
    def dimensions(self) -> int:
        """D, the size of a whitened gradient."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes per example. The first bytes alone must give a rough estimate."""
        ...

    @property
    def noise(self) -> float:
        """Standard deviation of an estimated influence over √(I(q, q) · I(z, z)), for gradients in general position."""
        ...

    def encode(self, whitened: NDArray[Any]) -> Codes:
        """Sketch the rows of `whitened` [n, D]; a row of zeros gets a scale of zero."""
        ...

    def table(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """[bytes, 256] for a query's whitened gradient [D]: the part of each value of each byte in the dot product."""
        ...


@dataclass(frozen=True)
class SketchKind:
    """A kind of sketch, as a plugin provides it."""

    of_width: Callable[[int, int, int], Sketch]
    """Makes a sketch from D, the maximum bytes per example, and a seed."""
    read: Callable[..., Sketch]
    """Makes a sketch from its fields by name. The fields are numbers, stored as JSON with the index."""


def sketch_kind(name: str, package: str = "") -> SketchKind:
    """The kind with that name. Raises HeadwaterError if there is none (see plugins.Group.load)."""
    return SKETCHES.load(name, package)


def sketch_of_width(dimensions: int, width: int = DEFAULT_BYTES, seed: int = 0, *, kind: str = DEFAULT_KIND) -> Sketch:
    """The sketch of D `dimensions` that takes at most, and about, `width` bytes per example.

    Raises HeadwaterError for a width outside the limits, or an unknown kind.
    """
    if not FEWEST_BYTES <= width <= MOST_BYTES:
        raise HeadwaterError(f"--bytes {width}: give a number between {FEWEST_BYTES} and {MOST_BYTES:,}.")
    return sketch_kind(kind).of_width(dimensions, width, seed)
