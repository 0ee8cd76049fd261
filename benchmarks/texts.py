"""The texts that the benchmarks run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from headwater.corpus.batches import TokenSequence, all_targets
from headwater.corpus.tokenize import tokenize

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real stories and a tokenizer, where they are present; the tiny world otherwise."""
LONGEST = 256


def texts(count: int) -> tuple[Any, list[TokenSequence], str]:
    """(tokenizer, `count` tokenised stories of at most 256 tokens, where they come from)."""
    if (DATA / "gptneo-1m").exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(DATA / "gptneo-1m")
        lines = (DATA / "tinystories" / "stories.jsonl").read_text(encoding="utf-8").split("\n")
        stories = [json.loads(line)["text"] for line in lines if line][:count]
        origin = "TinyStories"
    else:
        from headwater.demo.world import make_world
        from headwater.training.new_model import train_tokenizer

        stories = [story.text for story in make_world(max(count, 300)).stories][:count]
        tokenizer = train_tokenizer(stories)
        origin = "the tiny world"
    tokenized = tokenize(tokenizer, stories)
    sequences = [all_targets(np.array(t.input_ids[:LONGEST]), f"{k:05d}") for k, t in enumerate(tokenized)]
    return tokenizer, sequences, origin
