"""GPT-Neo's fused attention is its eager attention, to 1e-5 in outputs and gradients; so is that of narrow heads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headwater.lm.kernels import use_fused_gelu, use_sdpa
from headwater.lm.narrow_attention import narrow_attention
from tests.models import VOCABULARY, plain_model


@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 40], ids=lambda t: f"{t} tokens, window 8")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_and_gradients_agree_with_the_eager_path(tokens: int, dtype: torch.dtype) -> None:
    eager, fused = plain_model("gpt_neo", dtype), plain_model("gpt_neo", dtype)
    assert use_sdpa(fused) == 2
    torch.manual_seed(0)
    embedded = torch.randn(3, tokens, 16, dtype=dtype)
    direction = torch.randn(3, tokens, 16, dtype=dtype)
    results = []
    for model in (eager, fused):
        inputs = embedded.clone().requires_grad_()
        hidden = model.transformer(inputs_embeds=inputs, use_cache=False).last_hidden_state
        results.append((hidden, *torch.autograd.grad(hidden, inputs, direction)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_left_padding_and_cached_generation_agree_too() -> None:
    eager, fused = plain_model("gpt_neo", torch.float32), plain_model("gpt_neo", torch.float32)
    use_sdpa(fused)
    torch.manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (2, 12))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    torch.testing.assert_close(
        fused(ids, attention_mask=mask).logits[:, 3:],
        eager(ids, attention_mask=mask).logits[:, 3:],
        rtol=1e-4,
        atol=1e-4,
    )
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(
        fused.generate(ids[:1], attention_mask=mask[1:], **options),
        eager.generate(ids[:1], attention_mask=mask[1:], **options),
    )


@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2"])
def test_the_fused_gelu_is_the_stepwise_one(architecture: str) -> None:
    plain, fused = plain_model(architecture, torch.float32), plain_model(architecture, torch.float32)
    assert use_fused_gelu(fused) == 2
    ids = torch.arange(20)[None]
    torch.testing.assert_close(fused(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-5)


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """The plain form, which holds all scores."""
    tokens = query.shape[2]
    ages = torch.arange(tokens)[:, None] - torch.arange(tokens)
    scores = (query @ key.mT).masked_fill((ages < 0) | (ages >= window), -torch.inf)
    return scores.softmax(dim=-1) @ value


@given(
    tokens=st.integers(1, 100),
    width=st.sampled_from([4, 8, 12]),
    window=st.integers(1, 120),
    size=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_narrow_heads_are_attended_as_by_the_plain_form(
    tokens: int, width: int, window: int, size: float, seed: int
) -> None:
    torch.manual_seed(seed)
    query, key, value = (size * torch.randn(2, tokens, 3, width).transpose(1, 2) for _ in range(3))
    direction = torch.randn(query.shape)
    results = []
    for attend, dtype in ((windowed_attention, torch.float64), (narrow_attention, torch.float32)):
        inputs = [x.to(dtype).requires_grad_() for x in (query, key, value)]
        attended = attend(inputs[0], inputs[1], inputs[2], window=window)
        results.append((attended, *torch.autograd.grad(attended, inputs, direction.to(dtype))))
    for expected, found in zip(*results, strict=True):
        tolerance = 1e-5 * (1 + size**2) * max(1.0, float(expected.detach().abs().max()))
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=tolerance)


def test_compiled_code_rounds_alike_where_it_is_made_and_where_it_comes_from_disk(tmp_path: Path) -> None:
    code = """
import torch
from headwater.lm.narrow_attention import narrow_attention
torch.set_num_threads(1)
torch.manual_seed(0)
inputs = [torch.randn(1, 2, 50, 4).requires_grad_() for _ in range(3)]
attended = narrow_attention(*inputs, window=50)
print([x.tolist() for x in (attended, *torch.autograd.grad(attended.square().sum(), inputs))])
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    compiled, loaded = (
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True).stdout
        for _ in range(2)
    )
    assert compiled == loaded
