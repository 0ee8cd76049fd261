"""Scales and soft caps of logits: observed on the model, right for every label, and unknown changes refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GraniteConfig,
    HyperCLOVAXConfig,
    MiniCPM3Config,
    NanoChatConfig,
)

from headwater.corpus.batches import make_batches
from headwater.errors import ModelError
from headwater.lm.capture import Capture
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, wrap_model
from headwater.lm.logit_map import LogitMap, observe_logit_map
from headwater.verify.prediction_change import prediction_change, reference_batches
from tests.models import VOCABULARY, tiny_tokenizer
from tests.oracle import assert_near, example_gradients, random_sequences

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
MAMBA: dict[str, Any] = {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 4}
MINICPM: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 4,
}
EXPECTED = {
    "gemma2": (Gemma2Config(**SHAPE, head_dim=4, final_logit_softcapping=3.0), LogitMap(VOCABULARY, cap=3.0)),
    "nanochat": (NanoChatConfig(**SHAPE, final_logit_softcapping=15.0), LogitMap(VOCABULARY, cap=15.0)),
    "cohere": (CohereConfig(**SHAPE, logit_scale=0.0625), LogitMap(VOCABULARY, scale=0.0625)),
    "granite": (GraniteConfig(**SHAPE, logits_scaling=8.0), LogitMap(VOCABULARY, scale=1 / 8.0)),
    "hyperclovax": (HyperCLOVAXConfig(**SHAPE, logits_scaling=0.125), LogitMap(VOCABULARY, scale=0.125)),
    "falcon_h1": (FalconH1Config(**SHAPE, **MAMBA, lm_head_multiplier=0.3), LogitMap(VOCABULARY, scale=0.3)),
    "minicpm3": (MiniCPM3Config(**SHAPE | MINICPM), None),
}


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(EXPECTED[name][0], attn_implementation="eager").double().eval()


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_configured_scale_and_cap_are_found_in_any_precision(name: str, dtype: torch.dtype) -> None:
    model, expected = model_of(name).to(dtype), EXPECTED[name][1]
    found = observe_logit_map(model)
    if expected is None:  # MiniCPM divides its hidden states
        assert found == LogitMap(VOCABULARY, input_scale=1 / model.config.logits_scaling)
    else:
        assert found == expected
    if dtype == torch.float64:
        lm = wrap_model(model, tiny_tokenizer())
        ids = torch.arange(30)[None]
        torch.testing.assert_close(lm.head.logits(lm.hidden_states(ids)), model(ids).logits)


def captured_gradients(lm: LanguageModel) -> dict[str, Tensor]:
    """layer -> [N, O, I] of ten random texts."""
    layers = choose_layers(lm.model)
    (batch,) = make_batches(random_sequences(10, VOCABULARY, 0), 10_000)
    with Capture(lm, layers) as capture:
        captured = capture(batch)
    rows = np.argsort(batch.rows)
    return {
        one.name: (captured.output_gradients[one.name].mT @ captured.activations[one.group])[rows] for one in layers
    }


def test_gradients_through_a_soft_cap_are_those_of_autograd() -> None:
    model = model_of("gemma2")
    lm = wrap_model(model, tiny_tokenizer())
    found = captured_gradients(lm)
    expected = example_gradients(model, list(found), random_sequences(10, VOCABULARY, 0))
    for name, gradients in found.items():
        assert_near(gradients, expected[name])


def test_bfloat16_scores_of_gemma_2_are_near_those_of_float32() -> None:
    """The weights are those that bfloat16 can represent, so only the computing is less precise."""

    def scores(dtype: torch.dtype, cap: float | None) -> Tensor:
        model = model_of("gemma2").to(torch.bfloat16).to(dtype)
        model.config.final_logit_softcapping = cap
        found = captured_gradients(wrap_model(model, tiny_tokenizer()))
        flat = torch.cat([gradients.flatten(1) for gradients in found.values()], 1)
        return flat @ flat.T

    precise = scores(torch.float32, 3.0)
    assert float((scores(torch.bfloat16, 3.0) - precise).norm() / precise.norm()) < 0.02
    assert float((scores(torch.float32, None) - precise).norm() / precise.norm()) > 0.1, "the cap has to matter here"


def test_the_change_of_predictions_goes_through_the_soft_cap() -> None:
    lm = wrap_model(model_of("gemma2"), tiny_tokenizer())
    (reference,) = reference_batches(lm, random_sequences(3, VOCABULARY, 1))
    torch.manual_seed(0)
    moved = (reference.states + 0.3 * torch.randn_like(reference.states)).requires_grad_()
    ones = torch.ones(len(moved), dtype=torch.float64)
    found = prediction_change(moved.detach(), reference, lm.head, divergence_weights=0.5 * ones, loss_weights=2 * ones)
    before, after = lm.head.logits(reference.states).log_softmax(1), lm.head.logits(moved).log_softmax(1)
    divergences = (before.exp() * (before - after)).sum(1)
    losses = (before - after).gather(1, reference.labels[:, None])[:, 0]
    (expected,) = torch.autograd.grad(0.5 * divergences.sum() + 2 * losses.sum(), moved)
    torch.testing.assert_close(found.divergences, divergences.detach())
    torch.testing.assert_close(found.losses, losses.detach())
    torch.testing.assert_close(found.gradient, expected)


def test_unknown_changes_of_logits_and_hidden_states_are_refused() -> None:
    model = model_of("cohere")
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, args: (args[0] + 0.1,))
    with pytest.raises(ModelError, match="hidden states are changed before the output layer"):
        observe_logit_map(model)
    handle.remove()

    class Doubled(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model, self.base_model, self.config = model, model.base_model, model.config
            self.get_input_embeddings, self.get_output_embeddings = (
                model.get_input_embeddings,
                model.get_output_embeddings,
            )

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = self.model(*args, **kwargs)
            out.logits = out.logits + 1e-3 * out.logits**2
            return out

    with pytest.raises(ModelError, match="more than a scale and a soft cap"):
        observe_logit_map(Doubled(model))
