"""Builds the demo: stories, a model trained on them, a fitted and indexed run, and three answers.

Each step is stored on disk and reused the next time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from headwater.attribution.answer import Answer
from headwater.base.files import write_text
from headwater.base.progress import Report, Step, silent
from headwater.demo.tiny_lm import FactRecall, TrainReport, measure_recall, train_tiny_lm
from headwater.demo.world import Fact, World, make_world, read_stories, write_world
from headwater.errors import HeadwaterError
from headwater.lm.load import load_model
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from headwater.training.recipe import Recipe

SHOWN = 3
"""Examples shown at each end of a demo answer."""
STORED = 10
OPENING = "Mabel the frog and a polite pig named"
"""Beginning of many stories, each of which continues differently."""


@dataclass(frozen=True)
class Demo:
    """Path, size and seed of a demo."""

    path: Path
    stories: int = 3000
    seed: int = 0
    epochs: int = Recipe().epochs

    @property
    def corpus(self) -> Path:
        return self.path / "world.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"


@dataclass(frozen=True)
class Learned:
    """Training results of the demo's model, stored beside it."""

    report: TrainReport
    facts: list[FactRecall]

    def accuracy(self) -> dict[int, float]:
        """Number of stories that state a fact -> share of such facts that the model completes correctly."""
        correct: dict[int, list[bool]] = {}
        for fact in self.facts:
            correct.setdefault(fact.times, []).append(fact.correct)
        return {times: sum(right) / len(right) for times, right in sorted(correct.items())}


@dataclass(frozen=True)
class BuiltDemo:
    """A finished demo, ready for questions."""

    world: World
    learned: Learned
    run: Run


def build(demo: Demo, report: Report = silent) -> BuiltDemo:
    """Build what is missing: the world, its model, and a fitted and indexed run.

    Raises HeadwaterError if the path has another demo.
    """
    world = build_world(demo)
    learned = build_model(demo, world, report)
    run = Run.create(demo.path, str(demo.model), demo.corpus, execution=Execution(report=report))
    run.fit()
    run.build_index()
    return BuiltDemo(world, learned, run)


def build_world(demo: Demo) -> World:
    """The world of the demo's size and seed, written to disk if it is not there yet.

    Raises HeadwaterError if the path has another world.
    """
    world = make_world(demo.stories, demo.seed)
    if not demo.corpus.exists():
        write_world(world, demo.corpus)
    elif read_stories(demo.corpus) != world.stories:
        raise HeadwaterError(
            f"{demo.path} has a demo with another size, seed or version of Headwater. "
            "Choose another directory, or delete this one."
        )
    return world


def build_model(demo: Demo, world: World, report: Report = silent) -> Learned:
    """Train the demo's model, or read the result of an earlier training.

    Raises HeadwaterError if the earlier training had another number of epochs.
    """
    learned_file = demo.model / "learned.json"
    if learned_file.exists():
        earlier = TypeAdapter(Learned).validate_json(learned_file.read_bytes())
        if earlier.report.epochs != demo.epochs:
            raise HeadwaterError(
                f"The model in {demo.model} was trained for {earlier.report.epochs} epochs, not {demo.epochs}. "
                "Choose another directory, or delete this one."
            )
        return earlier
    part = demo.path / "model.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(demo.model, ignore_errors=True)

    def on_step(step: int, total: int, loss: float) -> None:
        report(Step(stage="training", done=step, total=total, tokens=0, note=f"loss {loss:.2f}"))

    trained = train_tiny_lm(
        [story.text for story in world.stories], part, seed=demo.seed, epochs=demo.epochs, on_step=on_step
    )
    lm = load_model(str(part))
    learned = Learned(trained, measure_recall(lm, world.facts))
    (part / "learned.json").write_text(json.dumps(asdict(learned), indent=2), encoding="utf-8")
    part.rename(demo.model)
    return learned


def examples(world: World, learned: Learned) -> list[Fact]:
    """Three facts for example questions, one of each kind, frequently stated and completed correctly by the model.

    Among these it takes the fact with the highest loss. A fact that the model is sure of has almost no gradient.
    """
    known = {fact.fact: (fact.correct, fact.loss) for fact in learned.facts}
    kinds = dict.fromkeys(fact.kind for fact in world.facts)
    return [
        max((fact for fact in world.facts if fact.kind == kind), key=lambda fact: (fact.times, *known[fact.id]))
        for kind in kinds
    ]


def write_questions(demo: Demo, facts: Sequence[Fact]) -> None:
    """Write the example questions of the page: the `facts`, and a prompt for the model to continue."""
    questions: list[dict[str, str]] = [{"prompt": fact.prompt, "completion": fact.completion} for fact in facts]
    lines = [json.dumps(question, ensure_ascii=False) for question in [*questions, {"prompt": OPENING}]]
    write_text(demo.path / "examples.jsonl", "\n".join(lines) + "\n")


def answers(demo: Demo, facts: Sequence[Fact], run: Run) -> list[Answer]:
    """Answers from the index to why the model completes each of `facts`. Stored answers are read."""
    files = [demo.path / "answers" / f"{fact.id}.json" for fact in facts]
    if not all(file.exists() for file in files):
        questions = [run.question(fact.prompt, fact.completion) for fact in facts]
        for file, answer in zip(files, run.ask_all(questions, k=STORED), strict=True):
            write_text(file, answer.to_json())
    return [Answer.from_json(file.read_bytes()) for file in files]


def count_stating(fact: Fact, ranked: Sequence[str]) -> int:
    """Number of stories that state `fact` among the `ranked` ids."""
    return len(set(fact.stories) & set(ranked))
