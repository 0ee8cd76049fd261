"""The demo's language model: a small GPT-Neo and its tokenizer, trained from scratch on the tiny world."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPTNeoConfig, GPTNeoForCausalLM, PreTrainedTokenizerFast

from headwater.demo.world import Fact
from headwater.lm.kernels import use_sdpa

END = "<|endoftext|>"
VOCABULARY = 2048
HIDDEN, LAYERS, HEADS, POSITIONS = 96, 2, 4, 256
BATCH = 8
LEARNING_RATE = 5e-3
WARM_UP = 0.05


@dataclass(frozen=True)
class TrainReport:
    """What a training was, and what came of it."""

    parameters: int
    vocabulary: int
    epochs: int
    steps: int
    final_loss: float
    """Mean loss in nats a token over the last epoch."""
    seconds: float


def train_tokenizer(stories: Sequence[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE made for the stories."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


def train(
    stories: Sequence[str],
    out: Path,
    *,
    seed: int = 0,
    epochs: int = 11,
    on_step: Callable[[int, int, float], None] | None = None,
) -> TrainReport:
    """Train tokenizer and model on `stories` and save both to `out`. The same seed gives the same model.

    Every story is one sequence with the end-of-text token after it; all its tokens but the first are predicted.
    """
    start = time.monotonic()
    tokenizer = train_tokenizer(stories)
    end: Any = tokenizer.eos_token_id
    sequences = [[*ids[: POSITIONS - 1], end] for ids in tokenizer(list(stories))["input_ids"]]
    torch.manual_seed(seed)
    model: Any = GPTNeoForCausalLM(_config(len(tokenizer)))
    use_sdpa(model)
    model.train()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.99),
        fused=True,
    )
    steps = epochs * math.ceil(len(sequences) / BATCH)
    step, recent = 0, 0.0
    for epoch in range(epochs):
        recent = 0.0
        batches = list(_batches(sequences, random.Random(f"{seed}-{epoch}")))
        for batch in batches:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * _schedule(step / steps)
            loss = _loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            recent += float(loss.detach()) / len(batches)
            if on_step:
                on_step(step, steps, float(loss.detach()))
    model.eval()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    parameters = sum(p.numel() for p in model.parameters())
    return TrainReport(parameters, len(tokenizer), epochs, step, recent, time.monotonic() - start)


@torch.no_grad()
def fact_accuracy(model: Any, tokenizer: Any, facts: Sequence[Fact]) -> dict[int, float]:
    """How often a fact was stated -> the share of such facts whose completion the model gets right greedily."""
    right: dict[int, list[bool]] = {}
    for fact in facts:
        encoded = tokenizer(fact.prompt + fact.completion, return_offsets_mapping=True)
        ids = torch.tensor([encoded["input_ids"]])
        first = next(t for t, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(fact.prompt))
        guesses = model(ids).logits[0, first - 1 : -1].argmax(-1)
        right.setdefault(fact.times, []).append(bool((guesses == ids[0, first:]).all()))
    return {times: sum(hits) / len(hits) for times, hits in sorted(right.items())}


def _config(vocabulary: int) -> GPTNeoConfig:
    return GPTNeoConfig(
        vocab_size=vocabulary, hidden_size=HIDDEN, num_layers=LAYERS, num_heads=HEADS, intermediate_size=4 * HIDDEN,
        attention_types=[[["global", "local"], LAYERS // 2]], window_size=POSITIONS, max_position_embeddings=POSITIONS,
        activation_function="relu", initializer_range=0.05, resid_dropout=0.0, embed_dropout=0.0,
        attention_dropout=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def _schedule(done: float) -> float:
    """Share of the learning rate: a short warm-up, then a cosine to 2 %."""
    return min(1.0, (done + 1e-4) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def _batches(sequences: Sequence[list[int]], rng: random.Random) -> Iterator[list[list[int]]]:
    """Shuffled batches of sequences of like length."""
    order = list(range(len(sequences)))
    rng.shuffle(order)
    window = 16 * BATCH
    batches: list[list[list[int]]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda k: len(sequences[k]))
        batches += [[sequences[k] for k in near[i : i + BATCH]] for i in range(0, len(near), BATCH)]
    rng.shuffle(batches)
    yield from batches


def _loss(model: Any, batch: Sequence[list[int]]) -> Tensor:
    """Mean loss over real targets. Right padding is never looked at, so no padding mask is needed."""
    width = max(map(len, batch))
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids in batch])
    real = torch.arange(width) < torch.tensor([[len(ids)] for ids in batch])
    hidden = model.transformer(ids[:, :-1], use_cache=False).last_hidden_state[real[:, 1:]]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][real[:, 1:]])
