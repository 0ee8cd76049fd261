"""`python -m benchmarks.checkpointing`: peak memory and time of a capture with and without gradient checkpointing.

Each case runs in its own process, which returns freed memory to the system at once. The memory of a capture is the
process's high-water mark after it minus its resident memory before it. The time is the minimum of three.
"""

from __future__ import annotations

import os
import subprocess
import sys
import timeit
from pathlib import Path

import psutil
import torch
from tests.models import tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from headwater.corpus.batches import all_targets, make_batches
from headwater.lm.capture import Capture
from headwater.lm.checkpointing import checkpoint_gradients
from headwater.lm.layers import choose_layers
from headwater.lm.load import wrap_model

BLOCKS, WIDTH, TOKENS, EXAMPLES = 12, 256, 512, 4
TRACKED = {"every MLP linear": None, "the last block's MLP": ("*.layers.11.mlp.*",), "every q_proj": ("*.q_proj",)}


def measure(tracked: str, checkpointing: bool) -> None:
    """Print one row of the table."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=BLOCKS,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=TOKENS,
    )
    lm = wrap_model(LlamaForCausalLM(config), tiny_tokenizer())
    if checkpointing:
        checkpoint_gradients(lm.model)
    texts = [all_targets(torch.randint(2048, (TOKENS,)).numpy(), f"z{k}") for k in range(EXAMPLES)]
    (batch,) = make_batches(texts, EXAMPLES * TOKENS)
    with Capture(lm, choose_layers(lm.model, TRACKED[tracked])) as capture:
        before = psutil.Process().memory_info().rss
        capture(batch)
        used = _high_water() - before
        seconds = min(timeit.repeat(lambda: capture(batch), number=1, repeat=3))
    print(f"| {tracked} | {'yes' if checkpointing else 'no'} | {used / 1e6:.0f} MB | {seconds:.2f} s |", flush=True)


def _high_water() -> int:
    """Peak resident bytes of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], sys.argv[2] == "yes")
    else:
        print("| tracked | checkpointed | memory of a capture | time |\n|---|---|---|---|", flush=True)
        environment = os.environ | {"HEADWATER_MALLOC": "system", "MALLOC_MMAP_THRESHOLD_": "65536"}
        for name in TRACKED:
            for word in ("no", "yes"):
                command = [sys.executable, "-m", "benchmarks.checkpointing", name, word]
                subprocess.run(command, check=True, env=environment)
