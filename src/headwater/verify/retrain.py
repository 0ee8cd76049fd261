"""Training the model again without the top examples of an answer, and without random ones.

What no approximation can argue with, at the price of trainings; and one training differs from the next by chance alone,
so that each is done from several seeds, with and without.
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
from headwater.verify.choose import not_shown, place_of, position_of, strongest
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Check, ExampleGroup

NAMES = {"proponent": "that raised it most", "opponent": "that lowered it most"}


@dataclass(frozen=True)
class Taken:
    """Examples that are taken out together."""

    name: str
    group: ExampleGroup
    positions: list[int]


@dataclass(frozen=True)
class Retrained:
    """What the retrainings came to."""

    checks: list[Check]
    likelihood: float
    """Mean log p(query) of the models trained on everything, in nats."""


def retrain_without(
    context: AttributionContext, answer: Answer, as_asked: AskOptions, *, retraining: Retraining, options: VerifyOptions
) -> Retrained:
    """Predicted and measured changes of log p(query) without the `k` strongest of each end and without `k` others.

    The retraining's one question is the answer's. Near-duplicates that the answer folded into one of the examples go
    with it. Raises HeadwaterError where the run has not the answer's examples.
    """
    sets = _sets(context.corpus, answer, options)
    tasks = [retraining.all(seed) for seed in range(options.seeds)]
    tasks += [retraining.without(taken.positions, seed) for taken in sets for seed in range(options.seeds)]
    found = retraining.outcomes(tasks, options.jobs, context.execution.report)
    losses = np.array([outcome.losses[0] for outcome in found]).reshape(len(sets) + 1, options.seeds)
    changes = losses[0] - losses[1:]  # of the same seed
    predicted = _predicted(context, retraining.questions, as_asked, sets=sets)
    checks = [
        Check(
            id=taken.name,
            group=taken.group,
            predicted=-predicted[row] / len(context.corpus),
            measured=float(changes[row].mean()),
            taken_out=[context.corpus.ids[position] for position in taken.positions],
            deviation=float(changes[row].std(ddof=1)) if options.seeds > 1 else None,
        )
        for row, taken in enumerate(sets)
    ]
    return Retrained(checks, -float(losses[0].mean()))


def _sets(corpus: Corpus, answer: Answer, options: VerifyOptions) -> list[Taken]:
    sets: list[Taken] = []
    for group, end in strongest(answer, options.k).items():
        positions = [
            position
            for example in end
            for position in (position_of(corpus, example), *(place_of(corpus, id) for id in example.duplicates))
        ]
        if end:
            sets.append(Taken(f"the {len(end)} {NAMES[group]}", group, positions))
    rest = not_shown(corpus, answer)
    rng = np.random.default_rng([options.seed, 1])
    size = min(options.k, len(rest))
    for number in range(options.random if size else 0):
        positions = rng.choice(rest, size, replace=False).tolist()
        sets.append(Taken(f"{size} at random, set {number + 1}", "random", sorted(positions)))
    return sets


def _predicted(
    context: AttributionContext, questions: Sequence[Question], as_asked: AskOptions, *, sets: Sequence[Taken]
) -> list[float]:
    """Σ I(q, z) over every set, of the one question."""
    preconditioned = precondition(context, questions, as_asked)
    positions = sorted({position for taken in sets for position in taken.positions})
    sweep = Sweep(
        stage="predictions",
        lm=context.lm,
        layers=context.curvature.layers,
        sequences=context.corpus.sequences(positions),
    )
    influences = fold(sweep, lambda: Scores(preconditioned)).values[:, 0].double().tolist()
    by_position = dict(zip(positions, influences, strict=True))
    return [sum(by_position[position] for position in taken.positions) for taken in sets]
