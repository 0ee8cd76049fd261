"""Compiled loops of the sketch: encoding whitened gradients, and summing table look-ups over codes.

Each function is compiled once and cached on disk by numba. Threads share the work (`headwater.base.compiled`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from headwater.base.compiled import compiled, inlined

BLOCK = 128
"""Coordinates that one byte of a sketch encodes: seven bits select one of them, the eighth is its sign."""
LANES = 64
"""Blocks processed side by side, so that every step is a loop over contiguous numbers."""
TILE = 32
"""Bytes of a code looked up together: their tables (32 KB) stay in the first-level cache."""


@compiled
def encode(
    whitened: Any, flips: Any, offsets: Any, signs: Any, steps: Any, codes: Any, energies: Any, alignments: Any
) -> None:  # pragma: no cover
    """Encode the rows of `whitened` [n, D] into `codes` [n, P · blocks], with `energies` [n] and `alignments` [n].

    The energy of a row is its squared norm. The row is then scaled to a mean square of 1; its alignment is the dot
    product of the scaled row with its decoded form. Encoding is matching pursuit, block by block: in plane p the
    coordinates of a block are rotated by a signed Hadamard matrix (`signs` [P, 128]), the largest is encoded, and
    `steps[p]` times its direction is subtracted before the next plane.
    """
    planes = signs.shape[0]
    blocks = codes.shape[1] // planes
    whole = np.empty((BLOCK, LANES), np.float32)
    rest = np.empty((BLOCK, LANES), np.float32)
    rotated = np.empty((BLOCK, LANES), np.float32)
    largest = np.empty(LANES, np.float32)
    index = np.empty(LANES, np.int32)
    for i in range(len(whitened)):
        row = whitened[i]
        energies[i] = _energy(row)
        unit = np.float32(0) if energies[i] == 0 else np.float32(math.sqrt(blocks * BLOCK / energies[i]))
        alignment = np.float32(0)
        for first in range(0, blocks, LANES):
            width = min(LANES, blocks - first)
            _gather(row, flips, offsets, unit, first, blocks, rest)
            whole[:] = rest
            for plane in range(planes):
                _rotate(rest, signs[plane], rotated)
                _find_largest(rotated, largest, index)
                for lane in range(width):
                    codes[i, plane * blocks + first + lane] = index[lane] + (BLOCK if largest[lane] < 0 else 0)
                _subtract(rest, signs[plane], steps[plane], largest, index)
            alignment += _alignment(whole, rest, width)
        alignments[i] = alignment


@inlined
def _energy(row: Any) -> Any:
    """The squared norm, summed in parts so that a long row loses no precision."""
    total = 0.0
    for start in range(0, len(row), 4096):
        part = np.float32(0)
        for d in range(start, min(start + 4096, len(row))):
            part += row[d] * row[d]
        total += part
    return total


@inlined
def _gather(row: Any, flips: Any, offsets: Any, unit: Any, first: int, blocks: int, rest: Any) -> None:
    """Fill `rest` [128, lanes] with the coordinates of the blocks from `first` on (see Sketch.sources)."""
    for j in range(BLOCK):
        for lane in range(LANES):
            rest[j, lane] = 0
    for stretch in range(len(offsets)):
        target = rest[stretch % BLOCK]
        start = stretch * blocks
        begin = (first + offsets[stretch]) % blocks
        if begin + LANES <= blocks and start + begin + LANES <= len(row):
            values = row[start + begin : start + begin + LANES]
            flip = flips[start + begin : start + begin + LANES]
            for lane in range(LANES):
                target[lane] += values[lane] * flip[lane] * unit
        else:
            for lane in range(min(LANES, blocks - first)):
                d = start + (begin + lane) % blocks
                if d < len(row):
                    target[lane] += row[d] * flips[d] * unit


@inlined
def _rotate(rest: Any, signs: Any, rotated: Any) -> None:
    """Rotate every block: multiply by `signs`, apply a fast Walsh–Hadamard transform, divide by √128."""
    root = np.float32(1 / math.sqrt(BLOCK))
    for j in range(BLOCK):
        for lane in range(LANES):
            rotated[j, lane] = rest[j, lane] * (signs[j] * root)
    half = 1
    while half < BLOCK:
        for start in range(0, BLOCK, 2 * half):
            for j in range(start, start + half):
                _butterfly(rotated[j], rotated[j + half])
        half *= 2


@inlined
def _butterfly(upper: Any, lower: Any) -> None:
    for lane in range(LANES):
        u, v = upper[lane], lower[lane]
        upper[lane] = u + v
        lower[lane] = u - v


@inlined
def _find_largest(rotated: Any, largest: Any, index: Any) -> None:
    """The coordinate of the largest absolute value in every block, and its index."""
    for lane in range(LANES):
        largest[lane] = 0
        index[lane] = 0
    for j in range(BLOCK):
        for lane in range(LANES):
            value, best = rotated[j, lane], largest[lane]
            better = abs(value) > abs(best)
            largest[lane] = value if better else best
            index[lane] = np.int32(j) if better else index[lane]


@inlined
def _subtract(rest: Any, signs: Any, step: Any, largest: Any, index: Any) -> None:
    """Subtract `step` times the encoded basis vector. Entry (j, k) of a Hadamard matrix is (−1)^popcount(j & k)."""
    root = np.float32(1 / math.sqrt(BLOCK))
    amount = np.empty(LANES, np.float32)
    for lane in range(LANES):
        amount[lane] = step * root if largest[lane] >= 0 else -step * root
    for j in range(BLOCK):
        sign = signs[j]
        for lane in range(LANES):
            odd = _popcount(index[lane] & np.int32(j)) & 1  # pyright: ignore[reportCallIssue]
            rest[j, lane] -= sign * amount[lane] * np.float32(1 - 2 * odd)


@inlined
def _alignment(whole: Any, rest: Any, width: int) -> Any:
    """Dot product of the blocks with what was subtracted from them."""
    total = np.float32(0)
    for j in range(BLOCK):
        for lane in range(width):
            total += whole[j, lane] * (whole[j, lane] - rest[j, lane])
    return total


@intrinsic
def _popcount(typing: Any, number: Any) -> Any:
    return types.int32(types.int32), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@compiled
def look_up(codes: Any, rows: Any, table: Any, sums: Any) -> None:  # pragma: no cover
    """Add to `sums` [n] the entries of `table` [bytes, 256] at the `codes` [N, bytes] of the n `rows`."""
    width = codes.shape[1]
    whole = width - width % TILE
    for start in range(0, whole, TILE):
        tile = table[start : start + TILE]
        for i in range(len(rows)):
            code = codes[rows[i], start : start + TILE]
            first, second, third, fourth = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for j in range(0, TILE, 4):  # four sums, so that additions do not wait for each other
                first += tile[j, code[j]]
                second += tile[j + 1, code[j + 1]]
                third += tile[j + 2, code[j + 2]]
                fourth += tile[j + 3, code[j + 3]]
            sums[i] += first + second + third + fourth
    for i in range(len(rows)):
        for j in range(whole, width):
            sums[i] += table[j, codes[rows[i], j]]
