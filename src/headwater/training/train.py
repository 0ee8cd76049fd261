"""Trains a causal language model on token sequences, with the same result on any number of cores."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from headwater.corpus.batches import TokenSequence
from headwater.errors import HeadwaterError, ModelError
from headwater.lm.body import body_of
from headwater.lm.kernels import use_sdpa
from headwater.lm.logit_map import LogitMap, observe_logit_map
from headwater.lm.options import Loading
from headwater.lm.pretrained import locate, read_model
from headwater.training.recipe import Recipe

REPORT_EVERY = 10
"""Steps between reports. Drawing progress takes CPU time from the training."""
Gradients = Callable[[Any, Sequence[TokenSequence]], tuple[float, list[Tensor]]]


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """State of a training after a step."""

    step: int
    steps: int
    loss: float
    """Loss of the last batch in nats per token."""
    rate: float
    """Learning rate of the last step."""
    second_moments: Callable[[], dict[str, Tensor]]
    """Adam's running mean of squared gradients by parameter, with bias correction."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    steps: int
    loss: float
    """Mean loss in nats per token over the last epoch."""
    seconds: float


def fresh_model(config: Any, recipe: Recipe) -> Any:
    """The model that training starts from: the recipe's start, or random weights from its seed."""
    torch.manual_seed(recipe.seed)
    if recipe.start is None:
        own: Any = type(config).from_dict(config.to_dict())  # drops the attention implementation of a loaded model
        model: Any = AutoModelForCausalLM.from_config(own, dtype=torch.float32)
    else:
        try:
            model = read_model(locate(recipe.start, Loading()), Loading())
        except ModelError as error:
            raise HeadwaterError(f'The recipe\'s "start": {recipe.start!r} cannot be loaded. {error}') from error
    use_sdpa(model)
    return model


def train(
    model: Any,
    sequences: Sequence[TokenSequence],
    recipe: Recipe,
    *,
    watch: Callable[[TrainingStep], None] | None = None,
    threads: int = 2,
) -> TrainingResult:
    """Train `model` in place on `sequences`, and set it to eval mode.

    `watch` is called after every step. The result does not depend on the number of `threads`, one or two. Raises
    HeadwaterError if there is no sequence, or if the loss becomes infinite or NaN.
    """
    if not sequences:
        raise HeadwaterError("There is no sequence to train on: the corpus is empty.")
    start = time.monotonic()
    model.train()
    named = dict(model.named_parameters())
    parameters = list(named.values())
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    steps = recipe.epochs * math.ceil(len(sequences) / recipe.batch)
    step, recent = 0, 0.0

    def second_moments() -> dict[str, Tensor]:
        corrected = 1 - recipe.betas[1] ** step
        return {name: optimizer.state[one]["exp_avg_sq"] / corrected for name, one in named.items()}

    with _gradient_workers(1 if _drops_out(model) else threads) as gradients:
        for epoch in range(recipe.epochs):
            batches = _batches(sequences, recipe.batch, random.Random(f"{recipe.seed}-{epoch}"))  # noqa: S311
            recent = 0.0
            for batch in batches:
                rate = recipe.rate(step / steps)
                optimizer.param_groups[0]["lr"] = rate
                loss, found = gradients(model, batch)
                if not math.isfinite(loss):
                    raise HeadwaterError(
                        f"The loss is {loss} at step {step + 1} of {steps}. Lower learning_rate or clip in the recipe."
                    )
                for parameter, gradient in zip(parameters, found, strict=True):
                    parameter.grad = gradient
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
                optimizer.step()
                step += 1
                recent += loss / len(batches)
                if watch is not None:
                    watch(TrainingStep(step=step, steps=steps, loss=loss, rate=rate, second_moments=second_moments))
    model.zero_grad(set_to_none=True)
    model.eval()
    return TrainingResult(step, recent, time.monotonic() - start)


def gradients_of(model: Any, sequences: Sequence[TokenSequence]) -> tuple[Tensor, ...]:
    """Gradients of the mean loss per token over the sequences, in the order of the model's parameters."""
    targets = sum(int(one.targets.sum()) for one in sequences)
    return _loss_and_gradients(model, sequences, targets=targets, to_logits=observe_logit_map(model))[1]


def reporting(on_step: Callable[[int, int, float], None]) -> Callable[[TrainingStep], None]:
    """A `watch` callback that calls `on_step` with (step, steps, loss) every few steps."""

    def watch(now: TrainingStep) -> None:
        if now.step % REPORT_EVERY == 0 or now.step == now.steps:
            on_step(now.step, now.steps, now.loss)

    return watch


def _drops_out(model: Any) -> bool:
    """Whether the model has dropout, whose random numbers two threads would draw in an undefined order.

    Some architectures have dropout modules. Others have only a number, such as `attention_dropout` of their attention.
    """
    modules = list(model.modules())
    rates = [module.p for module in modules if isinstance(module, torch.nn.Dropout)]
    rates += [value for module in modules for name, value in vars(module).items() if "dropout" in name]
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def _batches(sequences: Sequence[TokenSequence], size: int, rng: random.Random) -> list[list[TokenSequence]]:
    """Shuffled batches of sequences of similar length."""
    order = list(range(len(sequences)))
    rng.shuffle(order)
    window = 16 * size
    batches: list[list[TokenSequence]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda k: len(sequences[k].input_ids))
        batches += [[sequences[k] for k in near[i : i + size]] for i in range(0, len(near), size)]
    rng.shuffle(batches)
    return batches


@contextmanager
def _gradient_workers(count: int) -> Iterator[Gradients]:
    """A function (model, batch) -> (mean loss, gradients) that computes each half of the batch in its own thread.

    With small matrices, two threads per matrix product bring nothing. Splitting the batch is a third faster, and the
    result does not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            maps: dict[int, LogitMap] = {}

            def gradients(model: Any, batch: Sequence[TokenSequence]) -> tuple[float, list[Tensor]]:
                targets = sum(int(one.targets.sum()) for one in batch)
                halves = [half for half in (batch[::2], batch[1::2]) if half]
                if id(model) not in maps:
                    maps[id(model)] = observe_logit_map(model)
                one = partial(_loss_and_gradients, model, targets=targets, to_logits=maps[id(model)])
                done = list(pool.map(one, halves))
                total = [torch.stack(parts).sum(0) for parts in zip(*(found for _, found in done), strict=True)]
                return sum(loss for loss, _ in done), total

            yield gradients
    finally:
        torch.set_num_threads(threads)


def _loss_and_gradients(
    model: Any, sequences: Sequence[TokenSequence], *, targets: int, to_logits: LogitMap
) -> tuple[float, tuple[Tensor, ...]]:
    """Summed loss divided by `targets`, and its gradients. Attention is causal, so right padding needs no mask."""
    width = max(len(one.input_ids) for one in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    counts = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, one in enumerate(sequences):
        ids[row, : len(one.input_ids)] = torch.from_numpy(one.input_ids)
        counts[row, : len(one.input_ids)] = torch.from_numpy(one.targets)
    predicts = counts[:, 1:]
    hidden = body_of(model)(ids[:, :-1], use_cache=False).last_hidden_state[predicts]
    if to_logits.input_scale != 1.0:
        hidden = hidden * to_logits.input_scale
    logits = to_logits(model.get_output_embeddings()(hidden))
    loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][predicts], reduction="sum") / targets
    return float(loss.detach()), torch.autograd.grad(loss, list(model.parameters()), allow_unused=False)
