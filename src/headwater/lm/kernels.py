"""Fused kernels for parts that transformers runs eagerly: GPT-Neo's attention, and the GELU of GPT-2 and GPT-Neo.

GPT-Neo does not scale its scores by √d, and every other layer sees only a local window. Without padding, and for texts
that are no longer than the window, both are plain causal attention, which PyTorch has a fused kernel for. The very
narrow heads of the TinyStories models have their own kernel (narrow_attention.py).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from headwater.lm.narrow_attention import narrow_attention, suits


def use_sdpa(model: Any) -> int:
    """Give every GPT-Neo attention module of `model` a fused kernel. Other architectures do not change.

    Outputs and gradients agree with the eager path to 1e-5 in float32 (tests/test_kernels.py). Returns the number of
    patched modules. Patching twice is harmless.
    """
    from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

    patched = 0
    for module in model.modules():
        if type(module) is GPTNeoSelfAttention:
            module._attn = MethodType(_sdpa_attention, module)  # pyright: ignore[reportPrivateUsage]
            patched += 1
    if patched:
        # So transformers builds no causal mask of size [B, 1, T, T]. The kernel knows that it is causal.
        model.config._attn_implementation = "sdpa"
    return patched


def use_fused_gelu(model: Any) -> int:
    """Replace the tanh form of GELU, which transformers computes in seven steps, by PyTorch's single kernel.

    Returns the number of replaced modules.
    """
    from transformers.activations import NewGELUActivation

    slots = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is NewGELUActivation
    ]
    for parent, name in slots:
        setattr(parent, name, nn.GELU(approximate="tanh"))
    return len(slots)


def _sdpa_attention(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Replaces `GPTNeoSelfAttention._attn`. `query`, `key` and `value` are [B, heads, T, head width]."""
    dropout = self.attn_dropout.p if self.training else 0.0
    queries, keys = query.shape[-2], key.shape[-2]
    windowed = self.attention_type == "local" and keys > self.config.window_size
    plain = attention_mask is None and queries == keys
    if plain and not dropout and suits(query):
        return narrow_attention(query, key, value, window=self.config.window_size if windowed else keys), None
    if plain and not windowed:
        attended = scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True, scale=1.0)
        return attended, None
    mask = self.bias[:, :, keys - queries : keys, :keys]
    if attention_mask is not None:
        allowed = attention_mask if attention_mask.dtype == torch.bool else attention_mask >= 0
        mask = mask & allowed
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=1.0)
    return attended, None
