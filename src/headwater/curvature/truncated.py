"""Whitened gradients along the strongest directions of every layer only, for the sketches of wide layers.

A layer's gradient in its eigenbasis has O I numbers. They cost I² + O² multiplications a token, and O I more. Few of
them matter: along a pair of eigenvectors with eigenvalue Λ, a whitened gradient has the mean square Λ / (Λ + λ), and Λ
falls off steeply. So activations and output gradients are projected on the k strongest directions of
each side, for k (I + O) + k² multiplications a token. The k² numbers that they give are whitened by their own
eigenvalues. Nothing as wide as the layer is formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from headwater.curvature.base import Curvature, EigenCurvature, whitened
from headwater.errors import HeadwaterError
from headwater.gradients.basis import Basis
from headwater.gradients.factored import Bases, FactoredGradient, match_layout
from headwater.lm.layers import TrackedLayer


@dataclass(frozen=True, kw_only=True)
class TruncatedCurvature:
    """A curvature along some directions of its layers only."""

    layers: tuple[TrackedLayer, ...]
    places: Mapping[str, tuple[Tensor, Tensor]]
    """layer -> the indices of its directions in the whole bases: of outputs [k_O], of inputs [k_I]"""
    bases: Bases
    """layer -> (Q_A [I, k_I], Q_S [O, k_O])"""
    roots: Mapping[str, Tensor]
    """layer -> 1 / √(Λ + λ) [k_O, k_I]"""
    share: float
    """The part of the mean I(z, z) in these directions: their Σ Λ / (Λ + λ), over the sum of all directions."""

    @property
    def dimensions(self) -> int:
        """D: the length of a whitened gradient."""
        return sum(root.numel() for root in self.roots.values())

    def whiten(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """The whitened gradients of B examples along these directions: [B, D]."""
        return whitened(gradients, self.bases, self.roots)


_latest: WeakKeyDictionary[EigenCurvature, tuple[int, TruncatedCurvature]] = WeakKeyDictionary()
"""curvature -> its last truncation, for later questions with the same directions. It keeps no curvature in memory."""


def truncated(curvature: Curvature, directions: int) -> TruncatedCurvature:
    """`curvature` along the `directions` strongest eigenvectors of every layer's inputs, and of its outputs.

    The strength of a direction is the mean square of whitened gradients along it. Layers that share their inputs share
    their directions. Raises HeadwaterError for a kind without eigenbases.
    """
    if not isinstance(curvature, EigenCurvature) or any(Q_A is None for Q_A, _ in curvature.pairs.values()):
        raise HeadwaterError(
            f"--directions selects eigenvectors, and a curvature of kind {curvature.kind} has none of them. Fit with "
            "--curvature ekfac or kfac, or leave out --directions."
        )
    known = _latest.get(curvature)
    if known is None or known[0] != directions:
        known = _latest[curvature] = directions, _truncate(curvature, directions)
    return known[1]


def truncate(curvature: Curvature, directions: int) -> Curvature | TruncatedCurvature:
    """`curvature` along its strongest `directions`, or the whole curvature if `directions` is 0."""
    return truncated(curvature, directions) if directions else curvature


def project(curvature: Curvature, narrow: TruncatedCurvature, preconditioned: Mapping[str, Tensor]) -> Tensor:
    """Whitened gradients along the directions of `narrow`, from preconditioned gradients [Q, O, I]: [Q, D]."""
    assert isinstance(curvature, EigenCurvature)
    parts: list[Tensor] = []
    for name, (rows, columns) in narrow.places.items():
        rotated = curvature.bases[name].to_eigenbasis(preconditioned[name])[:, rows][:, :, columns]
        parts.append((rotated / narrow.roots[name]).flatten(1))
    return torch.cat(parts, dim=1)


def _truncate(curvature: EigenCurvature, directions: int) -> TruncatedCurvature:
    places = _strongest_directions(curvature, directions)
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


def _strongest_directions(curvature: EigenCurvature, count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """layer -> the indices of the strongest directions of its outputs, and of its inputs."""
    if count < 1:
        raise HeadwaterError(f"--directions {count}: at least one direction is needed. 0 in `index` keeps all of them.")
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
    """The indices of the `count` largest, in rising order."""
    return torch.topk(energies, min(count, len(energies))).indices.sort().values
