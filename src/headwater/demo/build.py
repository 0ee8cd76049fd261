"""The embedded default, built step by step: a world, a model trained on it, a run fitted on both, three answers.

Every step is kept on disk and taken from there the next time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from headwater.answer import Answer
from headwater.demo.tiny_lm import TrainReport, fact_accuracy, train
from headwater.demo.world import Fact, World, example_questions, make_world, write_world
from headwater.files import replacing
from headwater.lm.load import load_model
from headwater.run import Run
from headwater.sweep.progress import Report, Step

SHOWN = 3
"""Examples shown at each end of a demo answer."""
KEPT = 10


@dataclass(frozen=True)
class Demo:
    """Where the demo lives and how large its world is."""

    path: Path
    stories: int
    seed: int

    @property
    def corpus(self) -> Path:
        return self.path / "world.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"


@dataclass(frozen=True)
class Learned:
    """What the demo's model learned, written beside it."""

    report: TrainReport
    accuracy: dict[int, float]
    """times stated -> share of those facts that the model completes correctly."""


def build_world(demo: Demo) -> World:
    """The world of the demo's size and seed; written to disk where it is not there yet."""
    world = make_world(demo.stories, demo.seed)
    if not demo.corpus.exists():
        write_world(world, demo.corpus)
    return world


def build_model(demo: Demo, world: World, report: Report) -> Learned:
    """Train the demo's model, or read what an earlier training left."""
    learned_file = demo.model / "learned.json"
    if learned_file.exists():
        return TypeAdapter(Learned).validate_json(learned_file.read_bytes())
    part = demo.path / "model.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(demo.model, ignore_errors=True)

    def on_step(step: int, total: int, loss: float) -> None:
        report(Step(f"training {loss:.2f}", step, total, 0))

    trained = train([story.text for story in world.stories], part, seed=demo.seed, on_step=on_step)
    lm = load_model(str(part))
    learned = Learned(trained, fact_accuracy(lm.model, lm.tokenizer, world.facts))
    (part / "learned.json").write_text(json.dumps(asdict(learned), indent=2), encoding="utf-8")
    part.rename(demo.model)
    return learned


def answers(demo: Demo, world: World, run: Run) -> list[tuple[Fact, Answer]]:
    """The demo's three questions, answered in one pass over the corpus, or read from an earlier one."""
    chosen = example_questions(world)
    known = {(fact.prompt, fact.completion): fact for fact in world.facts}
    folder = demo.path / "answers"
    files = [folder / f"{k}.json" for k in range(1, len(chosen) + 1)]
    if not all(file.exists() for file in files):
        questions = [run.question(prompt, completion) for prompt, completion in chosen]
        for file, answer in zip(files, run.ask_all(questions, k=KEPT), strict=True):
            with replacing(file) as part:
                part.write_text(answer.to_json(), encoding="utf-8")
    return [(known[pair], Answer.from_json(file.read_bytes())) for pair, file in zip(chosen, files, strict=True)]


def found(fact: Fact, ranked: Sequence[str]) -> int:
    """How many of the stories that state `fact` are among the `ranked` ids."""
    return len(set(fact.stories) & set(ranked))
