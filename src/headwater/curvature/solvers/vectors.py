"""Arithmetic on {layer: [Q, O, I]}, the weights' moves and gradients of Q questions taken as single vectors."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from headwater.gradients.factored import Gradients


def dots(one: Gradients, other: Gradients) -> Tensor:
    """[Q] ⟨one, other⟩ of every question over all layers, summed in float64."""
    parts = [(one[name].double() * other[name].double()).flatten(1).sum(1) for name in one]
    return torch.stack(parts).sum(0)


def dot(one: Gradients, other: Gradients) -> float:
    """⟨one, other⟩ over all questions and layers, summed in float64."""
    return float(dots(one, other).sum())


def plus(one: Gradients, other: Gradients, factor: Tensor | float = 1.0) -> Gradients:
    """one + factor · other, with one factor or one for every question [Q]."""
    if isinstance(factor, Tensor):
        return {name: part + factor.to(part)[:, None, None] * other[name] for name, part in one.items()}
    return {name: part + factor * other[name] for name, part in one.items()}


def times(factor: float, vector: Gradients) -> Gradients:
    return {name: factor * part for name, part in vector.items()}


def only(vector: Gradients, layers: Collection[str]) -> Gradients:
    """The vector with nothing in layers other than `layers`."""
    return {name: part if name in layers else torch.zeros_like(part) for name, part in vector.items()}
