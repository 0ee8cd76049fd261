"""Arithmetic on {layer: [Q, O, I]}: Q vectors, each over all layers, such as gradients or steps of the weights."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from headwater.gradients.factored import Gradients


def dots(one: Gradients, other: Gradients) -> Tensor:
    """⟨one, other⟩ of every question: [Q], summed in float64."""
    parts = [(one[name].double() * other[name].double()).flatten(1).sum(1) for name in one]
    return torch.stack(parts).sum(0)


def dot(one: Gradients, other: Gradients) -> float:
    """⟨one, other⟩ over all questions and layers, summed in float64."""
    return float(dots(one, other).sum())


def plus(one: Gradients, other: Gradients, factor: Tensor | float = 1.0) -> Gradients:
    """one + factor · other. `factor` is one number, or one for every question [Q]."""
    if isinstance(factor, Tensor):
        return {name: part + factor.to(part)[:, None, None] * other[name] for name, part in one.items()}
    return {name: part + factor * other[name] for name, part in one.items()}


def times(factor: float, vector: Gradients) -> Gradients:
    """factor · vector."""
    return {name: factor * part for name, part in vector.items()}


def only(vector: Gradients, layers: Collection[str]) -> Gradients:
    """The vector with zeros in all layers but `layers`."""
    return {name: part if name in layers else torch.zeros_like(part) for name, part in vector.items()}
