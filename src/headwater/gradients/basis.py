"""Orthonormal bases of a layer's inputs or outputs. The basis of a very wide layer is block-diagonal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import torch
from torch import Tensor

from headwater.gradients import aligned_rows

Product = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Basis:
    """k orthonormal directions in n dimensions: the columns of Q [n, k], which is block-diagonal."""

    blocks: tuple[Tensor, ...]
    """[n_b, k_b] each. k < n in a truncated basis."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)"""
        return sum(len(block) for block in self.blocks), sum(block.shape[1] for block in self.blocks)

    def project_rows(self, rows: Tensor) -> Tensor:
        """x Q: [..., n] -> [..., k]."""
        product = aligned_rows.matmul if rows.is_contiguous() else torch.matmul
        return _blockwise(rows, -1, [len(block) for block in self.blocks], blocks=self.blocks, product=product)

    def expand_rows(self, rows: Tensor) -> Tensor:
        """x Qᵀ: [..., k] -> [..., n]."""
        product = aligned_rows.matmul if rows.is_contiguous() else torch.matmul
        transposed = [block.mT for block in self.blocks]
        return _blockwise(rows, -1, [len(block) for block in transposed], blocks=transposed, product=product)

    def project_columns(self, columns: Tensor) -> Tensor:
        """Qᵀ x: [..., n, m] -> [..., k, m]."""
        sizes = [len(block) for block in self.blocks]
        return _blockwise(columns, -2, sizes, blocks=self.blocks, product=lambda x, b: b.mT @ x)

    def expand_columns(self, columns: Tensor) -> Tensor:
        """Q x: [..., k, m] -> [..., n, m]."""
        sizes = [block.shape[1] for block in self.blocks]
        return _blockwise(columns, -2, sizes, blocks=self.blocks, product=lambda x, b: b @ x)

    def truncate(self, directions: Tensor) -> Basis:
        """The basis of some of its directions, given by their indices [k] in rising order."""
        blocks: list[Tensor] = []
        start = 0
        for block in self.blocks:
            own = directions[(directions >= start) & (directions < start + block.shape[1])] - start
            blocks.append(aligned_rows.copy(block[:, own]))
            start += block.shape[1]
        return Basis(tuple(blocks))

    def dense(self) -> Tensor:
        """Q [n, k]"""
        return torch.block_diag(*self.blocks)


def spans(width: int, most: int | None) -> list[slice]:
    """`width` numbers in the fewest spans of similar length that have at most `most` each. None is one span."""
    pieces = 1 if most is None else -(-width // most)
    step = -(-width // pieces)
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]


def numbered_blocks(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The tensors `name.0`, `name.1` and so on."""
    return [tensors[f"{name}.{k}"] for k in takewhile(lambda k: f"{name}.{k}" in tensors, count())]


def _blockwise(
    vectors: Tensor, dim: int, sizes: Sequence[int], *, blocks: Sequence[Tensor], product: Product
) -> Tensor:
    """Split `vectors` along `dim` into `sizes`, multiply each part by its block, and join the products."""
    if len(blocks) == 1:
        return product(vectors, blocks[0])
    return torch.cat([product(x, block) for x, block in zip(vectors.split(list(sizes), dim), blocks, strict=True)], dim)
