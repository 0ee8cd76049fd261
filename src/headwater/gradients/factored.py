"""Factored gradients: the per-example weight gradients of a layer, as activations and output gradients.

`G[b] = Σ_t g[b,t] a[b,t]ᵀ`. Each contraction here has several exact routes. It counts their multiplications and takes
the cheapest, which forms G only if that pays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.gradients import aligned_rows
from headwater.gradients.basis import Basis

GRADIENT_NUMBERS = 1 << 22
"""Numbers of per-example gradients formed together on a CPU (16 MB in float32), so that they stay in its last cache."""
GPU_GRADIENT_NUMBERS = 1 << 26
"""The same on a GPU."""
OVERSAMPLING = 16
"""Extra directions of a randomised decomposition, beyond the wanted rank."""

Gradients = dict[str, Tensor]
"""layer -> [Q, O, I]: gradients of Q queries, or preconditioned gradients."""
Bases = Mapping[str, tuple[Basis | None, Basis | None]]
"""layer -> (Q_A [I, k_I], Q_S [O, k_O]); None is the identity."""


def numbers_at_a_time(device: torch.device) -> int:
    """Numbers of per-example gradients that are formed together on a device."""
    return GRADIENT_NUMBERS if device.type == "cpu" else GPU_GRADIENT_NUMBERS


@dataclass(frozen=True)
class FactoredGradient:
    """The pair (a, g) of one tracked layer for a batch. Rows at padding are zero in both."""

    activations: Tensor
    """a: [B, T, I], bias column included."""
    output_gradients: Tensor
    """g: [B, T, O]"""
    positions: Tensor | None = None
    """[B, T] where the tokens are in their texts, −1 for none, if the layer is an expert, which sees only some."""

    @property
    def tokens(self) -> int | None:
        """The number of tokens that an expert sees. None for other layers, which see all."""
        return None if self.positions is None else int((self.positions >= 0).sum())

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)"""
        return self.output_gradients.shape[-1], self.activations.shape[-1]

    def __len__(self) -> int:
        return len(self.activations)

    def __getitem__(self, examples: slice) -> FactoredGradient:
        positions = None if self.positions is None else self.positions[examples]
        return FactoredGradient(self.activations[examples], self.output_gradients[examples], positions)

    def chunks(self) -> Iterator[tuple[slice, FactoredGradient]]:
        """Slices of examples whose gradients have at most `numbers_at_a_time` numbers, or one example."""
        outputs, inputs = self.shape
        step = max(1, numbers_at_a_time(self.activations.device) // (outputs * inputs))
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            yield part, self[part]


def stored_transposed(shape: tuple[int, int]) -> bool:
    """Whether gradients [O, I] of a layer are stored as Gᵀ: if the rows of Gᵀ are aligned, and those of G not."""
    outputs, inputs = shape
    return inputs % aligned_rows.LINE != 0 and outputs % aligned_rows.LINE == 0


def match_layout(weights: Tensor) -> Tensor:
    """`weights` [Q, O, I] in the memory layout of the gradients that they are multiplied with."""
    outputs, inputs = weights.shape[1:]
    return weights.mT.contiguous().mT if stored_transposed((outputs, inputs)) else weights.contiguous()


def per_example(gradient: FactoredGradient) -> Tensor:
    """The weight gradient of every example: [B, O, I]."""
    if stored_transposed(gradient.shape):
        return torch.bmm(gradient.activations.mT, gradient.output_gradients).mT
    return torch.bmm(gradient.output_gradients.mT, gradient.activations)


def rotated(gradients: Mapping[str, FactoredGradient], bases: Bases) -> Iterator[tuple[str, slice, Tensor]]:
    """Gradients in the eigenbasis: (layer, slice of examples, `Q_Sᵀ G Q_A` [b, k_O, k_I] of those examples).

    Rotating the factors costs T (I k_I + O k_O + k_O k_I) multiplications an example. Rotating the formed gradient
    costs O I (T + k_I) + O k_O k_I, which is cheaper for long texts. Activations that layers share are rotated once.
    """
    shared: tuple[Tensor, Basis, Tensor] | None = None
    for name, gradient in gradients.items():
        input_basis, output_basis = bases[name]
        if input_basis is None or output_basis is None:
            yield from ((name, part, per_example(piece)) for part, piece in gradient.chunks())
            continue
        outputs, inputs = gradient.shape
        tokens, k_inputs, k_outputs = gradient.activations.shape[1], input_basis.shape[1], output_basis.shape[1]
        is_shared = shared is not None and shared[0] is gradient.activations and shared[1] is input_basis
        by_factors = tokens * ((0 if is_shared else inputs * k_inputs) + outputs * k_outputs + k_outputs * k_inputs)
        if by_factors > outputs * inputs * (tokens + k_inputs) + outputs * k_outputs * k_inputs:
            for part, piece in gradient.chunks():
                yield name, part, output_basis.project_columns(input_basis.project_rows(per_example(piece)))
            continue
        if shared is None or not is_shared:
            shared = gradient.activations, input_basis, input_basis.project_rows(gradient.activations)
        factors = FactoredGradient(shared[2], output_basis.project_rows(gradient.output_gradients))
        yield from ((name, part, per_example(piece)) for part, piece in factors.chunks())


@dataclass(frozen=True)
class LowRank:
    """Weights R [Q, O, I] of low rank: `R[q] = left[q] right[q]ᵀ`."""

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
    """The nearest weights of rank `rank` to `weights` [Q, O, I] (Grosse et al. 2023, section 3.2.2).

    A rank of min(O, I) or more loses nothing. For wide weights, a randomised subspace iteration (Halko et al. 2011)
    from a fixed seed finds the singular vectors. For others they are exact.
    """
    sampled = rank + OVERSAMPLING
    if sampled < min(weights.shape[1:]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(weights, q=sampled, niter=4)
    else:
        left, values, transposed = torch.linalg.svd(weights, full_matrices=False)
        right = transposed.mT
    return LowRank(left[..., :rank] * values[..., None, :rank], right[..., :rank].contiguous())


def inner(gradient: FactoredGradient, weights: Tensor | LowRank) -> Tensor:
    """The dot products ⟨G[b], R[q]⟩ with `weights` R [Q, O, I]: [B, Q].

    Forming G costs O I (T + Q) multiplications an example. Contracting token by token costs O I T Q, or (O + I) r T Q
    for weights of rank r.
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
    """The same, by forming the gradients of all examples, a few rows of their matrices at once."""
    left, right = gradient.output_gradients, gradient.activations
    if stored_transposed(gradient.shape):
        left, right, weights = right, left, weights.mT
    products = right.new_zeros(len(right), len(weights))
    step = max(1, numbers_at_a_time(right.device) // (len(right) * right.shape[2]))
    for start in range(0, left.shape[2], step):
        rows = slice(start, start + step)
        formed = torch.bmm(left[..., rows].mT, right).flatten(1)
        products = torch.addmm(products, formed, weights[:, rows].flatten(1).t())
    return products


def inner_by_token(gradient: FactoredGradient, weights: Tensor | LowRank) -> Tensor:
    """The shares of tokens, `s_t = g_tᵀ R a_t`: [B, T, Q]. Their sums over tokens are `inner`.

    Tokens are the rows of the factors. See `at_positions` for those of an expert.
    """
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


def at_positions(shares: Tensor, positions: Tensor | None, tokens: int) -> Tensor:
    """The `shares` [B, S, Q] of an expert's tokens at their positions [B, S] in the texts: [B, `tokens`, Q].

    Shares of other layers (None) are there already. Free slots (−1) have a share of zero.
    """
    if positions is None:
        return shares
    found = shares.new_zeros(len(shares), tokens, shares.shape[2])
    return found.scatter_add_(1, positions.clamp(min=0).unsqueeze(2).expand_as(shares), shares)
