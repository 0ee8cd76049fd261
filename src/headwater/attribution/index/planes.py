"""Our own sketch: planes of bytes, each of which says which of 128 rotated coordinates is the largest.

The sketch deals the D coordinates out to blocks of 128,
adding several with random signs where there is not room for all (a count-sketch), and codes every block by one byte a
plane: which of 128 rotated coordinates is the largest, and its sign. That is product quantisation (Jégou et al. 2011)
with a biorthogonal codebook, which needs no training; further planes code what is left over (additive quantisation,
Babenko and Lempitsky 2014, by matching pursuit). The query stays in float: its dot product with a code is one table
look-up a byte. A byte of the first plane keeps 2.83² = 8.0 coordinates' worth of energy, where eight signs of random
projections keep 8 · 2/π = 5.1; measured, two thirds of the bytes find as much (docs/benchmarks.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.index.kernels import BLOCK, encode
from headwater.attribution.index.sketch import Codes, SketchKind
from headwater.base.compiled import in_parallel

MOST_PLANES = 16
LARGEST = 2.8333
"""E max |x| over 128 independent standard normal numbers: what one plane takes from a block."""


@dataclass(frozen=True)
class Planes:
    """A Sketch (see there)."""

    dimensions: int
    """D: tracked parameters."""
    blocks: int
    """Blocks of 128 coordinates."""
    planes: int
    seed: int = 0

    @property
    def bytes(self) -> int:
        """Bytes an example."""
        return self.blocks * self.planes

    @property
    def coordinates(self) -> int:
        """K: coordinates after folding."""
        return self.blocks * BLOCK

    @property
    def noise(self) -> float:
        """Standard deviation of an estimated influence over √(I(q, q) · I(z, z)), for gradients in general position.

        The planes keep the share κ = 1 − (1 − 2.83²/128)^P of a block's energy, the fold min(K / D, 1) of that; the
        rest is lost in a random direction of D dimensions.
        """
        kept = 1 - (1 - LARGEST**2 / BLOCK) ** self.planes
        kept *= min(1.0, self.coordinates / self.dimensions)
        return math.sqrt((1 / kept - 1) / self.dimensions)

    @cached_property
    def flips(self) -> NDArray[np.float32]:
        """[D] random signs."""
        signs = np.random.default_rng([self.seed, 0]).integers(0, 2, self.dimensions, dtype=np.int8)
        return (1 - 2 * signs).astype(np.float32)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """By how many blocks each stretch of `blocks` coordinates is turned before it is dealt out, one to a block."""
        stretches = -(-self.dimensions // self.blocks)
        return np.random.default_rng([self.seed, 1]).integers(0, self.blocks, stretches)

    @cached_property
    def signs(self) -> NDArray[np.float32]:
        """[P, 128] the signs of each plane's rotation."""
        signs = np.random.default_rng([self.seed, 2]).integers(0, 2, (self.planes, BLOCK), dtype=np.int8)
        return (1 - 2 * signs).astype(np.float32)

    @cached_property
    def steps(self) -> NDArray[np.float32]:
        """[P] the length that each plane's code stands for, of a block with a mean square of 1."""
        return (LARGEST * (1 - LARGEST**2 / BLOCK) ** (np.arange(self.planes) / 2)).astype(np.float32)

    def encode(self, whitened: NDArray[Any]) -> Codes:
        """Sketch the rows of `whitened` [n, D]; a row of zeros gets a scale of zero."""
        rows = np.ascontiguousarray(whitened, dtype=np.float32)
        assert rows.shape[1] == self.dimensions
        codes = np.empty((len(rows), self.bytes), np.uint8)
        alignments, energies = np.empty(len(rows), np.float32), np.empty(len(rows), np.float64)
        arguments = (self.flips, self.offsets, self.signs, self.steps)

        def work(start: int, stop: int) -> None:
            encode(rows[start:stop], *arguments, codes[start:stop], energies[start:stop], alignments[start:stop])

        in_parallel(work, len(rows), step=16)
        with np.errstate(divide="ignore", invalid="ignore"):
            scales = np.sqrt(energies * self.coordinates) / alignments
        return Codes(codes, np.where(energies > 0, scales, 0).astype(np.float32), energies)

    def fold(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """[n, blocks, 128] the coordinates of rows `whitened` [n, D], dealt out to the blocks."""
        stretches = len(self.offsets)
        padded = np.zeros((len(whitened), stretches * self.blocks), np.float32)
        padded[:, : self.dimensions] = whitened * self.flips
        folded = np.zeros((len(whitened), BLOCK, self.blocks), np.float32)
        for stretch, offset in enumerate(self.offsets.tolist()):
            values = padded[:, stretch * self.blocks : (stretch + 1) * self.blocks]
            folded[:, stretch % BLOCK] += np.roll(values, -offset, axis=1)
        return folded.transpose(0, 2, 1)

    def table(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """[bytes, 256] for a query's whitened gradient [D]: what each value of each byte adds to the dot product."""
        folded = self.fold(whitened[None])[0]
        turned = [step * (folded * signs) @ hadamard() for step, signs in zip(self.steps, self.signs, strict=True)]
        half = np.concatenate(turned)
        return np.ascontiguousarray(np.concatenate([half, -half], axis=1), dtype=np.float32)


def planes_of_width(dimensions: int, width: int, seed: int) -> Planes:
    """One plane where there are as many coordinates as 128 a byte can speak for, more planes where there is room left.

    At most 16, which keep two thirds of a gradient.
    """
    enough = -(-dimensions // BLOCK)
    planes = min(MOST_PLANES, max(1, round(width / enough)))
    return Planes(dimensions, min(enough, width // planes), planes, seed)


PLANES = SketchKind(planes_of_width, Planes)


def hadamard() -> NDArray[np.float32]:
    """[128, 128] the normalised Hadamard matrix in Sylvester's order."""
    matrix = np.ones((1, 1))
    while len(matrix) < BLOCK:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / math.sqrt(BLOCK)).astype(np.float32)
