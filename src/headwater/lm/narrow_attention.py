"""Causal attention of very narrow heads on a CPU, forward and backward, in float32.

The TinyStories models have heads of 4 numbers. PyTorch's fused kernel uses matrix products, whose set-up costs much
more than these few multiplications. Here a score is a few multiplications in registers, and neighbouring keys are in
the lanes of a vector (docs/performance.md). Scores are not stored: the backward pass computes them again from the
logarithm of their sum, as in Dao et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from headwater.base.compiled import compiled, in_parallel, inlined

WIDEST_HEAD = 8
"""Widest head that is faster here than in PyTorch's kernel."""
LANES = 32
"""Keys in one vector."""
DEPTH = 4
"""Numbers of a head in one step. A head's width must be a multiple of it."""


def suits(query: Tensor) -> bool:
    """Whether this kernel is the better one for `query` [B, heads, T, d].

    It is not if only PyTorch's plain attention is allowed, which forward-mode differentiation needs.
    """
    width = query.shape[-1]
    fused = torch.backends.cuda.flash_sdp_enabled()  # also a setting for CPUs, in spite of its name
    narrow = width <= WIDEST_HEAD and width % DEPTH == 0
    return fused and narrow and query.device.type == "cpu" and query.dtype == torch.float32


def narrow_attention(query: Tensor, key: Tensor, value: Tensor, *, window: int) -> Tensor:
    """softmax(q kᵀ) v, [B, heads, T, d]. Every token sees itself and the `window` − 1 tokens before it.

    All three are [B, heads, T, d]. Scores are not scaled. It can be differentiated once, not twice.
    """
    return _NarrowAttention.apply(query, key, value, window)  # pyright: ignore[reportReturnType]


class _NarrowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v = _rows(query), _columns(key), _columns(value)
        attended = torch.empty_like(q)
        logs = torch.empty(q.shape[:2])
        _over_heads(_attend, (q, k, v, attended, logs), window)
        ctx.save_for_backward(q, k, v, attended, logs)
        ctx.window = window
        return attended.view(query.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, attended, logs = ctx.saved_tensors
        back = _rows(gradient)
        overlap = (back * attended).sum(dim=-1)
        q_back, k_back, v_back = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        _over_heads(_pull_back, (q, k, v, logs, back, overlap, q_back, k_back, v_back), ctx.window)
        tokens = q.shape[1]
        k_back, v_back = k_back[..., :tokens].mT, v_back[..., :tokens].mT
        return *(x.reshape(gradient.shape) for x in (q_back, k_back, v_back)), None


def _over_heads(loop: Any, tensors: Sequence[Tensor], window: int) -> None:
    """Call a compiled `loop` on slices of `tensors` [B · heads, ...], in parallel."""
    arrays = [x.numpy() for x in tensors]
    in_parallel(lambda start, stop: loop(*(x[start:stop] for x in arrays), window), len(arrays[0]))


def _rows(x: Tensor) -> Tensor:
    """[B · heads, T, d]"""
    return x.detach().flatten(0, 1).contiguous()


def _columns(x: Tensor) -> Tensor:
    """[B · heads, d, T′], where zeros pad T to whole vectors."""
    missing = -x.shape[2] % LANES
    return torch.nn.functional.pad(x.detach().mT, (0, missing)).contiguous().flatten(0, 1)


@compiled
def _attend(q: Any, k: Any, v: Any, attended: Any, logs: Any, window: int) -> None:  # pragma: no cover
    """Fill `attended` [n, T, d], and `logs` [n, T] with log Σ exp(score), from q [n, T, d] and k, v [n, d, T′]."""
    n, tokens, width = q.shape
    row = np.empty(k.shape[2], np.float32)
    for one in range(n):
        for i in range(tokens):
            first = max(0, i - window + 1)
            start, stop = first // LANES * LANES, (i // LANES + 1) * LANES
            scores = row[start:stop]
            for d in range(0, width, DEPTH):
                _products(q[one, i], k[one], d, start, stop, scores)
            largest = _largest(scores, first - start, i - start)
            total = _exponentials(scores, largest, first - start, i - start)
            logs[one, i] = largest + np.log(total)
            for d in range(0, width, DEPTH):
                _sums(scores, v[one], d, start, stop, attended[one, i])
            for d in range(width):
                attended[one, i, d] /= total


@compiled
def _pull_back(
    q: Any, k: Any, v: Any, logs: Any, back: Any, overlap: Any, q_back: Any, k_back: Any, v_back: Any, window: int
) -> None:  # pragma: no cover
    """Backpropagate `back` [n, T, d]: fill `q_back` [n, T, d], and add to `k_back` and `v_back` [n, d, T′]."""
    n, tokens, width = q.shape
    row, other = np.empty(k.shape[2], np.float32), np.empty(k.shape[2], np.float32)
    for one in range(n):
        for i in range(tokens):
            first = max(0, i - window + 1)
            start, stop = first // LANES * LANES, (i // LANES + 1) * LANES
            probs, slopes = row[start:stop], other[start:stop]
            for d in range(0, width, DEPTH):
                _products(q[one, i], k[one], d, start, stop, probs)
                _products(back[one, i], v[one], d, start, stop, slopes)
            _exponentials(probs, logs[one, i], first - start, i - start)
            shared = overlap[one, i]
            for j in range(len(slopes)):
                slopes[j] = probs[j] * (slopes[j] - shared)
            for d in range(0, width, DEPTH):
                _sums(slopes, k[one], d, start, stop, q_back[one, i])
                _add_times(k_back[one], slopes, q[one, i], d, start, stop)
                _add_times(v_back[one], probs, back[one, i], d, start, stop)


@inlined
def _products(row: Any, columns: Any, d: int, start: int, stop: int, products: Any) -> None:  # pragma: no cover
    """Terms d to d + DEPTH of `row` [d] times `columns` [d, T′] from `start` to `stop`, added up in `products`."""
    first, second = columns[d, start:stop], columns[d + 1, start:stop]
    third, fourth = columns[d + 2, start:stop], columns[d + 3, start:stop]
    a, b, c, e = row[d], row[d + 1], row[d + 2], row[d + 3]
    if d == 0:
        for j in range(len(products)):
            products[j] = a * first[j] + b * second[j] + c * third[j] + e * fourth[j]
    else:
        for j in range(len(products)):
            products[j] += a * first[j] + b * second[j] + c * third[j] + e * fourth[j]


@inlined
def _sums(numbers: Any, columns: Any, d: int, start: int, stop: int, sums: Any) -> None:  # pragma: no cover
    """Fill `sums` [d] from d to d + DEPTH with `numbers` times `columns` [d, T′] from `start` to `stop`."""
    first, second = columns[d, start:stop], columns[d + 1, start:stop]
    third, fourth = columns[d + 2, start:stop], columns[d + 3, start:stop]
    a, b, c, e = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(numbers)):
        a += numbers[j] * first[j]
        b += numbers[j] * second[j]
        c += numbers[j] * third[j]
        e += numbers[j] * fourth[j]
    sums[d], sums[d + 1], sums[d + 2], sums[d + 3] = a, b, c, e


@inlined
def _add_times(columns: Any, numbers: Any, row: Any, d: int, start: int, stop: int) -> None:  # pragma: no cover
    """Add `numbers` times `row` [d] to `columns` [d, T′] from d to d + DEPTH and from `start` to `stop`."""
    for e in range(d, d + DEPTH):
        column, factor = columns[e, start:stop], row[e]
        for j in range(len(numbers)):
            column[j] += numbers[j] * factor


@inlined
def _exponentials(numbers: Any, shift: Any, first: Any, last: Any) -> Any:  # pragma: no cover
    """Replace `numbers` by exp(x − shift) from `first` to `last`, and by zero elsewhere. Returns their sum."""
    total = np.float32(0)
    for j in range(len(numbers)):
        number = _exp(numbers[j] - shift)
        number = number if first <= j <= last else np.float32(0)
        numbers[j] = number
        total += number
    return total


@inlined
def _largest(numbers: Any, first: Any, last: Any) -> Any:  # pragma: no cover
    """The largest of `numbers` from `first` to `last`."""
    largest = numbers[first]
    for j in range(len(numbers)):
        largest = max(largest, numbers[j] if first <= j <= last else largest)
    return largest


@inlined
def _exp(x: Any) -> Any:  # pragma: no cover
    """e^x in float32 for x up to 80, to 2e-7: 2^n by its exponent bits, times a polynomial of the rest (Cephes)."""
    x = max(x, np.float32(-87.0))
    whole = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    rest = x - whole * np.float32(0.693359375) - whole * np.float32(-2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    series = series * rest * rest + rest + np.float32(1)
    return series * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))  # pyright: ignore[reportCallIssue]


@intrinsic
def _float_of_bits(typing: Any, bits: Any) -> Any:
    """The float32 with the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(
            builder.trunc(arguments[0], context.get_value_type(types.int32)), context.get_value_type(types.float32)
        )

    return types.float32(bits), generate
