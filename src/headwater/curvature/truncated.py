"""Whitened gradients along the strongest directions of every layer alone: what sketches of wide layers are made of.

A layer's gradient in its eigenbasis has O I numbers; making them costs I² + O² a token, and O I more. Few of them
matter: along eigenvectors with eigenvalue Λ a whitened gradient has the mean square Λ / (Λ + λ), and Λ falls off
steeply. So activations and output gradients are brought into the k strongest directions of either side, at
k (I + O) + k² a token, and the k² numbers that they give are whitened by their own eigenvalues. Nothing as wide as the
layer is formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from headwater.base.shown import counted
from headwater.curvature.base import Curvature, EigenCurvature, whitened
from headwater.errors import HeadwaterError
from headwater.gradients.basis import Basis
from headwater.gradients.factored import Bases, FactoredGradient, match_layout
from headwater.lm.layers import TrackedLayer


@dataclass(frozen=True, kw_only=True, repr=False)
class TruncatedCurvature:
    """A curvature seen along some directions of its layers alone."""

    layers: tuple[TrackedLayer, ...]
    places: Mapping[str, tuple[Tensor, Tensor]]
    """layer -> the directions of its outputs [k_O] and of its inputs [k_I], by their places in the whole bases"""
    bases: Bases
    """layer -> (Q_A [I, k_I], Q_S [O, k_O])"""
    roots: Mapping[str, Tensor]
    """layer -> 1 / √(Λ + λ) [k_O, k_I]"""
    share: float
    """Of the mean I(z, z): Σ Λ / (Λ + λ) over these directions to that over all."""

    def __repr__(self) -> str:
        size = f"{counted(len(self.layers), 'layer')}, {counted(self.dimensions, 'direction')}"
        return f"TruncatedCurvature({size}, {self.share:.0%} of I(z, z))"

    @property
    def dimensions(self) -> int:
        """D: numbers of a whitened gradient."""
        return sum(root.numel() for root in self.roots.values())

    def whiten(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """[B, D] the part of the examples' whitened gradients along these directions."""
        return whitened(gradients, self.bases, self.roots)


@lru_cache(maxsize=1)
def truncated(curvature: Curvature, directions: int) -> TruncatedCurvature:
    """`curvature` along the `directions` strongest eigenvectors of every layer's inputs, and of its outputs.

    A direction is as strong as the mean square of whitened gradients along it. Layers that share their inputs share
    their directions too. Raises HeadwaterError for a kind without eigenbases.
    """
    if not isinstance(curvature, EigenCurvature) or any(Q_A is None for Q_A, _ in curvature.pairs.values()):
        raise HeadwaterError(f"--directions are eigenvectors, which a curvature of kind {curvature.kind} has none of.")
    places = _places(curvature, directions)
    inputs: dict[str, Basis] = {}
    bases: dict[str, tuple[Basis, Basis]] = {}
    roots: dict[str, Tensor] = {}
    whole = kept = 0.0
    for layer in curvature.layers:
        Q_A, Q_S = curvature.pairs[layer.name]
        assert Q_A is not None
        assert Q_S is not None
        rows, columns = places[layer.name]
        if layer.group not in inputs:
            inputs[layer.group] = Q_A.truncate(columns)
        bases[layer.name] = inputs[layer.group], Q_S.truncate(rows)
        roots[layer.name] = match_layout(curvature.roots[layer.name][rows][:, columns][None])[0]
        energy = _energy(curvature, layer)
        whole, kept = whole + float(energy.sum()), kept + float(energy[rows][:, columns].sum())
    return TruncatedCurvature(layers=curvature.layers, places=places, bases=bases, roots=roots, share=kept / whole)


def truncate(curvature: Curvature, directions: int) -> Curvature | TruncatedCurvature:
    """`curvature` along its strongest `directions`; along all of them where that is 0."""
    return truncated(curvature, directions) if directions else curvature


def project(curvature: Curvature, narrow: TruncatedCurvature, preconditioned: Mapping[str, Tensor]) -> Tensor:
    """[Q, D] the part along the directions of `narrow` of whitened gradients, from preconditioned ones [Q, O, I]."""
    assert isinstance(curvature, EigenCurvature)
    parts: list[Tensor] = []
    for name, (rows, columns) in narrow.places.items():
        rotated = curvature.bases[name].to_eigenbasis(preconditioned[name])[:, rows][:, :, columns]
        parts.append((rotated / narrow.roots[name]).flatten(1))
    return torch.cat(parts, dim=1)


def _places(curvature: EigenCurvature, count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """layer -> the strongest directions of its outputs and of its inputs."""
    if count < 1:
        raise HeadwaterError(f"--directions {count}: look at one at least.")
    by_input: dict[str, Tensor] = {}
    for layer in curvature.layers:
        energy = _energy(curvature, layer).sum(0)
        by_input[layer.group] = by_input[layer.group] + energy if layer.group in by_input else energy
    return {
        layer.name: (_strongest(_energy(curvature, layer).sum(1), count), _strongest(by_input[layer.group], count))
        for layer in curvature.layers
    }


def _energy(curvature: EigenCurvature, layer: TrackedLayer) -> Tensor:
    """Λ / (Λ + λ) [O, I]: the mean square of whitened gradients along each direction."""
    return curvature.bases[layer.name].eigenvalues * curvature.inverse_eigenvalues[layer.name]


def _strongest(energies: Tensor, count: int) -> Tensor:
    """The places of the `count` largest, rising."""
    return torch.topk(energies, min(count, len(energies))).indices.sort().values
