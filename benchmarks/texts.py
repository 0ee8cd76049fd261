"""Tokenizer and texts for benchmarks: real stories, or the tiny world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from headwater.corpus.batches import TokenSequence, all_targets
from headwater.corpus.tokenize import tokenize

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Folder of real stories and a tokenizer. If it is missing, benchmarks use the tiny world."""
LONGEST = 256


def texts(count: int) -> tuple[Any, list[TokenSequence], str]:
    """(tokenizer, `count` tokenised stories of at most 256 tokens, name of their source)."""
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
