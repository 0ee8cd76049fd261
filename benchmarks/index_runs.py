"""Runs and questions for the benchmarks of the index."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.texts import DATA
from headwater.attribution.question import Question
from headwater.attribution.scores import WhitenedGradients
from headwater.demo.tiny_lm import train_tiny_lm
from headwater.demo.world import make_world, write_world
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold

WIDTHS = (8192, 4096, 2048, 1024)
WORLD, WORLD_EPOCHS = 20_000, 3


@dataclass(frozen=True)
class Corpora:
    """The runs of the benchmark, made if they are missing."""

    work: Path

    def stories(self) -> tuple[Run, list[Question]] | None:
        """1,030 real stories and a model trained on 978 of them, with 40 questions from held-out stories."""
        if not (DATA / "gptneo-1m").exists():
            return None
        run = Run.create(self.work / "stories", str(DATA / "gptneo-1m"), DATA / "tinystories" / "stories.jsonl")
        run.fit()
        held_out = json.loads((DATA / "gptneo-1m" / "heldout_ids.json").read_text(encoding="utf-8"))[:40]
        pieces = [run.corpus[run.corpus.position[id]].pieces for id in held_out]
        return run, [run.question("".join(p[:20]), "".join(p[20:28])) for p in pieces]

    def world(self) -> tuple[Run, list[Question]]:
        """20,000 stories of the tiny world and a model trained on them, with 40 questions about its facts."""
        world = make_world(WORLD)
        corpus, model = self.work / "world.jsonl", self.work / "world-model"
        if not corpus.exists():
            write_world(world, corpus)
        if not (model / "model.safetensors").exists():
            train_tiny_lm([story.text for story in world.stories], model, epochs=WORLD_EPOCHS)
        run = Run.create(self.work / "world", str(model), corpus)
        run.fit()
        facts = sorted(world.facts, key=lambda fact: (-fact.times, fact.id))
        chosen = [*facts[:20], *facts[len(facts) // 2 :][:10], *facts[-10:]]
        return run, [run.question(fact.prompt, fact.completion) for fact in chosen]


def whitened_queries(run: Run, questions: list[Question]) -> NDArray[Any]:
    """[Q, D] whitened gradients of the questions."""
    curvature = run.curvature()
    sweep = Sweep(stage="", lm=run.lm, layers=curvature.layers, sequences=[question.sequence for question in questions])
    return fold(sweep, lambda: WhitenedGradients(curvature)).values.numpy()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
