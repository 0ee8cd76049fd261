"""One tiny randomly initialised model of every architecture that Headwater promises to read."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    NemotronHConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    RwkvConfig,
)

from headwater.lm.load import LanguageModel, wrap_model

TEXT = [
    "Once upon a time, Lily found a shiny key in the garden.",
    "Tom the otter lost his red hat — and he cried, 'Oh no!'",
    "The café was closed. 🦊 The fox went home with a naïve smile.",
    "They walked up the hill to see the moon.\n\nThen they slept.",
]
VOCABULARY = 300

_LLAMA_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
}

CONFIGS: dict[str, Any] = {
    "gpt_neo": lambda: GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_layers=2,
        num_heads=4,
        intermediate_size=24,
        window_size=8,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
        initializer_range=0.2,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_inner=24,
        n_positions=64,
        initializer_range=0.2,
    ),
    "llama": lambda: LlamaConfig(**_LLAMA_SHAPE),
    "qwen2": lambda: Qwen2Config(**_LLAMA_SHAPE),
    "mistral": lambda: MistralConfig(**_LLAMA_SHAPE),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
    ),
}
ARCHITECTURES = tuple(CONFIGS)

_TWO_OF_FOUR: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 12}
_ATTENTION_THEN_EXPERTS: dict[str, Any] = {**_TWO_OF_FOUR, "num_hidden_layers": 2, "hybrid_override_pattern": "*E"}
EXPERTS: dict[str, Any] = {
    "mixtral": lambda: MixtralConfig(**_LLAMA_SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_LLAMA_SHAPE, **_TWO_OF_FOUR, num_experts=4, shared_expert_intermediate_size=20
    ),
    "deepseek_v3": lambda: DeepseekV3Config(
        **_LLAMA_SHAPE | {"num_key_value_heads": 4},
        **_TWO_OF_FOUR,
        n_routed_experts=4,
        n_shared_experts=1,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=4,
    ),
    "gpt_oss": lambda: GptOssConfig(
        **_LLAMA_SHAPE, num_local_experts=4, num_experts_per_tok=2, head_dim=4, sliding_window=8
    ),
    "nemotron_h": lambda: NemotronHConfig(
        **_ATTENTION_THEN_EXPERTS,
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        mamba_num_heads=4,
        mamba_head_dim=8,
        ssm_state_size=4,
        n_groups=1,
        n_routed_experts=4,
        moe_shared_expert_intermediate_size=12,
        initializer_range=0.2,
    ),
}
"""Mixtures of experts: four experts, of which a token takes two. They differ in layout, gates, biases and routers."""
OTHERS: dict[str, Any] = {
    "opt": lambda: OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        ffn_dim=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
        init_std=0.2,
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        state_size=4,
        time_step_rank=3,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    ),
    "rwkv": lambda: RwkvConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        attention_hidden_size=16,
        intermediate_size=24,
        context_length=64,
    ),
}


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 300 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


@cache
def _model(architecture: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config((CONFIGS | EXPERTS | OTHERS)[architecture]())
    with torch.no_grad():  # biases start at zero, where a forgotten bias would not be noticed
        buffers = model.named_buffers() if architecture in EXPERTS else ()  # some routers keep their bias there
        for name, parameter in [*model.named_parameters(), *buffers]:
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif architecture == "rwkv" and parameter.dim() == 2:  # some start at zero
                parameter.normal_(0, 0.2)
    if architecture in EXPERTS:
        model.set_experts_implementation("eager")  # the others have no float64
    return model


def plain_model(architecture: str = "gpt_neo", dtype: torch.dtype = torch.float64) -> Any:
    """A fresh copy, untouched by Headwater."""
    return copy.deepcopy(_model(architecture)).to(dtype).eval()


def tiny_lm(architecture: str = "gpt_neo", dtype: torch.dtype = torch.float64) -> LanguageModel:
    return wrap_model(plain_model(architecture, dtype), tiny_tokenizer(), architecture)
