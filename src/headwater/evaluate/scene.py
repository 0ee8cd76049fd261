"""What is evaluated: a run made by the demo's recipe, with the world that its model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from headwater.demo.build import Learned
from headwater.demo.world import Fact, Story, read_stories
from headwater.errors import HeadwaterError
from headwater.evaluate.retrain import Recipe
from headwater.influence.question import Question
from headwater.run import Run
from headwater.sweep.progress import Report, silent


@dataclass(frozen=True)
class EvalScene:
    """What every method of attribution is given."""

    run: Run
    stories: tuple[Story, ...]
    """The corpus, in its order: N."""
    facts: tuple[Fact, ...]
    """The queries: Q."""
    epochs: int
    """Of the training that made the run's model."""
    work: Path
    """Where everything measured is kept."""
    seed: int = 0
    report: Report = silent

    @cached_property
    def questions(self) -> list[Question]:
        """Every fact as a question, in their order."""
        return [replace(self.run.question(fact.prompt, fact.completion), id=fact.id) for fact in self.facts]

    def stating(self) -> NDArray[np.bool_]:
        """[N, Q] which story states which fact."""
        return np.array([[story.fact == fact.id for fact in self.facts] for story in self.stories])

    def recipe(self) -> Recipe:
        """How the run's model was made, for retraining it on less."""
        texts = [story.text for story in self.stories]
        fingerprint = f"{self.run.corpus.fingerprint}-{self.run.lm.tokenizer_fingerprint}"
        return Recipe(texts, self.facts, self.run.lm.tokenizer, self.epochs, fingerprint, self.seed)


def open_scene(path: Path, work: Path, seed: int = 0) -> EvalScene:
    """The scene of the run at `path`.

    Raises HeadwaterError where the run was not made by the demo's recipe, so that its model cannot be retrained.
    """
    world, facts, learned = path / "world.jsonl", path / "world.facts.jsonl", path / "model" / "learned.json"
    run = Run.open(path)
    missing = [str(file) for file in (world, facts, learned) if not file.exists()]
    if missing:
        raise HeadwaterError(
            f"{path} was not made by `headwater demo`: {', '.join(missing)} is missing. Evaluating retrains the model, "
            "and that is only known how for the demo's."
        )
    stories = read_stories(world)
    if [story.id for story in stories] != run.corpus.ids:
        raise HeadwaterError(
            f"The corpus of {path} is no longer its world: examples were added or removed. Evaluate a run as the demo "
            "made it."
        )
    one = TypeAdapter(Fact)
    queries = tuple(one.validate_json(line) for line in facts.read_text(encoding="utf-8").splitlines())
    epochs = TypeAdapter(Learned).validate_json(learned.read_bytes()).report.epochs
    return EvalScene(run, stories, queries, epochs, work, seed)
