"""Matrices whose rows begin at multiples of 64 bytes.

A bias makes the inputs of a layer one number wider, for example 769 or 3,073. Products that write rows of such a length
are up to a third slower than those of 768 or 3,072 (docs/performance.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

LINE = 16
"""Float32 numbers in 64 bytes."""


def empty(rows: int, columns: int, *, like: Tensor) -> Tensor:
    """An uninitialised matrix [rows, columns] of the type and device of `like`. It is a view that hides the padding."""
    return like.new_empty(rows, columns + -columns % LINE)[:, :columns]


def zeros(rows: int, columns: int, *, like: Tensor) -> Tensor:
    """A matrix [rows, columns] of zeros, with aligned rows."""
    return empty(rows, columns, like=like).zero_()


def copy(matrix: Tensor) -> Tensor:
    """A copy of `matrix` with aligned rows, or `matrix` itself if they are aligned already."""
    if matrix.stride() == (matrix.shape[1] + -matrix.shape[1] % LINE, 1):
        return matrix
    rows, columns = matrix.shape
    return empty(rows, columns, like=matrix).copy_(matrix)


def matmul(vectors: Tensor, matrix: Tensor) -> Tensor:
    """`vectors` [..., m] times `matrix` [m, n]: [..., n] with aligned rows."""
    flat = vectors.flatten(0, -2)
    product = empty(len(flat), matrix.shape[1], like=vectors)
    return torch.mm(flat, matrix, out=product).unflatten(0, vectors.shape[:-1])
