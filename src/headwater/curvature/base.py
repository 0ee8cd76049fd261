"""Curvatures behind one interface, and those of them that are diagonal in a Kronecker-factored basis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from headwater.base.shown import counted
from headwater.curvature.damping import Damping
from headwater.errors import HeadwaterError
from headwater.gradients.basis import Basis
from headwater.gradients.factored import Bases, FactoredGradient, match_layout, per_example, rotated, stored_transposed
from headwater.lm.layers import TrackedLayer


class Curvature(Protocol):
    """An inverse damped curvature (H + λI)⁻¹, H the mean over examples of the summed loss's Fisher."""

    @property
    def kind(self) -> str: ...
    @property
    def damping(self) -> Damping: ...
    @property
    def layers(self) -> tuple[TrackedLayer, ...]: ...

    def precondition(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(H + λI)⁻¹ applied to gradients {layer: [Q, O, I]}; the same shapes come back."""
        ...

    def precondition_factored(self, gradients: Mapping[str, FactoredGradient]) -> dict[str, Tensor]:
        """The same for the factored gradients of B examples: layer -> [B, O, I]."""
        ...

    @property
    def dimensions(self) -> int:
        """D: tracked parameters."""
        ...

    @property
    def share(self) -> float:
        """Of I(z, z), so much is the squared norm of what `whiten` gives: 1, unless some directions are left out."""
        ...

    def whiten(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """[B, D] (H + λI)^-½ applied to the examples' gradients: dot products of whitened gradients are influences.

        D counts the tracked parameters, layer after layer. The root is the one that the curvature's own basis gives.
        """
        ...

    def whitened_from(self, preconditioned: Mapping[str, Tensor]) -> Tensor:
        """[Q, D] (H + λI)^½ applied to preconditioned gradients {layer: [Q, O, I]}: the whitened ones."""
        ...

    def self_influence(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """[B] I(z, z) of every example of a batch: the squared norms of the whitened gradients."""
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
    """One layer's curvature `(Q_S ⊗ Q_A) diag(Λ) (Q_S ⊗ Q_A)ᵀ`; a basis of None is the identity."""

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
        if stored_transposed((gradients.shape[1], gradients.shape[2])):  # held as the gradients of such a layer are
            return self.output_basis.rows(self.input_basis.columns(gradients.mT)).mT
        return self.input_basis.rows(self.output_basis.columns(gradients))

    def from_eigenbasis(self, rotated: Tensor) -> Tensor:
        """Q_S G̃ Q_Aᵀ: the inverse of `to_eigenbasis`."""
        if self.input_basis is None or self.output_basis is None:
            return rotated
        if stored_transposed((rotated.shape[1], rotated.shape[2])):
            return self.output_basis.rows_back(self.input_basis.columns_back(rotated.mT)).mT
        return self.input_basis.rows_back(self.output_basis.columns_back(rotated))


@dataclass(frozen=True, eq=False, repr=False)
class EigenCurvature:
    """Every kind that is diagonal in a Kronecker-factored basis.

    EK-FAC (George et al. 2018), K-FAC (Λ = T̄ λ_S λ_Aᵀ), the diagonal of the Fisher (bases None), and the identity
    (bases None, Λ = 1, λ = 0: the plain gradient dot product).
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
        return self.damping.value(float(self.bases[layer].eigenvalues.mean()), layer)

    @cached_property
    def inverse_eigenvalues(self) -> dict[str, Tensor]:
        """1 / (Λ + λ), [O, I] a layer. Raises HeadwaterError where λ = 0 leaves a direction without curvature."""
        inverses: dict[str, Tensor] = {}
        for name, basis in self.bases.items():
            damped = basis.eigenvalues + self.damping_of(name)
            inverses[name] = match_layout(damped.reciprocal_()[None])[0]
            if not bool(torch.isfinite(inverses[name]).all()):
                raise HeadwaterError(
                    f"Layer {name} has directions of zero curvature, which damping {self.damping.describe()} leaves "
                    "without an inverse. Set a larger --damping."
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
        """(Q_A, Q_S) of every layer."""
        return {name: (basis.input_basis, basis.output_basis) for name, basis in self.bases.items()}

    @cached_property
    def roots(self) -> dict[str, Tensor]:
        """1 / √(Λ + λ), [O, I] a layer, in the order of the layers."""
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
    """[B, D] the factored gradients of B examples in `bases`, times each layer's `roots` [k_O, k_I]."""
    first = next(iter(gradients.values()))
    sizes = [root.numel() for root in roots.values()]
    made = first.activations.new_empty(len(first), sum(sizes))
    by_layer = dict(zip(roots, made.split(sizes, dim=1), strict=True))
    for name, part, piece in rotated(gradients, bases):
        torch.mul(piece, roots[name], out=by_layer[name][part].view(piece.shape))
    return made


def identity(layers: Sequence[TrackedLayer], device: str = "cpu") -> EigenCurvature:
    """H + λI = I: influence is the plain gradient dot product, and needs no fitting."""
    bases = {
        layer.name: Eigenbasis(None, None, torch.ones(layer.outputs, layer.inputs, device=device)) for layer in layers
    }
    return EigenCurvature("identity", tuple(layers), bases, Damping(factor=None, absolute=0.0))
