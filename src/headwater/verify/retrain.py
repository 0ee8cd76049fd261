"""Training the model again without the top examples of an answer, and without random ones.

What no approximation can argue with, at the price of trainings; and one training differs from the next by chance alone,
so that each is done from several seeds, with and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.answer import Answer
from headwater.ask import AskOptions, Scene
from headwater.errors import HeadwaterError
from headwater.influence.attribution import ScoredExample
from headwater.influence.comparison import Check, Group
from headwater.influence.question import Question
from headwater.influence.scores import Scores
from headwater.sweep.sweep import Sweep, fold
from headwater.training.retrain import Retraining
from headwater.verify.choose import chosen_examples

NAMES = {"proponent": "that raised it most", "opponent": "that lowered it most"}


@dataclass(frozen=True)
class Taken:
    """Examples that are taken out together."""

    name: str
    group: Group
    positions: list[int]


@dataclass(frozen=True)
class Retrained:
    """What the retrainings came to."""

    checks: list[Check]
    likelihood: float
    """Mean log p(query) of the models trained on everything, in nats."""


@dataclass(frozen=True)
class Trials:
    """How often, and on how many sets."""

    k: int
    """Examples in a set."""
    random: int
    """Sets of random examples."""
    seeds: int
    jobs: int
    seed: int


def retrain_without(
    scene: Scene, question: Question, answer: Answer, as_asked: AskOptions, retraining: Retraining, trials: Trials
) -> Retrained:
    """Predicted and measured changes of log p(query) without the `k` strongest of each end and without `k` others.

    Near-duplicates that the answer folded into one of them go with it. Raises HeadwaterError where the run has not the
    answer's examples.
    """
    sets = _sets(scene, answer, trials)
    tasks = [retraining.all(seed) for seed in range(trials.seeds)]
    tasks += [retraining.without(taken.positions, seed) for taken in sets for seed in range(trials.seeds)]
    found = retraining.outcomes(tasks, trials.jobs, scene.report)
    losses = np.array([outcome.losses[0] for outcome in found]).reshape(len(sets) + 1, trials.seeds)
    changes = losses[0] - losses[1:]  # of the same seed
    predicted = _predicted(scene, question, as_asked, sets)
    checks = [
        Check(
            taken.name,
            taken.group,
            -predicted[row] / len(scene.corpus),
            float(changes[row].mean()),
            taken_out=[scene.corpus.ids[position] for position in taken.positions],
            deviation=float(changes[row].std(ddof=1)) if trials.seeds > 1 else None,
        )
        for row, taken in enumerate(sets)
    ]
    return Retrained(checks, -float(losses[0].mean()))


def _sets(scene: Scene, answer: Answer, trials: Trials) -> list[Taken]:
    chosen_examples(scene.corpus, answer, trials.k, 0, trials.seed)  # or it is another run's answer
    ends: dict[Group, Sequence[ScoredExample]] = {"proponent": answer.proponents, "opponent": answer.opponents}
    sets: list[Taken] = []
    for group, end in ends.items():
        chosen = end[: trials.k]
        ids = [id for example in chosen for id in (example.id, *example.duplicates)]
        if chosen:
            sets.append(Taken(f"the {len(chosen)} {NAMES[group]}", group, [_position(scene, id) for id in ids]))
    shown = {scene.corpus.position.get(id) for example in answer.proponents + answer.opponents
             for id in (example.id, *example.duplicates)}  # fmt: skip
    rest = np.array([position for position in range(len(scene.corpus)) if position not in shown])
    rng = np.random.default_rng([trials.seed, 1])
    size = min(trials.k, len(rest))
    for number in range(trials.random if size else 0):
        positions = rng.choice(rest, size, replace=False).tolist()
        sets.append(Taken(f"{size} at random, set {number + 1}", "random", sorted(positions)))
    return sets


def _position(scene: Scene, id: str) -> int:
    if id not in scene.corpus.position:
        raise HeadwaterError(f"This run has no example {id!r}, which the answer shows: the answer is another run's.")
    return scene.corpus.position[id]


def _predicted(scene: Scene, question: Question, as_asked: AskOptions, sets: Sequence[Taken]) -> list[float]:
    """Σ I(q, z) over every set."""
    weights = scene.weights([question], as_asked)
    positions = sorted({position for taken in sets for position in taken.positions})
    sweep = Sweep("predictions", scene.lm, scene.curvature.layers, scene.corpus.sequences(positions))
    influences = fold(sweep, lambda: Scores(weights)).values[:, 0].double().tolist()
    by_position = dict(zip(positions, influences, strict=True))
    return [sum(by_position[position] for position in taken.positions) for taken in sets]
