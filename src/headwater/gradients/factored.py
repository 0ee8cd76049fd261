"""Factored gradients: a layer's per-example weight gradients, kept as activations and output gradients.

`G[b] = Σ_t g[b,t] a[b,t]ᵀ` is formed only where that is the cheapest way to what is asked; every contraction here
counts multiplications and takes the cheaper of its exact routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.gradients import aligned_rows
from headwater.gradients.basis import Basis

GRADIENT_NUMBERS = 1 << 22
"""Numbers of per-example gradients made at a time on a processor (16 MB in float32): what stays in its last cache."""
GPU_GRADIENT_NUMBERS = 1 << 26
"""The same on a GPU."""
OVERSAMPLING = 16
"""Directions that a randomised decomposition looks for beyond those wanted."""

Gradients = dict[str, Tensor]
"""layer -> [Q, O, I]: the gradients of Q queries, or those gradients preconditioned."""
Bases = Mapping[str, tuple[Basis | None, Basis | None]]
"""layer -> (Q_A [I, k_I], Q_S [O, k_O]); None is the identity."""


def numbers_at_a_time(device: torch.device) -> int:
    """How many numbers of per-example gradients are made at a time."""
    return GRADIENT_NUMBERS if device.type == "cpu" else GPU_GRADIENT_NUMBERS


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
        """Slices of examples whose materialised gradients stay within `numbers_at_a_time`."""
        outputs, inputs = self.shape
        step = max(1, numbers_at_a_time(self.activations.device) // (outputs * inputs))
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            yield part, self[part]


def stored_transposed(shape: tuple[int, int]) -> bool:
    """Whether gradients [O, I] of a layer are held as Gᵀ: so that the rows in memory are aligned, where those of G are
    one longer by a bias."""
    outputs, inputs = shape
    return inputs % aligned_rows.LINE != 0 and outputs % aligned_rows.LINE == 0


def match_layout(weights: Tensor) -> Tensor:
    """The same `weights` [Q, O, I], held in memory as the gradients are that they are multiplied with."""
    outputs, inputs = weights.shape[1:]
    return weights.mT.contiguous().mT if stored_transposed((outputs, inputs)) else weights.contiguous()


def per_example(gradient: FactoredGradient) -> Tensor:
    """[B, O, I] the weight gradient of every example, materialised."""
    if stored_transposed(gradient.shape):
        return torch.bmm(gradient.activations.mT, gradient.output_gradients).mT
    return torch.bmm(gradient.output_gradients.mT, gradient.activations)


def rotated(gradients: Mapping[str, FactoredGradient], bases: Bases) -> Iterator[tuple[str, slice, Tensor]]:
    """(layer, slice of examples, [b, k_O, k_I] their gradients `Q_Sᵀ G Q_A` in the eigenbasis), a few at a time.

    Rotating the factors costs T (I k_I + O k_O + k_O k_I) an example, rotating the materialised gradient
    O I (T + k_I) + O k_O k_I: long texts are cheaper the second way. Activations that layers share are rotated once.
    """
    shared: tuple[Tensor, Basis, Tensor] | None = None
    for name, gradient in gradients.items():
        input_basis, output_basis = bases[name]
        if input_basis is None or output_basis is None:
            yield from ((name, part, per_example(piece)) for part, piece in gradient.chunks())
            continue
        outputs, inputs = gradient.shape
        tokens, k_inputs, k_outputs = gradient.activations.shape[1], input_basis.shape[1], output_basis.shape[1]
        at_hand = shared is not None and shared[0] is gradient.activations and shared[1] is input_basis
        by_factors = tokens * ((0 if at_hand else inputs * k_inputs) + outputs * k_outputs + k_outputs * k_inputs)
        if by_factors > outputs * inputs * (tokens + k_inputs) + outputs * k_outputs * k_inputs:
            for part, piece in gradient.chunks():
                yield name, part, output_basis.columns(input_basis.rows(per_example(piece)))
            continue
        if shared is None or not at_hand:
            shared = gradient.activations, input_basis, input_basis.rows(gradient.activations)
        factors = FactoredGradient(shared[2], output_basis.rows(gradient.output_gradients))
        yield from ((name, part, per_example(piece)) for part, piece in factors.chunks())


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
    if len(weights) == 1:
        return inner_by_token(gradient, weights).sum(dim=1)
    return _inner_materialised(gradient, weights)


def _inner_materialised(gradient: FactoredGradient, weights: Tensor) -> Tensor:
    """[B, Q] by making the gradients of all examples, a few rows of their matrices at a time."""
    left, right = gradient.output_gradients, gradient.activations
    if stored_transposed(gradient.shape):
        left, right, weights = right, left, weights.mT
    products = right.new_zeros(len(right), len(weights))
    step = max(1, numbers_at_a_time(right.device) // (len(right) * right.shape[2]))
    for start in range(0, left.shape[2], step):
        rows = slice(start, start + step)
        made = torch.bmm(left[..., rows].mT, right).flatten(1)
        products = torch.addmm(products, made, weights[:, rows].flatten(1).t())
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
