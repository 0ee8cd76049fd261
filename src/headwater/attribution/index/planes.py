"""The built-in sketch, "planes": each byte selects the largest of 128 rotated coordinates, with its sign.

The D coordinates are distributed over blocks of 128. If there are not enough blocks, several coordinates are added with
random signs (a count-sketch). Each plane encodes every block in one byte: the index of the largest of its 128 rotated
coordinates, and its sign. That is product quantisation (Jégou et al. 2011) with a biorthogonal codebook, which needs no
training. Further planes encode the residual (additive quantisation, Babenko and Lempitsky 2014, by matching pursuit).
The query stays in float: its dot product with a code is one table look-up per byte. A byte of the first plane keeps the
energy of 2.83² = 8.0 coordinates, eight signs of random projections keep 8 · 2/π = 5.1. Measured, two thirds of the
bytes find as much (docs/benchmarks.md).
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
"""E max |x| over 128 independent standard normal numbers: the length that one plane subtracts from a block."""


@dataclass(frozen=True)
class Planes:
    """The built-in implementation of `Sketch`."""

    dimensions: int
    """D, the number of tracked parameters."""
    blocks: int
    """Number of blocks of 128 coordinates."""
    planes: int
    seed: int = 0

    @property
    def bytes(self) -> int:
        """Bytes per example."""
        return self.blocks * self.planes

    @property
    def coordinates(self) -> int:
        """K, the number of coordinates after folding."""
        return self.blocks * BLOCK

    @property
    def noise(self) -> float:
        """Standard deviation of an estimated influence over √(I(q, q) · I(z, z)), for gradients in general position.

        The planes keep the share κ = 1 − (1 − 2.83²/128)^P of a block's energy. Folding keeps min(K / D, 1) of that.
        The rest is lost in a random direction of D dimensions.
        """
        energy_kept = 1 - (1 - LARGEST**2 / BLOCK) ** self.planes
        energy_kept *= min(1.0, self.coordinates / self.dimensions)
        return math.sqrt((1 / energy_kept - 1) / self.dimensions)

    @cached_property
    def flips(self) -> NDArray[np.float32]:
        """[D] random signs."""
        signs = np.random.default_rng([self.seed, 0]).integers(0, 2, self.dimensions, dtype=np.int8)
        return (1 - 2 * signs).astype(np.float32)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Rotation of each run of `blocks` coordinates, in blocks, before they are distributed one to a block."""
        stretches = -(-self.dimensions // self.blocks)
        return np.random.default_rng([self.seed, 1]).integers(0, self.blocks, stretches)

    @cached_property
    def signs(self) -> NDArray[np.float32]:
        """[P, 128] signs of the rotation of each plane."""
        signs = np.random.default_rng([self.seed, 2]).integers(0, 2, (self.planes, BLOCK), dtype=np.int8)
        return (1 - 2 * signs).astype(np.float32)

    @cached_property
    def steps(self) -> NDArray[np.float32]:
        """[P] the length that a code of each plane decodes to, for blocks with a mean square of 1."""
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
        """[n, blocks, 128] the coordinates of rows `whitened` [n, D], distributed over the blocks."""
        stretches = len(self.offsets)
        padded = np.zeros((len(whitened), stretches * self.blocks), np.float32)
        padded[:, : self.dimensions] = whitened * self.flips
        folded = np.zeros((len(whitened), BLOCK, self.blocks), np.float32)
        for stretch, offset in enumerate(self.offsets.tolist()):
            values = padded[:, stretch * self.blocks : (stretch + 1) * self.blocks]
            folded[:, stretch % BLOCK] += np.roll(values, -offset, axis=1)
        return folded.transpose(0, 2, 1)

    def table(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """[bytes, 256] for a query's whitened gradient [D]: the part of each value of each byte in the dot product."""
        folded = self.fold(whitened[None])[0]
        rotated = [step * (folded * signs) @ hadamard() for step, signs in zip(self.steps, self.signs, strict=True)]
        half = np.concatenate(rotated)
        return np.ascontiguousarray(np.concatenate([half, -half], axis=1), dtype=np.float32)


def planes_of_width(dimensions: int, width: int, seed: int) -> Planes:
    """The sketch of about `width` bytes: one plane if it fills them, otherwise more planes.

    There are at most 16 planes, which keep two thirds of a gradient's energy.
    """
    full_blocks = -(-dimensions // BLOCK)
    planes = min(MOST_PLANES, max(1, round(width / full_blocks)))
    return Planes(dimensions, min(full_blocks, width // planes), planes, seed)


PLANES = SketchKind(planes_of_width, Planes)


def hadamard() -> NDArray[np.float32]:
    """[128, 128] the normalised Hadamard matrix in Sylvester's order."""
    matrix = np.ones((1, 1))
    while len(matrix) < BLOCK:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / math.sqrt(BLOCK)).astype(np.float32)
