"""Orthonormal bases of a layer's inputs or outputs: one matrix, or several along the diagonal where it is very wide."""

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
    """k orthonormal directions of vectors of n numbers: the columns of Q [n, k], which is block-diagonal."""

    blocks: tuple[Tensor, ...]
    """[n_b, k_b] each. k < n where only some directions are looked at."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)"""
        return sum(len(block) for block in self.blocks), sum(block.shape[1] for block in self.blocks)

    def rows(self, vectors: Tensor) -> Tensor:
        """x Q: [..., n] -> [..., k]."""
        product = aligned_rows.times if vectors.is_contiguous() else torch.matmul
        return _blockwise(vectors, -1, [len(block) for block in self.blocks], blocks=self.blocks, product=product)

    def rows_back(self, vectors: Tensor) -> Tensor:
        """x Qᵀ: [..., k] -> [..., n]."""
        product = aligned_rows.times if vectors.is_contiguous() else torch.matmul
        transposed = [block.mT for block in self.blocks]
        return _blockwise(vectors, -1, [len(block) for block in transposed], blocks=transposed, product=product)

    def columns(self, vectors: Tensor) -> Tensor:
        """Qᵀ x: [..., n, m] -> [..., k, m]."""
        return _blockwise(
            vectors, -2, [len(block) for block in self.blocks], blocks=self.blocks, product=lambda x, b: b.mT @ x
        )

    def columns_back(self, vectors: Tensor) -> Tensor:
        """Q x: [..., k, m] -> [..., n, m]."""
        return _blockwise(
            vectors, -2, [block.shape[1] for block in self.blocks], blocks=self.blocks, product=lambda x, b: b @ x
        )

    def truncate(self, directions: Tensor) -> Basis:
        """Of these directions alone, given by their rising numbers [k]."""
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
    """`width` numbers in as few stretches of like length as have at most `most`; None is one stretch."""
    pieces = 1 if most is None else -(-width // most)
    step = -(-width // pieces)
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]


def numbered(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """`name.0`, `name.1` and so on, as many as there are."""
    return [tensors[f"{name}.{k}"] for k in takewhile(lambda k: f"{name}.{k}" in tensors, count())]


def _blockwise(
    vectors: Tensor, dim: int, sizes: Sequence[int], *, blocks: Sequence[Tensor], product: Product
) -> Tensor:
    """`product` of every stretch of `vectors` along `dim` with its block, side by side again."""
    if len(blocks) == 1:
        return product(vectors, blocks[0])
    return torch.cat([product(x, block) for x, block in zip(vectors.split(list(sizes), dim), blocks, strict=True)], dim)
