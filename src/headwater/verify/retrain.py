"""Retraining without the top examples of an answer, and without random examples.

Retraining approximates nothing, and it is expensive. Trainings differ by chance, so each set is removed under several
seeds, and each result is compared with training on everything under the same seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.attribution.answer import Answer
from headwater.attribution.context import AttributionContext
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import precondition
from headwater.attribution.question import Question
from headwater.attribution.scores import Scores
from headwater.corpus.corpus import Corpus
from headwater.sweep.sweep import Sweep, fold
from headwater.training.retrain import Retraining
from headwater.verify.from_answer import position_by_id, positions_not_shown, shown_position, top_examples
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Check, ExampleGroup

NAMES = {"proponent": "that raised it most", "opponent": "that lowered it most"}


@dataclass(frozen=True)
class RemovedSet:
    """Examples that are removed together."""

    name: str
    group: ExampleGroup
    positions: list[int]


@dataclass(frozen=True)
class Retrained:
    """The result of the retrainings."""

    checks: list[Check]
    likelihood: float
    """Mean log p(query) of the models trained on everything, in nats."""


def retrain_without(
    context: AttributionContext, answer: Answer, as_asked: AskOptions, *, retraining: Retraining, options: VerifyOptions
) -> Retrained:
    """Predicted and measured changes of log p(query) without the top `k` examples of each end, and without `k` others.

    The retraining has one question, that of the answer. Near-duplicates that the answer folded into an example are
    removed with it. Raises HeadwaterError if the run does not have the answer's examples.
    """
    sets = _sets(context.corpus, answer, options)
    tasks = [retraining.all(seed) for seed in range(options.seeds)]
    tasks += [retraining.without(removed.positions, seed) for removed in sets for seed in range(options.seeds)]
    found = retraining.outcomes(tasks, options.jobs, context.execution.report)
    losses = np.array([outcome.losses[0] for outcome in found]).reshape(len(sets) + 1, options.seeds)
    changes = losses[0] - losses[1:]  # row by row under the same seed
    predicted = _predicted(context, retraining.questions, as_asked, sets=sets)
    checks = [
        Check(
            id=removed.name,
            group=removed.group,
            predicted=-predicted[row] / len(context.corpus),
            measured=float(changes[row].mean()),
            taken_out=[context.corpus.ids[position] for position in removed.positions],
            deviation=float(changes[row].std(ddof=1)) if options.seeds > 1 else None,
        )
        for row, removed in enumerate(sets)
    ]
    return Retrained(checks, -float(losses[0].mean()))


def _sets(corpus: Corpus, answer: Answer, options: VerifyOptions) -> list[RemovedSet]:
    sets: list[RemovedSet] = []
    for group, end in top_examples(answer, options.k).items():
        positions: list[int] = []
        for example in end:
            positions.append(shown_position(corpus, example))
            positions += [position_by_id(corpus, id) for id in example.duplicates]
        if end:
            sets.append(RemovedSet(f"the {len(end)} {NAMES[group]}", group, positions))
    rest = positions_not_shown(corpus, answer)
    rng = np.random.default_rng([options.seed, 1])
    size = min(options.k, len(rest))
    for number in range(options.random if size else 0):
        positions = rng.choice(rest, size, replace=False).tolist()
        sets.append(RemovedSet(f"{size} at random, set {number + 1}", "random", sorted(positions)))
    return sets


def _predicted(
    context: AttributionContext, questions: Sequence[Question], as_asked: AskOptions, *, sets: Sequence[RemovedSet]
) -> list[float]:
    """Σ I(q, z) over every set, for the one question."""
    preconditioned = precondition(context, questions, as_asked)
    positions = sorted({position for removed in sets for position in removed.positions})
    sweep = Sweep(
        stage="predictions",
        lm=context.lm,
        layers=context.curvature.layers,
        sequences=context.corpus.sequences(positions),
    )
    influences = fold(sweep, lambda: Scores(preconditioned)).values[:, 0].double().tolist()
    by_position = dict(zip(positions, influences, strict=True))
    return [sum(by_position[position] for position in removed.positions) for removed in sets]
