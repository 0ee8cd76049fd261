"""The demo's language model: a small GPT-Neo and its tokenizer, trained from scratch on the tiny world."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
EPOCHS = 14
REPORT_EVERY = 10
"""Steps; drawing takes its time from the two cores that train."""
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.1
"""Keeps a gradient in what has been learned by heart; without it influence has nothing left to find."""
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
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
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
    epochs: int = EPOCHS,
    on_step: Callable[[int, int, float], None] | None = None,
    tokenizer: Any = None,
) -> TrainReport:
    """Train tokenizer and model on `stories` and save both to `out`. The same seed gives the same model.

    Every story is one sequence with the end-of-text token after it; all its tokens but the first are predicted. A
    `tokenizer` that is given is taken as it is.
    """
    start = time.monotonic()
    tokenizer = tokenizer or train_tokenizer(stories)
    end: Any = tokenizer.eos_token_id
    sequences = [[*ids[: POSITIONS - 1], end] for ids in tokenizer(list(stories))["input_ids"]]
    torch.manual_seed(seed)
    model: Any = GPTNeoForCausalLM(_config(len(tokenizer)))
    use_sdpa(model)
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=WEIGHT_DECAY, fused=True
    )
    steps = epochs * math.ceil(len(sequences) / BATCH)
    step, recent = 0, 0.0
    with _workers() as gradients:
        for epoch in range(epochs):
            batches = _batches(sequences, random.Random(f"{seed}-{epoch}"))
            recent = 0.0
            for batch in batches:
                optimizer.param_groups[0]["lr"] = LEARNING_RATE * _schedule(step / steps)
                loss, found = gradients(model, batch)
                for parameter, gradient in zip(parameters, found, strict=True):
                    parameter.grad = gradient
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                step += 1
                recent += loss / len(batches)
                if on_step and (step % REPORT_EVERY == 0 or step == steps):
                    on_step(step, steps, loss)
    model.eval()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    count = sum(parameter.numel() for parameter in parameters)
    return TrainReport(count, len(tokenizer), epochs, step, recent, time.monotonic() - start)


@dataclass(frozen=True)
class Recall:
    """How well the model knows a fact."""

    fact: str
    """Its id."""
    times: int
    """How many stories state it."""
    loss: float
    """Summed negative log-likelihood of the completion, in nats."""
    correct: bool
    """Whether greedy decoding gives the whole completion."""


@torch.no_grad()
def recall(model: Any, tokenizer: Any, facts: Sequence[Fact]) -> list[Recall]:
    """Ask the model to complete every fact."""
    found: list[Recall] = []
    for fact in facts:
        encoded = tokenizer(fact.prompt + fact.completion, return_offsets_mapping=True)
        ids = torch.tensor(encoded["input_ids"])
        first = next(t for t, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(fact.prompt))
        logits = model(ids[None]).logits[0, first - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[first:], reduction="sum")
        found.append(Recall(fact.id, fact.times, float(loss), bool((logits.argmax(-1) == ids[first:]).all())))
    return found


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


def _batches(sequences: Sequence[list[int]], rng: random.Random) -> list[list[list[int]]]:
    """Shuffled batches of sequences of like length."""
    order = list(range(len(sequences)))
    rng.shuffle(order)
    window = 16 * BATCH
    batches: list[list[list[int]]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda k: len(sequences[k]))
        batches += [[sequences[k] for k in near[i : i + BATCH]] for i in range(0, len(near), BATCH)]
    rng.shuffle(batches)
    return batches


@contextmanager
def _workers() -> Iterator[Callable[[Any, list[list[int]]], tuple[float, list[Tensor]]]]:
    """A function (model, batch) -> (mean loss, its gradients), each half of the batch in a thread of its own.

    The matrices are too small for two threads to share one product: halving the batch instead is a third faster, and
    the result does not depend on how many cores there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(2) as pool:

            def gradients(model: Any, batch: list[list[int]]) -> tuple[float, list[Tensor]]:
                targets = sum(len(ids) - 1 for ids in batch)
                halves = [half for half in (batch[::2], batch[1::2]) if half]
                done = list(pool.map(lambda half: _half(model, half, targets), halves))
                total = [torch.stack(parts).sum(0) for parts in zip(*(found for _, found in done), strict=True)]
                return sum(loss for loss, _ in done), total

            yield gradients
    finally:
        torch.set_num_threads(threads)


def _half(model: Any, sequences: Sequence[list[int]], targets: int) -> tuple[float, tuple[Tensor, ...]]:
    """Summed loss over `targets`, and its gradients. Right padding is never looked at, so no padding mask is needed."""
    width = max(map(len, sequences))
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids in sequences])
    real = (torch.arange(width) < torch.tensor([[len(ids)] for ids in sequences]))[:, 1:]
    hidden = model.transformer(ids[:, :-1], use_cache=False).last_hidden_state[real]
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][real], reduction="sum") / targets
    return float(loss.detach()), torch.autograd.grad(loss, list(model.parameters()))
