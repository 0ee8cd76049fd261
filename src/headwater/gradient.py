"""Factored gradients: a layer's per-example weight gradients, kept as activations and output gradients.

`G[b] = Σ_t g[b,t] a[b,t]ᵀ` is formed only where that is the cheapest way to what is asked; every contraction here
counts multiplications and takes the cheaper of its exact routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

GRADIENT_NUMBERS = 16_000_000
"""How many numbers of per-example gradients are materialised at a time (64 MB in float32)."""

OVERSAMPLING = 16
"""Directions that a randomised decomposition looks for beyond those wanted."""


Gradients = dict[str, Tensor]
"""layer -> [Q, O, I]: the gradients of Q queries, or those gradients preconditioned."""


@dataclass(frozen=True)
class FactoredGradient:
    """The pair (a, g) of one tracked layer for a batch. Rows at padding are zero in both."""

    activations: Tensor
    """a: [B, T, I], bias column included."""
    output_gradients: Tensor
    """g: [B, T, O]"""

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)"""
        return self.output_gradients.shape[-1], self.activations.shape[-1]

    def __len__(self) -> int:
        return len(self.activations)

    def __getitem__(self, examples: slice) -> FactoredGradient:
        return FactoredGradient(self.activations[examples], self.output_gradients[examples])

    def chunks(self) -> Iterator[tuple[slice, FactoredGradient]]:
        """Slices of examples whose materialised gradients stay within GRADIENT_NUMBERS."""
        outputs, inputs = self.shape
        step = max(1, GRADIENT_NUMBERS // (outputs * inputs))
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            yield part, self[part]


def per_example(gradient: FactoredGradient) -> Tensor:
    """[B, O, I] the weight gradient of every example, materialised."""
    return torch.bmm(gradient.output_gradients.mT, gradient.activations)


def rotate(gradient: FactoredGradient, input_basis: Tensor | None, output_basis: Tensor | None) -> Tensor:
    """[B, O, I] the gradients `Q_Sᵀ G Q_A` in the eigenbasis; None is the identity.

    Rotating factors costs T (I² + O²) an example, rotating the materialised gradient O I (I + O): long texts are
    cheaper the second way.
    """
    outputs, inputs = gradient.shape
    tokens = gradient.activations.shape[1]
    if input_basis is None and output_basis is None:
        return per_example(gradient)
    assert input_basis is not None
    assert output_basis is not None
    if tokens * (inputs**2 + outputs**2) <= outputs * inputs * (inputs + outputs):
        rotated = FactoredGradient(gradient.activations @ input_basis, gradient.output_gradients @ output_basis)
        return per_example(rotated)
    return output_basis.mT @ (per_example(gradient) @ input_basis)


@dataclass(frozen=True)
class LowRank:
    """Weights R [Q, O, I] of few dimensions each: `R[q] = left[q] right[q]ᵀ`."""

    left: Tensor
    """[Q, O, r]"""
    right: Tensor
    """[Q, I, r]"""

    def __getitem__(self, queries: slice) -> LowRank:
        return LowRank(self.left[queries], self.right[queries])

    def dense(self) -> Tensor:
        """[Q, O, I]"""
        return self.left @ self.right.mT


def low_rank(weights: Tensor, rank: int) -> LowRank:
    """The nearest weights of the given rank to `weights` [Q, O, I] (Grosse et al. 2023, section 3.2.2).

    A rank of min(O, I) or more loses nothing. Of wide weights the singular vectors are found by a randomised subspace
    iteration (Halko et al. 2011) from a fixed seed, of others exactly.
    """
    looked_for = rank + OVERSAMPLING
    if looked_for < min(weights.shape[1:]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(weights, q=looked_for, niter=4)
    else:
        left, values, right = torch.svd(weights)
    return LowRank(left[..., :rank] * values[..., None, :rank], right[..., :rank].contiguous())


def inner(gradient: FactoredGradient, weights: Tensor | LowRank) -> Tensor:
    """[B, Q] the dot products ⟨G[b], R[q]⟩ with every one of `weights` R [Q, O, I].

    Materialising G costs O I (T + Q) an example, contracting token by token O I T Q, and weights of rank r
    (O + I) r T Q.
    """
    if isinstance(weights, LowRank):
        outputs, inputs = gradient.shape
        queries, _, rank = weights.left.shape
        tokens = gradient.activations.shape[1]
        if (outputs + inputs) * rank * queries * tokens <= outputs * inputs * (tokens + queries):
            return inner_by_token(gradient, weights).sum(dim=1)
        weights = weights.dense()
    queries = weights.shape[0]
    if queries == 1:
        return inner_by_token(gradient, weights).sum(dim=1)
    products = gradient.activations.new_empty(len(gradient), queries)
    flat = weights.reshape(queries, -1).t()
    for part, piece in gradient.chunks():
        torch.mm(per_example(piece).flatten(1), flat, out=products[part])
    return products


def inner_by_token(gradient: FactoredGradient, weights: Tensor | LowRank) -> Tensor:
    """[B, T, Q] the shares `s_t = g_tᵀ R a_t`; over tokens they sum to `inner`."""
    a, g = gradient.activations, gradient.output_gradients
    if isinstance(weights, LowRank):
        pairs = zip(weights.left, weights.right, strict=True)
        return torch.stack([((g @ left) * (a @ right)).sum(dim=-1) for left, right in pairs], dim=-1)
    outputs, inputs = gradient.shape
    shares = a.new_empty(*a.shape[:2], weights.shape[0])
    for q, weight in enumerate(weights):
        if outputs <= inputs:
            torch.sum((a @ weight.mT) * g, dim=-1, out=shares[..., q])
        else:
            torch.sum((g @ weight) * a, dim=-1, out=shares[..., q])
    return shares
