"""Ground truth for the linear datamodeling score: the recipe's model retrained on random halves of its corpus.

Park et al. 2023 (TRAK, arXiv 2303.14186), section 2: what a method foretells for a subset is compared with what a
model trained on that subset really says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.demo.tiny_lm import recall, train
from headwater.demo.world import Fact
from headwater.errors import HeadwaterError
from headwater.files import replacing
from headwater.lm.load import load_model
from headwater.sweep.progress import Report, Step, silent

STAGE = "retraining"


@dataclass(frozen=True)
class Recipe:
    """All that a retraining depends on, but for the subset."""

    texts: Sequence[str]
    """The whole corpus, N texts."""
    facts: Sequence[Fact]
    """The Q queries: a fact's completion after its prompt."""
    tokenizer: Any
    """Kept for every subset, so that a query is always the same tokens."""
    epochs: int
    fingerprint: str
    """Of corpus and tokenizer."""
    seed: int = 0
    """Of the subsets, of the weights that every training starts from, and of its order."""

    def settings(self) -> dict[str, Any]:
        """What must agree for a measurement on disk to be of use."""
        queries = [[fact.prompt, fact.completion] for fact in self.facts]
        return {"fingerprint": self.fingerprint, "epochs": self.epochs, "seed": self.seed, "queries": queries}

    def subset(self, number: int) -> NDArray[np.bool_]:
        """[N] half of the corpus, which `seed` and `number` alone decide."""
        rng = np.random.default_rng([self.seed, number])
        members = np.zeros(len(self.texts), dtype=np.bool_)
        members[rng.choice(len(self.texts), len(self.texts) // 2, replace=False)] = True
        return members


@dataclass(frozen=True)
class Truth:
    """What retraining on every subset came to."""

    members: NDArray[np.bool_]
    """[M, N] which examples each model saw."""
    losses: NDArray[np.float64]
    """[M, Q] summed loss over the completion of every query, in nats."""


def ground_truth(recipe: Recipe, subsets: int, folder: Path, report: Report = silent) -> Truth:
    """Retrain on `subsets` halves of the corpus and measure every query on each model.

    One small file a subset is kept in `folder`; those that are there already are read, so that an interrupted
    measurement goes on and a larger one adds to a smaller. Raises HeadwaterError where `folder` holds measurements of
    another corpus, model or seed.
    """
    if subsets < 3:
        raise HeadwaterError(f"--subsets {subsets}: a rank correlation over subsets needs at least three.")
    _bind(folder, recipe)
    losses: list[list[float]] = []
    for number in range(subsets):
        report(Step(STAGE, number, subsets, 0))
        path = folder / f"{number:05d}.json"
        if not path.exists():
            _measure(recipe, number, subsets, path, report)
        losses.append(json.loads(path.read_text(encoding="utf-8"))["losses"])
    report(Step(STAGE, subsets, subsets, 0))
    return Truth(np.stack([recipe.subset(number) for number in range(subsets)]), np.array(losses))


def retrained_losses(recipe: Recipe, number: int, report: Report = silent, total: int = 1) -> list[float]:
    """[Q] the losses of one retrained model; the same number gives the same losses."""

    def on_step(step: int, steps: int, loss: float) -> None:
        report(Step(STAGE, number, total, 0, f"step {step} of {steps}, loss {loss:.2f}"))

    chosen = [text for text, member in zip(recipe.texts, recipe.subset(number), strict=True) if member]
    with TemporaryDirectory() as place:
        train(
            chosen, Path(place), seed=recipe.seed, epochs=recipe.epochs, on_step=on_step, tokenizer=recipe.tokenizer
        )  # fmt: skip
        lm = load_model(place, device="cpu")
    return [fact.loss for fact in recall(lm.model, lm.tokenizer, recipe.facts)]


def _measure(recipe: Recipe, number: int, total: int, path: Path, report: Report) -> None:
    start = time.monotonic()
    losses = retrained_losses(recipe, number, report, total)
    found = {"subset": number, "losses": losses, "seconds": round(time.monotonic() - start, 1)}
    with replacing(path) as part:
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")


def _bind(folder: Path, recipe: Recipe) -> None:
    """Write down what the measurements in `folder` are of, or refuse those of something else."""
    path = folder / "settings.json"
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps(recipe.settings(), indent=1) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != recipe.settings():
        raise HeadwaterError(
            f"{folder} holds the retrainings of another corpus, model or seed. Give --work a directory of its own."
        )
