"""The language-model head, fused with its loss: hidden states in, losses and hidden gradients out.

Nothing of size tokens × vocabulary outlives a chunk, and autograd never sees the head: the gradient of a softmax
cross-entropy with respect to the hidden state is (p − onehot(y)) W, which is formed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headwater.errors import ModelError

LOGITS_PER_CHUNK = 12_000_000
"""Numbers in one chunk of logits (48 MB in float32): large enough for efficient products, small enough to recycle."""
CURVATURE_PER_CHUNK = 1_000_000
"""Numbers in one chunk of chances: a few, which stay in the cache from one tangent to the next."""
SAMPLING_BLOCK = 256


@dataclass(frozen=True)
class Head:
    """The map from hidden states to logits: `logits = scale · (h Wᵀ + b)`."""

    weight: Tensor
    """[V, H]"""
    bias: Tensor | None
    """[V]"""
    scale: float = 1.0

    def logits(self, hidden: Tensor) -> Tensor:
        """Plain logits [..., V] of `hidden` [..., H]: the reference that the fused path is tested against."""
        return self.scale * nn.functional.linear(hidden, self.weight, self.bias)


@dataclass(frozen=True)
class HeadPass:
    """What the head leaves behind for `n` predicted tokens."""

    losses: Tensor
    """[n] −log p(label), nats, in float32 or better."""
    gradient: Tensor
    """[n, H] gradient of the summed losses with respect to the hidden states."""
    labels: Tensor
    """[n] the labels used: the given targets, or those sampled."""


def head_of(model: Any) -> Head:
    """The head of a Hugging Face causal LM.

    Raises ModelError where the model has no linear output embedding.
    """
    module = model.get_output_embeddings()
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear output layer, which Headwater needs to compute losses. "
            "Use a causal language model whose get_output_embeddings() is a linear layer."
        )
    scale = getattr(model.config, "logit_scale", None)  # Cohere
    scaling = getattr(model.config, "logits_scaling", None)  # Granite divides
    factor = float(scale) if scale else 1.0 / float(scaling) if scaling else 1.0
    return Head(module.weight.detach(), None if module.bias is None else module.bias.detach(), factor)


@torch.no_grad()
def head_pass(hidden: Tensor, head: Head, targets: Tensor, uniforms: Tensor | None = None) -> HeadPass:
    """Losses and hidden gradients of `n` tokens, chunk by chunk.

    `hidden` [n, H]; `targets` [n] int64, the true next tokens. With `uniforms` [n] in [0, 1) the labels are drawn
    from the model's own distribution by inverting its cumulative sum at those numbers, and `targets` is ignored:
    that is the sampling of the true Fisher (Grosse et al. 2023, section 2.2; Kunstner et al. 2019).
    """
    n, vocabulary = len(hidden), len(head.weight)
    chunk = max(32, LOGITS_PER_CHUNK // vocabulary)
    precise = torch.promote_types(hidden.dtype, torch.float32)
    losses = torch.empty(n, dtype=precise, device=hidden.device)
    gradient = torch.empty_like(hidden)
    labels = torch.empty_like(targets)
    buffer = torch.empty(min(chunk, n), vocabulary, dtype=hidden.dtype, device=hidden.device)
    for start in range(0, n, chunk):
        part = slice(start, min(start + chunk, n))
        logits = torch.mm(hidden[part], head.weight.t(), out=buffer[: part.stop - start])
        if head.bias is not None:
            logits += head.bias
        if head.scale != 1.0:
            logits *= head.scale
        largest = logits.amax(dim=1, keepdim=True)
        # exp(logits − max) in place: its row sum normalises the gradient afterwards, so p itself is never written.
        weights = logits.sub_(largest).exp_()
        total = weights.sum(dim=1, keepdim=True, dtype=precise)
        if uniforms is None:
            labels[part] = targets[part]
        else:
            labels[part] = _sample(weights, uniforms[part])
        chosen = labels[part]
        chosen_logit = _label_logits(hidden[part], head, chosen)
        losses[part] = (total.log() + largest.to(precise))[:, 0] - chosen_logit.to(precise)
        chunk_gradient = torch.mm(weights, head.weight, out=gradient[part])
        chunk_gradient /= total.to(chunk_gradient.dtype)
        chunk_gradient -= head.weight[chosen]
        if head.scale != 1.0:
            chunk_gradient *= head.scale
    return HeadPass(losses, gradient, labels)


@torch.no_grad()
def head_curvature(hidden: Tensor, tangents: Sequence[Tensor], head: Head) -> list[Tensor]:
    """For every tangent [n, H], [n, H]: the Hessian of the loss of `n` tokens in their hidden states, times it.

    Wᵀ (diag(p) − p pᵀ) W, times scale²: of a softmax cross-entropy it does not depend on the label. The chances are
    made once for all tangents.
    """
    chunk = max(32, CURVATURE_PER_CHUNK // len(head.weight))
    products = [torch.empty_like(tangent) for tangent in tangents]
    buffer = hidden.new_empty(min(chunk, len(hidden)), len(head.weight))
    for start in range(0, len(hidden), chunk):
        part = slice(start, min(start + chunk, len(hidden)))
        chances = head.logits(hidden[part]).softmax(dim=1)
        for tangent, product in zip(tangents, products, strict=True):
            moved = torch.mm(tangent[part], head.weight.t(), out=buffer[: part.stop - part.start]).mul_(chances)
            moved.addcmul_(chances, moved.sum(dim=1, keepdim=True), value=-1)
            torch.mm(moved, head.weight, out=product[part])
    return [product.mul_(head.scale**2) for product in products]


def _label_logits(hidden: Tensor, head: Head, labels: Tensor) -> Tensor:
    """[n] the logits of the labels alone, recomputed because the chunk's logits were overwritten."""
    logit = (hidden * head.weight[labels]).sum(dim=1, dtype=torch.promote_types(hidden.dtype, torch.float32))
    if head.bias is not None:
        logit += head.bias[labels]
    return logit * head.scale


def _sample(weights: Tensor, uniforms: Tensor) -> Tensor:
    """[n] one index a row, drawn in proportion to `weights` [n, V], by inverting the cumulative sum at `uniforms`.

    First the block that holds the point, then the index within it: one pass over the row instead of a cumulative
    sum of it.
    """
    n, vocabulary = weights.shape
    blocks = vocabulary // SAMPLING_BLOCK
    body = weights[:, : blocks * SAMPLING_BLOCK].view(n, blocks, SAMPLING_BLOCK)
    tail = weights[:, blocks * SAMPLING_BLOCK :]
    ends = torch.cat([body.sum(dim=2), tail.sum(dim=1, keepdim=True)], 1).double().cumsum(dim=1)
    point = uniforms.to(torch.float64) * ends[:, -1]
    block = torch.searchsorted(ends, point[:, None], right=True).clamp_(max=blocks)
    start = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    columns = block * SAMPLING_BLOCK + torch.arange(SAMPLING_BLOCK, device=weights.device)
    inside = weights.gather(1, columns.clamp(max=vocabulary - 1)).double()
    inside = torch.where(columns < vocabulary, inside, 0.0).cumsum(dim=1)
    offset = torch.searchsorted(inside, point[:, None] - start, right=True)
    return (block * SAMPLING_BLOCK + offset)[:, 0].clamp_(max=vocabulary - 1)
