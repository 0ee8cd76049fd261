"""The language-model head, fused with its loss: hidden states in, losses and hidden gradients out.

The head works in tiles, so nothing of size tokens × vocabulary is stored. Autograd does not see the head: the gradient
of a softmax cross-entropy in the hidden state is (p − onehot(y)) D W, which is computed directly. D is diagonal: the
derivative of the logits in the output layer's outputs, which is 1 unless logits are scaled or softly capped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headwater.errors import ModelError
from headwater.gradients import aligned_rows
from headwater.lm.logit_map import observe_logit_map
from headwater.lm.placement import device_of, fetched

TILE_COLUMNS = 1024
"""Tokens of the vocabulary in one tile of logits."""
TILE_NUMBERS = 1 << 20
"""Numbers in one tile (4 MB in float32), which stay in the cache of a CPU from one step to the next."""
GPU_TILE_NUMBERS = 1 << 26
"""Numbers in one tile on a GPU. Each step costs a launch there, so a tile is as wide as the vocabulary."""
CURVATURE_PER_CHUNK = 1_000_000
"""Numbers in one chunk of probabilities, which stay in the cache from one tangent to the next."""
SAMPLING_BLOCK = 32
"""Tokens of the vocabulary in one block. Sampling finds the block first, and then the token in it."""


@dataclass(frozen=True)
class Head:
    """The map from hidden states to logits: `logits = cap · tanh(z / cap)` of `z = scale · (h Wᵀ + b)`."""

    weight: Tensor
    """[V, H]"""
    bias: Tensor | None
    """[V]"""
    scale: float = 1.0
    cap: float | None = None
    """The soft cap of the logits (Gemma 2). Without one, `logits = z`."""

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits [..., V] of `hidden` [..., H], with a soft cap in float32 or better."""
        return self.capped(self.scale * nn.functional.linear(hidden, self.weight, self.bias))

    def capped(self, scaled: Tensor) -> Tensor:
        """The logits of `scaled` = z, in float32 or better if there is a cap. bfloat16 is coarse near a cap."""
        if self.cap is None:
            return scaled
        return torch.tanh(scaled.to(torch.promote_types(scaled.dtype, torch.float32)) / self.cap) * self.cap

    def change(self, logits: Tensor, step: Tensor) -> Tensor:
        """The exact change of `logits` when z changes by `step`, without subtracting large numbers.

        tanh(a + d) − tanh(a) = tanh(d) (1 − tanh(a) tanh(a + d)), which is solved for tanh(a + d) by addition.
        """
        if self.cap is None:
            return step
        before, turned = logits / self.cap, torch.tanh(step / self.cap)
        return self.cap * turned * (1 - before.square()) / (1 + before * turned)

    def slope(self, logits: Tensor) -> Tensor:
        """The derivative of capped logits in z, at `logits`: 1 − (logit / cap)²."""
        assert self.cap is not None
        return 1 - (logits / self.cap).square()


@dataclass(frozen=True)
class HeadPass:
    """Losses, gradients and labels of `n` predicted tokens."""

    losses: Tensor
    """[n] −log p(label) in nats, in float32 or better."""
    gradient: Tensor
    """[n, H] gradient of the summed losses in the hidden states."""
    labels: Tensor
    """[n] the labels of the losses: the given targets, or the sampled ones."""


def output_layer(model: Any) -> Any:
    """The output layer of a Hugging Face causal LM: that of its adapter, if that has one (peft's modules_to_save)."""
    module = model.get_output_embeddings()
    saved = getattr(module, "modules_to_save", None)
    return saved[module.active_adapters[0]] if saved and module.active_adapters else module


def head_of(model: Any) -> Head:
    """The head of a Hugging Face causal LM.

    Raises ModelError if its output layer is not linear or is quantised, or if the model changes its logits in an
    unknown way (`observe_logit_map`).
    """
    module = output_layer(model)
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear output layer. Headwater needs one to compute losses. "
            "Use a causal language model whose get_output_embeddings() is a linear layer."
        )
    if not module.weight.is_floating_point():
        raise ModelError(
            f"The output layer of {type(model).__name__} is quantised. Headwater needs its weights to compute losses. "
            "Quantise the model without its output layer, which is the default of bitsandbytes."
        )
    to_logits = observe_logit_map(model)
    device = device_of(module)
    bias = None if module.bias is None else fetched(module, "bias").to(device)[: to_logits.vocabulary]
    if bias is not None and to_logits.input_scale != 1.0:
        bias = bias / to_logits.input_scale
    weight = fetched(module, "weight").to(device)[: to_logits.vocabulary]
    return Head(weight, bias, to_logits.scale * to_logits.input_scale, to_logits.cap)


@torch.no_grad()
def head_pass(hidden: Tensor, head: Head, targets: Tensor, *, uniforms: Tensor | None = None) -> HeadPass:
    """Losses and hidden gradients of `n` tokens, tile by tile.

    `hidden` is [n, H]. `targets` [n] int64 are the true next tokens. With `uniforms` [n] in [0, 1), labels are sampled
    from the model's distribution by inverting its cumulative sum at these numbers, and `targets` is ignored. The true
    Fisher needs that (Grosse et al. 2023, section 2.2; Kunstner et al. 2019).
    """
    n, vocabulary = len(hidden), len(head.weight)
    precise = torch.promote_types(hidden.dtype, torch.float32)
    losses = torch.empty(n, dtype=precise, device=hidden.device)
    gradient = torch.empty_like(hidden)
    labels = targets.clone()
    rows, columns = _tile_shape(hidden.device, vocabulary)
    buffer = aligned_rows.empty(min(rows, n), columns, like=hidden)
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        softmax = _softmax(hidden[part], head, columns, buffer=buffer, blocks=uniforms is not None)
        if uniforms is not None:
            labels[part] = _sample(hidden[part], head, softmax, uniforms=uniforms[part])
        chosen = labels[part]
        at_labels = _logits_at(hidden[part], head, chosen[:, None])
        losses[part] = softmax.log_total[:, 0] - at_labels[:, 0]
        rows_of_labels = head.weight[chosen]
        softmax.mean_weight.sub_(rows_of_labels if head.cap is None else rows_of_labels * head.slope(at_labels))
        gradient[part] = softmax.mean_weight.mul_(head.scale)
    return HeadPass(losses, gradient, labels)


@dataclass(frozen=True)
class _Softmax:
    """Sums over the softmax of each row."""

    log_total: Tensor
    """[r, 1] log Σ exp(logits)."""
    mean_weight: Tensor
    """[r, H] Σ_v p_v W_v. With a soft cap, each term has the slope of its logit as a factor."""
    block_logs: Tensor | None
    """[r, blocks] log Σ exp(logits) over each block of the vocabulary, in order. None unless labels are sampled."""


def _softmax(hidden: Tensor, head: Head, columns: int, *, buffer: Tensor, blocks: bool) -> _Softmax:
    """The softmax of a few rows, one tile of the vocabulary after the other.

    A larger logit rescales the sums so far (Milakov and Gimelshein 2018), as in fused attention.
    """
    precise = torch.promote_types(hidden.dtype, torch.float32)
    largest = torch.full((len(hidden), 1), -torch.inf, dtype=precise, device=hidden.device)
    total = torch.zeros_like(largest)
    mean = torch.zeros(hidden.shape, dtype=precise, device=hidden.device)
    block_logs: list[Tensor] = []
    for start in range(0, len(head.weight), columns):
        weight = head.weight[start : start + columns]
        logits = torch.mm(hidden, weight.t(), out=buffer[: len(hidden), : len(weight)])
        if head.bias is not None:
            logits += head.bias[start : start + columns]
        if head.scale != 1.0:
            logits *= head.scale
        slope = None
        if head.cap is not None:
            logits = head.capped(logits)
            slope = head.slope(logits)
        before, largest = largest, torch.maximum(largest, logits.amax(dim=1, keepdim=True))
        weights = logits.sub_(largest).exp_()
        shrink = torch.exp(before - largest)
        if blocks:
            sums = _block_sums(weights, precise)
            block_logs.append(sums.log() + largest)
            added = sums.sum(dim=1, keepdim=True)
        else:
            added = weights.sum(dim=1, keepdim=True, dtype=precise)
        total = total.mul_(shrink).add_(added)
        if slope is not None:
            weights = weights.mul_(slope).to(weight.dtype)
        mean.mul_(shrink).add_(torch.mm(weights, weight))
    return _Softmax(total.log().add_(largest), mean.div_(total), torch.cat(block_logs, 1) if blocks else None)


def _tile_shape(device: torch.device, vocabulary: int) -> tuple[int, int]:
    """Rows and columns of a tile of logits. The columns are whole blocks, except at the end of the vocabulary."""
    if device.type == "cpu":
        columns = min(vocabulary, TILE_COLUMNS)
        return max(SAMPLING_BLOCK, TILE_NUMBERS // columns), columns
    return max(SAMPLING_BLOCK, GPU_TILE_NUMBERS // vocabulary), vocabulary


@torch.no_grad()
def head_curvature(hidden: Tensor, tangents: Sequence[Tensor], head: Head) -> list[Tensor]:
    """The Fisher of the loss of `n` tokens in their hidden states, times each of `tangents` [n, H]: [n, H] each.

    It is scale² Wᵀ D (diag(p) − p pᵀ) D W, D the slopes of a soft cap. It does not depend on the label. Without a cap
    it is the Hessian. The probabilities are computed once for all tangents.
    """
    chunk = max(32, CURVATURE_PER_CHUNK // len(head.weight))
    products = [torch.empty_like(tangent) for tangent in tangents]
    buffer = hidden.new_empty(min(chunk, len(hidden)), len(head.weight))
    for start in range(0, len(hidden), chunk):
        part = slice(start, min(start + chunk, len(hidden)))
        logits = head.logits(hidden[part])
        probs, slope = logits.softmax(dim=1).to(hidden.dtype), None
        if head.cap is not None:
            slope = head.slope(logits).to(hidden.dtype)
        for tangent, product in zip(tangents, products, strict=True):
            moved = torch.mm(tangent[part], head.weight.t(), out=buffer[: part.stop - part.start])
            if slope is not None:
                moved.mul_(slope)
            moved.mul_(probs)
            moved.addcmul_(probs, moved.sum(dim=1, keepdim=True), value=-1)
            if slope is not None:
                moved.mul_(slope)
            torch.mm(moved, head.weight, out=product[part])
    return [product.mul_(head.scale**2) for product in products]


def _logits_at(hidden: Tensor, head: Head, tokens: Tensor) -> Tensor:
    """The logits of `tokens` [r, k] only: [r, k] in float32 or better."""
    precise = torch.promote_types(hidden.dtype, torch.float32)
    rows = nn.functional.embedding(tokens, head.weight).to(precise)
    logits = torch.bmm(hidden[:, None].to(precise), rows.mT)[:, 0]
    if head.bias is not None:
        logits += head.bias[tokens]
    return head.capped(logits.mul_(head.scale))


def _block_sums(weights: Tensor, precise: torch.dtype) -> Tensor:
    """Sums over blocks of SAMPLING_BLOCK columns of `weights` [r, columns]: [r, blocks]. The last may be smaller."""
    whole = weights.shape[1] // SAMPLING_BLOCK * SAMPLING_BLOCK
    sums = weights[:, :whole].unflatten(1, (-1, SAMPLING_BLOCK)).sum(dim=2, dtype=precise)
    if whole == weights.shape[1]:
        return sums
    return torch.cat([sums, weights[:, whole:].sum(dim=1, keepdim=True, dtype=precise)], dim=1)


def _sample(hidden: Tensor, head: Head, softmax: _Softmax, *, uniforms: Tensor) -> Tensor:
    """One sampled token per row, [r], by inverting the cumulative sum of its probabilities at `uniforms` [r].

    It finds the block that holds the point, then the token in it, whose logits are computed again.
    """
    assert softmax.block_logs is not None
    vocabulary = len(head.weight)
    ends = softmax.block_logs.sub(softmax.log_total).double().exp_().cumsum(dim=1)
    point = (uniforms.to(torch.float64) * ends[:, -1])[:, None]
    block = torch.searchsorted(ends, point, right=True).clamp_(max=ends.shape[1] - 1)
    start = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    tokens = block * SAMPLING_BLOCK + torch.arange(SAMPLING_BLOCK, device=hidden.device)
    logits = _logits_at(hidden, head, tokens.clamp(max=vocabulary - 1)).sub_(softmax.log_total)
    inside = torch.where(tokens < vocabulary, logits.double().exp_(), 0.0).cumsum(dim=1)
    offset = torch.searchsorted(inside, point - start, right=True)
    return (block * SAMPLING_BLOCK + offset)[:, 0].clamp_(max=vocabulary - 1)
