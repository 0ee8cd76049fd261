"""Eigenbases of the covariances, and the second sweep of EK-FAC: the corrected eigenvalues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.errors import HeadwaterError
from headwater.gradients import aligned_rows
from headwater.gradients.basis import Basis, numbered
from headwater.gradients.factored import Bases, FactoredGradient, rotated
from headwater.lm.layers import TrackedLayer

RESIDUAL_TOLERANCE = 1e-4
PROBES = 32
"""Random vectors that a decomposition is checked with; checking it whole would take half as long as making it."""


def eigendecompose(matrix: Tensor, name: str = "matrix") -> tuple[Tensor, Tensor]:
    """Eigenvalues [n] ascending and eigenvectors [n, n] (columns) of a symmetric positive semidefinite matrix.

    Runs in the matrix's own precision and checks the residual `‖M Q − Q Λ‖ ≤ 1e-4 ‖M‖` and orthogonality; where
    either fails, again in float64. Eigenvalues are clipped at zero. Raises HeadwaterError when the input is not
    finite.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise HeadwaterError(f"The covariance of {name} is not finite: an activation or gradient overflowed.")
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
    """Both norms, estimated by a few random vectors: E ‖E x‖² = ‖E‖² for x of unit variance."""
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
    """The covariances of some layers, decomposed."""

    tensors: Mapping[str, Tensor]
    """`Q <name>` [n, n] and `λ <name>` [n] by the name of the covariance (see `Covariances.names`)."""

    def pairs(self, layers: Sequence[TrackedLayer]) -> Bases:
        """(Q_A, Q_S) of every layer; layers of a group share the same Q_A."""
        inputs = {layer.group: Basis(tuple(self._blocks(f"Q {layer.group}.A"))) for layer in layers}
        return {layer.name: (inputs[layer.group], Basis(tuple(self._blocks(f"Q {layer.name}.S")))) for layer in layers}

    def outer(self, layer: TrackedLayer) -> Tensor:
        """λ_S λ_Aᵀ [O, I] of a layer."""
        return torch.outer(torch.cat(self._blocks(f"λ {layer.name}.S")), torch.cat(self._blocks(f"λ {layer.group}.A")))

    def _blocks(self, name: str) -> list[Tensor]:
        return numbered(name, self.tensors)


class Eigenvalues:
    """Λ = E[(Q_Sᵀ G Q_A)²] over examples: the variance of the gradient along each pair of eigenvectors.

    George et al. 2018, eq. 6; Grosse et al. 2023, eq. 20. Without bases it is the diagonal of the Fisher itself.
    `bases` maps a layer to (Q_A, Q_S) or (None, None).
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
        """Λ [O, I] of a layer."""
        return self.sums[name] / self.examples


def _add_squares(total: Tensor, gradients: Tensor) -> None:
    """Add the squares of gradients [b, O, I] to `total` [O, I]; on a processor one by one, as few fit its cache."""
    if total.device.type != "cpu":
        total += gradients.square_().sum(dim=0)
        return
    for gradient in gradients:
        total.addcmul_(gradient, gradient)
