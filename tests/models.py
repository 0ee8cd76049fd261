"""One tiny randomly initialised model of every architecture that Headwater promises to read."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
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
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture]())
    with torch.no_grad():  # biases start at zero, where a forgotten bias would not be noticed
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


def plain_model(architecture: str = "gpt_neo", dtype: torch.dtype = torch.float64) -> Any:
    """A fresh copy, untouched by Headwater."""
    return copy.deepcopy(_model(architecture)).to(dtype).eval()


def tiny_lm(architecture: str = "gpt_neo", dtype: torch.dtype = torch.float64) -> LanguageModel:
    return wrap_model(plain_model(architecture, dtype), tiny_tokenizer(), architecture)
