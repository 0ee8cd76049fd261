"""Eigenbases of the covariances, and the eigenvalues Λ in them, which are the second sweep of EK-FAC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.errors import HeadwaterError
from headwater.gradients import aligned_rows
from headwater.gradients.basis import Basis, numbered_blocks
from headwater.gradients.factored import Bases, FactoredGradient, rotated
from headwater.lm.layers import TrackedLayer

RESIDUAL_TOLERANCE = 1e-4
"""Largest relative error of a decomposition in its own precision."""
PROBES = 32
"""Random vectors that check a decomposition. A full check would take half the time of the decomposition."""


def eigendecompose(matrix: Tensor, name: str = "matrix") -> tuple[Tensor, Tensor]:
    """Eigenvalues [n] in rising order, and eigenvectors [n, n] (columns), of a symmetric positive semidefinite matrix.

    It runs in the matrix's own precision, and checks the residual `‖M Q − Q Λ‖ ≤ 1e-4 ‖M‖` and the orthogonality. If
    a check fails, it runs again in float64. Eigenvalues are clipped at zero. Raises HeadwaterError if the matrix is not
    finite.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise HeadwaterError(
            f"The covariance of {name} is not finite: an activation or gradient overflowed. Use --dtype fp32."
        )
    values, vectors = _eigh(matrix)
    if not _accurate(matrix, values, vectors):
        values, vectors = _eigh(matrix.double())
    return values.clamp_(min=0).to(matrix.dtype), aligned_rows.copy(vectors.to(matrix.dtype))


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    try:
        return torch.linalg.eigh(matrix)
    except RuntimeError:  # LinAlgError is one
        return torch.linalg.eigh(matrix.double())


def _accurate(matrix: Tensor, values: Tensor, vectors: Tensor) -> bool:
    """Whether residual and orthogonality are good, from random vectors: E ‖M x‖² = ‖M‖² for x of unit variance."""
    vectors = vectors.to(matrix.dtype)
    probes = torch.randn(len(matrix), PROBES, generator=torch.Generator().manual_seed(0)).to(matrix)
    rotated = vectors @ probes
    residual = (matrix @ rotated - vectors @ (probes * values.to(matrix.dtype)[:, None])).norm() / PROBES**0.5
    skew = (vectors.t() @ rotated - probes).norm() / PROBES**0.5
    return bool(residual <= RESIDUAL_TOLERANCE * matrix.norm()) and bool(
        skew <= RESIDUAL_TOLERANCE * len(matrix) ** 0.5
    )


@dataclass(frozen=True)
class Eigenbases:
    """The eigenbases of the covariances of some layers."""

    tensors: Mapping[str, Tensor]
    """`Q <name>` [n, n] and `λ <name>` [n] by the name of the covariance (see `Covariances.names`)."""

    def pairs(self, layers: Sequence[TrackedLayer]) -> Bases:
        """layer -> (Q_A, Q_S). Layers of a group share one Q_A."""
        inputs = {layer.group: Basis(tuple(self._blocks(f"Q {layer.group}.A"))) for layer in layers}
        return {layer.name: (inputs[layer.group], Basis(tuple(self._blocks(f"Q {layer.name}.S")))) for layer in layers}

    def outer(self, layer: TrackedLayer) -> Tensor:
        """λ_S λ_Aᵀ of a layer: [O, I]."""
        return torch.outer(torch.cat(self._blocks(f"λ {layer.name}.S")), torch.cat(self._blocks(f"λ {layer.group}.A")))

    def _blocks(self, name: str) -> list[Tensor]:
        return numbered_blocks(name, self.tensors)


class Eigenvalues:
    """Λ = E[(Q_Sᵀ G Q_A)²] over examples: the variance of the gradient along each pair of eigenvectors.

    George et al. 2018, eq. 6; Grosse et al. 2023, eq. 20. `bases` maps a layer to (Q_A, Q_S), or to (None, None) for
    the diagonal of the Fisher.
    """

    def __init__(self, layers: Sequence[TrackedLayer], bases: Bases) -> None:
        self.layers = tuple(layers)
        self.bases = bases
        self.sums: dict[str, Tensor] = {}
        self.examples = 0

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        for name, _, piece in rotated(gradients, self.bases):
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(piece[0])
            _add_squares(self.sums[name], piece)
        self.examples += len(batch.ids)

    def merge(self, other: Self) -> None:
        for name, total in other.sums.items():
            self.sums[name] = self.sums[name].add_(total) if name in self.sums else total
        self.examples += other.examples

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{name}.Λ": total for name, total in self.sums.items()} | {"counts": torch.tensor([self.examples])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sums = {layer.name: state[f"{layer.name}.Λ"] for layer in self.layers}
        self.examples = int(state["counts"][0])

    def mean(self, name: str) -> Tensor:
        """Λ of a layer: [O, I]."""
        return self.sums[name] / self.examples


def _add_squares(total: Tensor, gradients: Tensor) -> None:
    """Add the squares of gradients [b, O, I] to `total` [O, I]. On a CPU one by one, since few fit its cache."""
    if total.device.type != "cpu":
        total += gradients.square_().sum(dim=0)
        return
    for gradient in gradients:
        total.addcmul_(gradient, gradient)
