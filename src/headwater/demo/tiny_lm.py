"""Trains the demo's language model, a small GPT-Neo with its tokenizer, and tests what facts it learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.attribution.question import make_question
from headwater.demo.world import Fact
from headwater.lm.load import LanguageModel
from headwater.training.new_model import make_model
from headwater.training.outcome import measure
from headwater.training.recipe import Recipe
from headwater.training.train import reporting


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """Settings and result of a training."""

    parameters: int
    vocabulary: int
    epochs: int
    steps: int
    final_loss: float
    """Mean loss in nats per token over the last epoch."""
    seconds: float


def train_tiny_lm(
    stories: Sequence[str],
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    on_step: Callable[[int, int, float], None] = lambda *_: None,
) -> TrainReport:
    """Train tokenizer and model on `stories` and save both to `out`. The same seed gives the same model."""
    recipe = Recipe(seed=seed) if epochs is None else Recipe(seed=seed, epochs=epochs)
    new = make_model(stories, out, recipe, watch=reporting(on_step))
    return TrainReport(
        parameters=new.parameters,
        vocabulary=new.vocabulary,
        epochs=recipe.epochs,
        steps=new.trained.steps,
        final_loss=new.trained.loss,
        seconds=new.trained.seconds,
    )


@dataclass(frozen=True)
class FactRecall:
    """How well the model knows a fact."""

    fact: str
    """Id of the fact."""
    times: int
    """Number of stories that state it."""
    loss: float
    """Summed negative log-likelihood of the completion, in nats."""
    correct: bool
    """Whether greedy decoding gives the whole completion."""


def measure_recall(lm: LanguageModel, facts: Sequence[Fact]) -> list[FactRecall]:
    """How well the model completes each fact."""
    found = measure(lm, [make_question(lm, fact.prompt, fact.completion, id=fact.id) for fact in facts])
    return [
        FactRecall(fact.id, fact.times, loss, correct)
        for fact, loss, correct in zip(facts, found.losses, found.correct, strict=True)
    ]
