"""The interface of a curvature, and the curvatures that are diagonal in a Kronecker-factored basis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from headwater.base.shown import counted
from headwater.curvature.damping import Damping, mean_eigenvalues
from headwater.errors import HeadwaterError
from headwater.gradients.basis import Basis
from headwater.gradients.factored import Bases, FactoredGradient, match_layout, per_example, rotated, stored_transposed
from headwater.lm.layers import TrackedLayer


class Curvature(Protocol):
    """An inverse damped curvature (H + λI)⁻¹. H is the Fisher of the summed loss, as a mean over examples."""

    @property
    def kind(self) -> str:
        """Its name, such as ekfac."""
        ...

    @property
    def damping(self) -> Damping: ...
    @property
    def layers(self) -> tuple[TrackedLayer, ...]: ...

    def precondition(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(H + λI)⁻¹ times gradients {layer: [Q, O, I]}, in the same shapes."""
        ...

    def precondition_factored(self, gradients: Mapping[str, FactoredGradient]) -> dict[str, Tensor]:
        """(H + λI)⁻¹ times the factored gradients of B examples: layer -> [B, O, I]."""
        ...

    @property
    def dimensions(self) -> int:
        """D: the number of tracked parameters."""
        ...

    @property
    def share(self) -> float:
        """The part of I(z, z) that is the squared norm of `whiten`: 1, unless directions are left out."""
        ...

    def whiten(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """(H + λI)^-½ times the gradients of B examples: [B, D], layer after layer.

        Dot products of whitened gradients are influences. The square root is the one in the curvature's own basis.
        """
        ...

    def whitened_from(self, preconditioned: Mapping[str, Tensor]) -> Tensor:
        """Whitened gradients [Q, D] from preconditioned ones {layer: [Q, O, I]}: these times (H + λI)^½."""
        ...

    def self_influence(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """I(z, z) of B examples: [B], the squared norms of their whitened gradients."""
        ...

    def damping_of(self, layer: str) -> float:
        """λ of one layer."""
        ...


def in_one_line(curvature: Curvature) -> str:
    """A curvature's `repr`: its kind, size and damping."""
    return (
        f"Curvature({curvature.kind}, {counted(len(curvature.layers), 'layer')}, "
        f"{counted(curvature.dimensions, 'parameter')}, damping {curvature.damping.describe()})"
    )


@dataclass(frozen=True, repr=False)
class Eigenbasis:
    """The curvature of one layer, `(Q_S ⊗ Q_A) diag(Λ) (Q_S ⊗ Q_A)ᵀ`. A basis of None is the identity."""

    input_basis: Basis | None
    """Q_A [I, I]"""
    output_basis: Basis | None
    """Q_S [O, O]"""
    eigenvalues: Tensor
    """Λ [O, I]"""

    def __repr__(self) -> str:
        outputs, inputs = self.eigenvalues.shape
        return f"Eigenbasis({outputs} × {inputs})"

    def to_eigenbasis(self, gradients: Tensor) -> Tensor:
        """Q_Sᵀ G Q_A for gradients [Q, O, I]."""
        if self.input_basis is None or self.output_basis is None:
            return gradients
        if stored_transposed((gradients.shape[1], gradients.shape[2])):  # the memory layout of the layer's gradients
            return self.output_basis.project_rows(self.input_basis.project_columns(gradients.mT)).mT
        return self.input_basis.project_rows(self.output_basis.project_columns(gradients))

    def from_eigenbasis(self, rotated: Tensor) -> Tensor:
        """Q_S G̃ Q_Aᵀ: the inverse of `to_eigenbasis`."""
        if self.input_basis is None or self.output_basis is None:
            return rotated
        if stored_transposed((rotated.shape[1], rotated.shape[2])):
            return self.output_basis.expand_rows(self.input_basis.expand_columns(rotated.mT)).mT
        return self.input_basis.expand_rows(self.output_basis.expand_columns(rotated))


@dataclass(frozen=True, eq=False, repr=False)
class EigenCurvature:
    """A curvature that is diagonal in a Kronecker-factored basis.

    EK-FAC (George et al. 2018), K-FAC (Λ = T̄ λ_S λ_Aᵀ), the diagonal of the Fisher (no bases), and the identity
    (no bases, Λ = 1, λ = 0: influence is the dot product of gradients).
    """

    kind: str
    layers: tuple[TrackedLayer, ...]
    bases: Mapping[str, Eigenbasis]
    damping: Damping

    def __repr__(self) -> str:
        return in_one_line(self)

    @property
    def dimensions(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def share(self) -> float:
        return 1.0

    def damping_of(self, layer: str) -> float:
        return self.damping.value(self._mean_eigenvalues[layer], layer)

    @cached_property
    def _mean_eigenvalues(self) -> dict[str, float]:
        means = {name: float(basis.eigenvalues.mean()) for name, basis in self.bases.items()}
        return mean_eigenvalues(self.layers, means)

    @cached_property
    def inverse_eigenvalues(self) -> dict[str, Tensor]:
        """layer -> 1 / (Λ + λ) [O, I]. Raises HeadwaterError if Λ + λ is zero in a direction."""
        inverses: dict[str, Tensor] = {}
        for name, basis in self.bases.items():
            damped = basis.eigenvalues + self.damping_of(name)
            inverses[name] = match_layout(damped.reciprocal_()[None])[0]
            if not bool(torch.isfinite(inverses[name]).all()):
                raise HeadwaterError(
                    f"Layer {name} has directions of zero curvature, which have no inverse with damping "
                    f"{self.damping.describe()}. Set a larger --damping."
                )
        return inverses

    def precondition(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.kind == "identity":
            return dict(gradients)
        return {
            name: self.bases[name].from_eigenbasis(
                self.bases[name].to_eigenbasis(gradient) * self.inverse_eigenvalues[name]
            )
            for name, gradient in gradients.items()
        }

    def precondition_factored(self, gradients: Mapping[str, FactoredGradient]) -> dict[str, Tensor]:
        if self.kind == "identity":
            return {name: per_example(gradient) for name, gradient in gradients.items()}
        parts: dict[str, list[Tensor]] = {name: [] for name in gradients}
        for name, _, piece in rotated(gradients, self.pairs):
            parts[name].append(self.bases[name].from_eigenbasis(piece.mul_(self.inverse_eigenvalues[name])))
        return {name: torch.cat(parts.pop(name)) for name in gradients}

    @cached_property
    def pairs(self) -> Bases:
        """layer -> (Q_A, Q_S)"""
        return {name: (basis.input_basis, basis.output_basis) for name, basis in self.bases.items()}

    @cached_property
    def roots(self) -> dict[str, Tensor]:
        """layer -> 1 / √(Λ + λ) [O, I], in the order of the layers."""
        return {layer.name: self.inverse_eigenvalues[layer.name].sqrt() for layer in self.layers}

    def whiten(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        return whitened(gradients, self.pairs, self.roots)

    def whitened_from(self, preconditioned: Mapping[str, Tensor]) -> Tensor:
        parts = [
            (self.bases[layer.name].to_eigenbasis(preconditioned[layer.name]) / self.roots[layer.name]).flatten(1)
            for layer in self.layers
        ]
        return torch.cat(parts, dim=1)

    def self_influence(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        first = next(iter(gradients.values())).activations
        total = first.new_zeros(len(first))
        for name, part, piece in rotated(gradients, self.pairs):
            total[part] += (piece.square_() * self.inverse_eigenvalues[name]).sum(dim=(1, 2))
        return total


def whitened(gradients: Mapping[str, FactoredGradient], bases: Bases, roots: Mapping[str, Tensor]) -> Tensor:
    """The factored gradients of B examples in `bases`, times the `roots` [k_O, k_I] of each layer: [B, D]."""
    first = next(iter(gradients.values()))
    sizes = [root.numel() for root in roots.values()]
    rows = first.activations.new_empty(len(first), sum(sizes))
    by_layer = dict(zip(roots, rows.split(sizes, dim=1), strict=True))
    for name, part, piece in rotated(gradients, bases):
        torch.mul(piece, roots[name], out=by_layer[name][part].view(piece.shape))
    return rows


def identity(layers: Sequence[TrackedLayer], device: str = "cpu") -> EigenCurvature:
    """H + λI = I. Influence is the dot product of gradients, and nothing is fitted."""
    bases = {
        layer.name: Eigenbasis(None, None, torch.ones(layer.outputs, layer.inputs, device=device)) for layer in layers
    }
    return EigenCurvature("identity", tuple(layers), bases, Damping(factor=None, absolute=0.0))
