"""Training a model again on a part of its corpus, and keeping what it then says: no retraining is done twice."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.question import Question
from headwater.base.files import write_text
from headwater.base.progress import Report, Step, silent
from headwater.corpus.batches import TokenSequence
from headwater.corpus.corpus import Corpus
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel, max_positions, wrap_model
from headwater.sweep.engine import LOCAL_ENGINE, Engine
from headwater.training.outcome import Outcome, measure
from headwater.training.recipe import RECIPE_FILE, Recipe, read_recipe
from headwater.training.train import fresh_model, reporting, train

STAGE = "retraining"


@dataclass(frozen=True)
class Task:
    """One retraining."""

    members: NDArray[np.bool_]
    """[N] which examples it sees."""
    seed: int
    """Added to the recipe's: of the first weights and of the order."""

    @property
    def key(self) -> str:
        """The same for the same examples and seed."""
        digest = hashlib.sha256(np.packbits(self.members).tobytes())
        return f"{digest.hexdigest()[:20]}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A model's recipe, with everything that it is applied to."""

    recipe: Recipe
    config: Any
    """Of the architecture, as transformers has it."""
    tokenizer: Any
    """Kept for every retraining, so that a question is always the same tokens."""
    sequences: Sequence[TokenSequence]
    """The whole corpus, N, as it was tokenised."""
    questions: Sequence[Question]
    fingerprint: str
    """Of corpus, tokenizer and model."""
    folder: Path
    """Where outcomes are kept."""
    engine: Engine = LOCAL_ENGINE
    """Who retrains."""

    def outcomes(self, tasks: Sequence[Task], jobs: int = 1, report: Report = silent) -> list[Outcome]:
        """What the retrained models say, in the order of the tasks.

        Those in the folder are read; the others are made and kept: by the engine's workers, or `jobs` at a time in
        processes of their own.
        Raises HeadwaterError where the folder holds the outcomes of something else.
        """
        self._bind()
        missing = list({task.key: task for task in tasks if not self._path(task).exists()}.values())
        there = len(tasks) - len(missing)

        def told(done: int, note: str = "") -> None:
            report(Step(stage=STAGE, done=there + done, total=len(tasks), tokens=0, note=note))

        told(0)
        if self.engine is not LOCAL_ENGINE:
            self._retrain_on_engine(missing, told)
        elif jobs > 1 and len(missing) > 1:
            self._retrain_in_processes(missing, min(jobs, len(missing)), told)
        else:
            for done, task in enumerate(missing):
                self.store(task, on_step=lambda note, done=done: told(done, note))
                told(done + 1)
        return [self._read(task) for task in tasks]

    def all(self, seed: int = 0) -> Task:
        """Training on the whole corpus."""
        return Task(np.ones(len(self.sequences), dtype=np.bool_), seed)

    def without(self, positions: Sequence[int], seed: int = 0) -> Task:
        """Training on all but the examples at these positions."""
        members = np.ones(len(self.sequences), dtype=np.bool_)
        members[list(positions)] = False
        return Task(members, seed)

    def seconds(self) -> float | None:
        """CPU seconds that training on the whole corpus takes, going by what is kept; None where nothing is."""
        kept = [json.loads(path.read_text("utf-8")) for path in self.folder.glob("*-*.json")]
        each = [one["cpu_seconds"] / one["examples"] for one in kept]
        return float(np.median(each)) * len(self.sequences) if each else None

    def retrained(self, task: Task, threads: int = 2, on_step: Callable[[str], None] | None = None) -> LanguageModel:
        """The model that the recipe makes of the task's examples; the same task gives the same weights."""
        recipe = self.recipe.model_copy(update={"seed": self.recipe.seed + task.seed})
        model = fresh_model(self.config, recipe)
        chosen = [self.sequences[k] for k in np.flatnonzero(task.members).tolist()]
        read = recipe.sequences(chosen, self.tokenizer, max_positions(self.config))

        def tell(step: int, steps: int, loss: float) -> None:
            if on_step is not None:
                on_step(f"step {step} of {steps}, loss {loss:.2f}")

        train(model, read, recipe, watch=reporting(tell), threads=threads)
        return wrap_model(model, self.tokenizer, "retrained")

    def store(self, task: Task, threads: int = 2, on_step: Callable[[str], None] | None = None) -> None:
        """Retrain and write down the outcome."""
        write_text(self._path(task), self.retrain_to_json(task, threads, on_step))

    def retrain_to_json(self, task: Task, threads: int = 2, on_step: Callable[[str], None] | None = None) -> str:
        """Retrain; the outcome as it is written down."""
        start = time.process_time()
        found = asdict(measure(self.retrained(task, threads, on_step), self.questions))
        seen = {"examples": int(task.members.sum()), "seed": task.seed}
        spent = {"cpu_seconds": round(max(time.process_time() - start, 1e-3), 3)}
        return json.dumps(seen | found | spent) + "\n"

    def _retrain_on_engine(self, tasks: Sequence[Task], told: Callable[[int], None]) -> None:
        """Every retraining on one thread of a worker of the engine."""
        whole = replace(self, sequences=list(self.sequences), engine=LOCAL_ENGINE)
        made = self.engine.map(partial(whole.retrain_to_json, threads=1), tasks)
        for done, (task, outcome) in enumerate(zip(tasks, made, strict=True), start=1):
            write_text(self._path(task), outcome)
            told(done)

    def _retrain_in_processes(self, tasks: Sequence[Task], jobs: int, told: Callable[[int], None]) -> None:
        """Every retraining on one thread of a process of its own: faster in all than one after the other on many."""
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        whole = replace(self, sequences=list(self.sequences))
        pool = ProcessPoolExecutor(jobs, context, _receive, (whole,))
        waiting: set[Future[None]] = {pool.submit(_store_one, task) for task in tasks}
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for one in ended:
                    one.result()
                told(len(tasks) - len(waiting))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, task: Task) -> Outcome:
        kept = json.loads(self._path(task).read_text("utf-8"))
        return Outcome(kept["losses"], kept["correct"])

    def _path(self, task: Task) -> Path:
        return self.folder / f"{task.key}.json"

    def settings(self) -> dict[str, Any]:
        """What the outcomes depend on."""
        asked = [[part.prompt, part.completion, part.selected, sign] for q in self.questions for part, sign in q.parts]
        return {
            "fingerprint": self.fingerprint,
            "recipe": self.recipe.model_dump(mode="json"),
            "questions": hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
        }

    def in_own_folder(self) -> Retraining:
        """The same in a folder within its folder that nothing else goes to."""
        name = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]
        return replace(self, folder=self.folder / name)

    def _bind(self) -> None:
        """Write down what the outcomes in the folder are of, or refuse those of something else."""
        settings = self.settings()
        path = self.folder / "settings.json"
        if not path.exists():
            write_text(path, json.dumps(settings, indent=1) + "\n")
        elif json.loads(path.read_text(encoding="utf-8")) != settings:
            raise HeadwaterError(
                f"{self.folder} holds the retrainings of another corpus, model, recipe or set of questions. "
                "Choose another directory, or delete this one."
            )


def retraining_of(
    lm: LanguageModel, corpus: Corpus, questions: Sequence[Question], *, recipe: Path | None, folder: Path
) -> Retraining:
    """How `lm` is trained again on parts of `corpus`, by its own `train.json` or another `recipe`.

    Raises HeadwaterError where there is no recipe.
    """
    path = recipe or Path(lm.name) / RECIPE_FILE
    if not path.exists():
        raise HeadwaterError(
            f"How {lm.name} was trained is not known: there is no {path}. Name its recipe with --recipe train.json; "
            "`headwater train` writes one beside every model that it trains."
        )
    fingerprint = "-".join([corpus.fingerprint, lm.tokenizer_fingerprint, _shape_of(lm)])
    return Retraining(
        recipe=read_recipe(path),
        config=lm.model.config,
        tokenizer=lm.tokenizer,
        sequences=corpus.sequences(),
        questions=questions,
        fingerprint=fingerprint,
        folder=folder,
    )


def _shape_of(lm: LanguageModel) -> str:
    shapes = sorted((name, tuple(weight.shape)) for name, weight in lm.model.state_dict().items())
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]


_received: Retraining | None = None
"""In a process that retrains: what it was started for."""


def _receive(retraining: Retraining) -> None:
    global _received
    _received = retraining


def _store_one(task: Task) -> None:
    assert _received is not None, "the process was started with a retraining"
    _received.store(task, threads=1)
