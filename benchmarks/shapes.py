"""The model shapes and texts that the benchmarks run on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPTNeoConfig, PreTrainedTokenizerFast

from headwater.corpus.batches import TokenSequence, all_targets
from headwater.corpus.tokenize import tokenize
from headwater.lm.load import LanguageModel, wrap_model

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real stories and a tokenizer, where they are present; the tiny world otherwise."""
LONGEST = 256


@dataclass(frozen=True)
class Shape:
    """A GPT-Neo with the given sizes."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int


SHAPES = {
    "64x8, V=50257": Shape(64, 8, 16, 50_257),
    "768x4, V=2048": Shape(768, 4, 12, 2_048),
}


def build(shape: Shape, tokenizer: Any) -> LanguageModel:
    """A randomly initialised model of the shape, frozen, with fused attention."""
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_layers=shape.layers, num_heads=shape.heads,
        attention_types=[[["global", "local"], shape.layers // 2]], max_position_embeddings=512, window_size=256,
        resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    return wrap_model(AutoModelForCausalLM.from_config(config), tokenizer, str(shape))


def texts(count: int) -> tuple[Any, list[TokenSequence], str]:
    """(tokenizer, `count` tokenised stories of at most 256 tokens, where they come from)."""
    if (DATA / "gptneo-1m").exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(DATA / "gptneo-1m")
        lines = (DATA / "tinystories" / "stories.jsonl").read_text(encoding="utf-8").split("\n")
        stories = [json.loads(line)["text"] for line in lines if line][:count]
        origin = "TinyStories"
    else:
        from headwater.demo.world import make_world
        from headwater.training.make import train_tokenizer

        stories = [story.text for story in make_world(max(count, 300)).stories][:count]
        tokenizer = train_tokenizer(stories)
        origin = "the tiny world"
    tokenized = tokenize(tokenizer, stories)
    sequences = [all_targets(np.array(t.input_ids[:LONGEST]), f"{k:05d}") for k, t in enumerate(tokenized)]
    return tokenizer, sequences, origin
