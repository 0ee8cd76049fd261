"""Arithmetic on {layer: [1, O, I]}, the weights' moves and gradients taken as single vectors."""

from __future__ import annotations

from collections.abc import Collection

import torch

from headwater.gradient import Gradients


def dot(one: Gradients, other: Gradients) -> float:
    """⟨one, other⟩ over all layers, summed in float64."""
    return float(sum((one[name].double() * other[name].double()).sum() for name in one))


def plus(one: Gradients, other: Gradients, factor: float = 1.0) -> Gradients:
    """one + factor · other"""
    return {name: part + factor * other[name] for name, part in one.items()}


def times(factor: float, vector: Gradients) -> Gradients:
    return {name: factor * part for name, part in vector.items()}


def only(vector: Gradients, layers: Collection[str]) -> Gradients:
    """The vector with nothing in layers other than `layers`."""
    return {name: part if name in layers else torch.zeros_like(part) for name, part in vector.items()}
