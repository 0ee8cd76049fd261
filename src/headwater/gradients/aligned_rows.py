"""Matrices whose rows begin at multiples of 64 bytes.

A bias makes a layer's inputs one wider, 769 or 3,073 numbers, and products that write rows of such a length run up to a
third slower than those of 768 or 3,072 (docs/performance.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

LINE = 16
"""Numbers in 64 bytes of float32."""


def empty(rows: int, columns: int, *, like: Tensor) -> Tensor:
    """[rows, columns] without values, of the type and device of `like`; what fills the rows up is left out of it."""
    return like.new_empty(rows, columns + -columns % LINE)[:, :columns]


def zeros(rows: int, columns: int, *, like: Tensor) -> Tensor:
    """As `empty`, of zeros."""
    return empty(rows, columns, like=like).zero_()


def copy(matrix: Tensor) -> Tensor:
    """`matrix` with its rows aligned; itself where they are."""
    if matrix.stride() == (matrix.shape[1] + -matrix.shape[1] % LINE, 1):
        return matrix
    rows, columns = matrix.shape
    return empty(rows, columns, like=matrix).copy_(matrix)


def times(rows: Tensor, matrix: Tensor) -> Tensor:
    """[..., n] `rows` [..., m] times `matrix` [m, n], with aligned rows."""
    flat = rows.flatten(0, -2)
    product = empty(len(flat), matrix.shape[1], like=rows)
    return torch.mm(flat, matrix, out=product).unflatten(0, rows.shape[:-1])
