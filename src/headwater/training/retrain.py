"""Retrains a model on parts of its corpus and stores the outcomes, so that no retraining is repeated."""

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
    """[N] which examples are in the training data."""
    seed: int
    """Added to the recipe's seed, which determines the initial weights and the order."""

    @property
    def key(self) -> str:
        """Identifies the examples and the seed."""
        digest = hashlib.sha256(np.packbits(self.members).tobytes())
        return f"{digest.hexdigest()[:20]}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A recipe with everything that it is applied to: architecture, tokenizer, corpus and questions."""

    recipe: Recipe
    config: Any
    """The transformers configuration of the architecture."""
    tokenizer: Any
    """Used in every retraining, so that a question always has the same tokens."""
    sequences: Sequence[TokenSequence]
    """The whole tokenised corpus, N."""
    questions: Sequence[Question]
    fingerprint: str
    """Fingerprint of corpus, tokenizer and model."""
    folder: Path
    """Folder of the stored outcomes."""
    engine: Engine = LOCAL_ENGINE
    """Runs the retrainings."""

    def outcomes(self, tasks: Sequence[Task], jobs: int = 1, report: Report = silent) -> list[Outcome]:
        """Outcomes of the retrained models, in the order of the tasks.

        Stored outcomes are read. The other tasks are run and stored, by the engine's workers or in `jobs` processes.
        Raises HeadwaterError if the folder has the outcomes of another recipe, model, corpus or set of questions.
        """
        self._bind()
        missing = list({task.key: task for task in tasks if not self._path(task).exists()}.values())
        stored = len(tasks) - len(missing)

        def report_done(done: int, note: str = "") -> None:
            report(Step(stage=STAGE, done=stored + done, total=len(tasks), tokens=0, note=note))

        report_done(0)
        if self.engine is not LOCAL_ENGINE:
            self._retrain_on_engine(missing, report_done)
        elif jobs > 1 and len(missing) > 1:
            self._retrain_in_processes(missing, min(jobs, len(missing)), report_done)
        else:
            for done, task in enumerate(missing):
                self.store(task, on_step=lambda note, done=done: report_done(done, note))
                report_done(done + 1)
        return [self._read(task) for task in tasks]

    def all(self, seed: int = 0) -> Task:
        """The task of training on the whole corpus."""
        return Task(np.ones(len(self.sequences), dtype=np.bool_), seed)

    def without(self, positions: Sequence[int], seed: int = 0) -> Task:
        """The task of training on all examples but those at these positions."""
        members = np.ones(len(self.sequences), dtype=np.bool_)
        members[list(positions)] = False
        return Task(members, seed)

    def seconds(self) -> float | None:
        """CPU seconds of training on the whole corpus, estimated from stored outcomes; None if there are none."""
        outcomes = [json.loads(path.read_text("utf-8")) for path in self.folder.glob("*-*.json")]
        per_example = [outcome["cpu_seconds"] / outcome["examples"] for outcome in outcomes]
        return float(np.median(per_example)) * len(self.sequences) if per_example else None

    def retrained(self, task: Task, threads: int = 2, on_step: Callable[[str], None] | None = None) -> LanguageModel:
        """The model that the recipe makes from the task's examples. The same task gives the same weights."""
        recipe = self.recipe.model_copy(update={"seed": self.recipe.seed + task.seed})
        model = fresh_model(self.config, recipe)
        chosen = [self.sequences[k] for k in np.flatnonzero(task.members).tolist()]
        training_data = recipe.sequences(chosen, self.tokenizer, max_positions(self.config))

        def note_step(step: int, steps: int, loss: float) -> None:
            if on_step is not None:
                on_step(f"step {step} of {steps}, loss {loss:.2f}")

        train(model, training_data, recipe, watch=reporting(note_step), threads=threads)
        return wrap_model(model, self.tokenizer, "retrained")

    def store(self, task: Task, threads: int = 2, on_step: Callable[[str], None] | None = None) -> None:
        """Retrain and store the outcome."""
        write_text(self._path(task), self.retrain_to_json(task, threads, on_step))

    def retrain_to_json(self, task: Task, threads: int = 2, on_step: Callable[[str], None] | None = None) -> str:
        """Retrain. Returns the outcome as it is stored."""
        start = time.process_time()
        outcome = asdict(measure(self.retrained(task, threads, on_step), self.questions))
        trained_on = {"examples": int(task.members.sum()), "seed": task.seed}
        cost = {"cpu_seconds": round(max(time.process_time() - start, 1e-3), 3)}
        return json.dumps(trained_on | outcome | cost) + "\n"

    def _retrain_on_engine(self, tasks: Sequence[Task], report_done: Callable[[int], None]) -> None:
        """Run each retraining on one thread of an engine's worker."""
        in_memory = replace(self, sequences=list(self.sequences), engine=LOCAL_ENGINE)
        outcomes = self.engine.map(partial(in_memory.retrain_to_json, threads=1), tasks)
        for done, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True), start=1):
            write_text(self._path(task), outcome)
            report_done(done)

    def _retrain_in_processes(self, tasks: Sequence[Task], jobs: int, report_done: Callable[[int], None]) -> None:
        """Run each retraining on one thread of its own process: faster in total than one by one on many threads."""
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        in_memory = replace(self, sequences=list(self.sequences))
        pool = ProcessPoolExecutor(jobs, context, _set_worker_retraining, (in_memory,))
        waiting: set[Future[None]] = {pool.submit(_store_one, task) for task in tasks}
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for one in ended:
                    one.result()
                report_done(len(tasks) - len(waiting))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, task: Task) -> Outcome:
        stored = json.loads(self._path(task).read_text("utf-8"))
        return Outcome(stored["losses"], stored["correct"])

    def _path(self, task: Task) -> Path:
        return self.folder / f"{task.key}.json"

    def settings(self) -> dict[str, Any]:
        """Everything that the outcomes depend on."""
        asked = [[part.prompt, part.completion, part.selected, sign] for q in self.questions for part, sign in q.parts]
        return {
            "fingerprint": self.fingerprint,
            "recipe": self.recipe.model_dump(mode="json"),
            "questions": hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
        }

    def in_own_folder(self) -> Retraining:
        """The same retraining with a subfolder that only these settings use."""
        name = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]
        return replace(self, folder=self.folder / name)

    def _bind(self) -> None:
        """Store the settings in the folder. Raises HeadwaterError if it has outcomes of other settings."""
        settings = self.settings()
        path = self.folder / "settings.json"
        if not path.exists():
            write_text(path, json.dumps(settings, indent=1) + "\n")
        elif json.loads(path.read_text(encoding="utf-8")) != settings:
            raise HeadwaterError(
                f"{self.folder} has the retrainings of another corpus, model, recipe or set of questions. "
                "Choose another directory, or delete this one."
            )


def retraining_of(
    lm: LanguageModel, corpus: Corpus, questions: Sequence[Question], *, recipe: Path | None, folder: Path
) -> Retraining:
    """The retraining of `lm` on parts of `corpus`, by its own `train.json` or another `recipe`.

    Raises HeadwaterError if there is no recipe.
    """
    path = recipe or Path(lm.name) / RECIPE_FILE
    if not path.exists():
        raise HeadwaterError(
            f"The recipe of {lm.name} is unknown: there is no {path}. Name its recipe with --recipe train.json. "
            "`headwater train` writes one beside every model."
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


_worker_retraining: Retraining | None = None
"""The retraining of a worker process."""


def _set_worker_retraining(retraining: Retraining) -> None:
    global _worker_retraining
    _worker_retraining = retraining


def _store_one(task: Task) -> None:
    assert _worker_retraining is not None, "the process was started with a retraining"
    _worker_retraining.store(task, threads=1)
