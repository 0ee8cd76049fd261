"""Headwater's own kinds of curvature: ekfac, kfac, diagonal, identity, exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headwater.curvature.base import Curvature, Eigenbasis, EigenCurvature, identity
from headwater.curvature.covariances import Covariances
from headwater.curvature.damping import Damping
from headwater.curvature.eigen import Eigenvalues
from headwater.curvature.exact import DenseFisher, ExactCurvature, refuse_if_large
from headwater.curvature.registry import CurvatureKind, Fitting
from headwater.gradients.factored import Bases
from headwater.lm.layers import TrackedLayer


def _ekfac(fitting: Fitting) -> EigenCurvature:
    """George et al. 2018: the eigenbases of the covariances, and Λ measured in them."""
    fitting = fitting.with_gradient_cache()
    return _measured(fitting, fitting.eigenbases(_covariances(fitting)).pairs(fitting.layers))


def _kfac(fitting: Fitting) -> EigenCurvature:
    """Martens & Grosse 2015: Λ = T̄ · λ_S λ_Aᵀ. Tokens count as independent, so their mean number T̄ is a factor."""
    layers, covariances = fitting.layers, _covariances(fitting)
    found = fitting.eigenbases(covariances)
    products = {layer.name: found.outer(layer) * covariances.mean_tokens(layer) for layer in layers}
    fitted = {name: Eigenbasis(*pair, products[name]) for name, pair in found.pairs(layers).items()}
    return EigenCurvature(fitting.kind, layers, fitted, Damping())


def _diagonal(fitting: Fitting) -> EigenCurvature:
    return _measured(fitting, {layer.name: (None, None) for layer in fitting.layers})


def _covariances(fitting: Fitting) -> Covariances:
    layers, block_width = fitting.layers, fitting.block_width
    return fitting.fold("covariances", lambda: Covariances(layers, block_width))


def _measured(fitting: Fitting, bases: Bases) -> EigenCurvature:
    """The curvature in the given bases, with Λ measured in them."""
    layers = fitting.layers
    found = fitting.fold("eigenvalues", lambda: Eigenvalues(layers, bases))
    fitted = {name: Eigenbasis(*bases[name], found.mean(name)) for name in bases}
    return EigenCurvature(fitting.kind, layers, fitted, Damping())


def _identity(fitting: Fitting) -> EigenCurvature:
    return identity(fitting.layers, fitting.device)


def _no_tensors(_: Curvature) -> dict[str, Tensor]:
    return {"none": torch.zeros(0)}


def _load_identity(
    _: str, layers: Sequence[TrackedLayer], tensors: Mapping[str, Tensor], __: Damping
) -> EigenCurvature:
    return identity(layers, str(tensors["none"].device))


def _exact(fitting: Fitting) -> ExactCurvature:
    layers = fitting.layers
    refuse_if_large(layers)
    fisher = fitting.fold("fisher", lambda: DenseFisher(layers))
    return ExactCurvature(layers, fisher.total / fisher.examples, Damping())


def _fisher_tensor(curvature: Curvature) -> dict[str, Tensor]:
    assert isinstance(curvature, ExactCurvature)
    return {"fisher": curvature.fisher}


def _load_exact(
    _: str, layers: Sequence[TrackedLayer], tensors: Mapping[str, Tensor], damping: Damping
) -> ExactCurvature:
    return ExactCurvature(layers, tensors["fisher"], damping)


EKFAC = CurvatureKind(_ekfac, in_sections=True)
KFAC = CurvatureKind(_kfac, in_sections=True)
DIAGONAL = CurvatureKind(_diagonal)
IDENTITY = CurvatureKind(_identity, _no_tensors, _load_identity)
EXACT = CurvatureKind(_exact, _fisher_tensor, _load_exact)
