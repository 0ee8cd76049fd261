"""Predicted against measured effects of single examples on one query, as plain data, and how well they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.attribution import Query
from headwater.base.choices import CheckKind

ExampleGroup = Literal["proponent", "opponent", "random"]
GROUPS: tuple[ExampleGroup, ...] = ("proponent", "opponent", "random")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one training example was predicted to do to the query, and what it did."""

    id: str
    group: ExampleGroup
    """Why it was chosen: among the strongest of the answer at one of its ends, or at random."""
    predicted: float
    """Change of log p(query) in nats that its influence predicts."""
    measured: float
    """Change of log p(query) in nats."""
    converged: bool = True
    """False where the iterations ran out before the response was found; a step is always done."""
    iterations: int = 0
    """That finding the response took."""
    remaining: float = 0.0
    """Of the objective's gradient at the start, the part that is left, both as whitened gradients' norms."""
    taken_out: list[str] | None = None
    """Ids of all that are taken out together; None is the one example alone."""
    deviation: float | None = None
    """Standard deviation of the measured change over seeds; None from one seed, or where there is no chance in it."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The checks of one answer.

    The change is that of log p(query), or, where the question has a contrast, of the log odds between the two.
    """

    kind: CheckKind
    """`step`: a small step on the example. `pbrf`: the response of the weights to its removal, the rest held fast.
    `retrain`: training again without several examples."""
    query: Query
    checks: list[Check]
    """Proponents, then opponents, strongest first; then the random ones."""
    slope: float | None
    """Measured change a nat of predicted change: least squares, through the origin. None where nothing is predicted."""
    correlation: float | None
    """Pearson's, of predicted and measured changes; None where either does not vary."""
    spearman: float | None
    """That of their ranks."""
    weight: float
    """The part of the example that is taken out; 1 is all of it. A step's numbers are those of a whole example."""
    examples: int
    """N: how many training examples there are."""
    subset: int | None
    """So many examples are held fast in a response; None for a step."""
    seed: int
    """Of the random examples, and of those held fast."""
    curvature: str
    """The curvature kind that the predictions were made with."""
    damping: str
    """How λ was set."""
    model: str
    """Name or path of the model."""
    contrast: Query | None = None
    """What the model might have said instead."""
    layers: list[str] | None = None
    """The layers whose weights move; None is all that are tracked."""
    seeds: int | None = None
    """Trainings of each set of examples; None where nothing is retrained."""
    likelihood: float | None = None
    """Mean log p(query) of the models retrained on everything, in nats."""


def slope(checks: Sequence[Check]) -> float | None:
    """Least squares of measured on predicted changes through the origin: no example, no change."""
    predicted, measured = _columns(checks)
    size = float(predicted @ predicted)
    return float(predicted @ measured) / size if size > 0 else None


def correlation(checks: Sequence[Check]) -> float | None:
    """Pearson's correlation of predicted and measured changes."""
    return _pearson(*_columns(checks))


def spearman(checks: Sequence[Check]) -> float | None:
    """Spearman's correlation: Pearson's of the ranks, ties at the mean of theirs."""
    predicted, measured = _columns(checks)
    return _pearson(_ranks(predicted), _ranks(measured))


def _columns(checks: Sequence[Check]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        np.array([check.predicted for check in checks], dtype=np.float64),
        np.array([check.measured for check in checks], dtype=np.float64),
    )


def _pearson(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    if len(one) < 2:
        return None
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    same = (values[None, :] == values[:, None]).sum(axis=1)
    return below + (same - 1) / 2
