"""Predicted against measured effects of training examples on one query, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from headwater.attribution.answer import Query, first_mistake
from headwater.base.files import finite_json, write_text
from headwater.base.shown import Shown, counted, face, quoted, quoted_end
from headwater.errors import HeadwaterError
from headwater.verify.options import CheckKind

ExampleGroup = Literal["proponent", "opponent", "random"]
GROUPS: tuple[ExampleGroup, ...] = ("proponent", "opponent", "random")


@dataclass(frozen=True, kw_only=True)
class Check:
    """The predicted and the measured effect of one training example on the query."""

    id: str
    group: ExampleGroup
    """Why it was chosen: among the strongest of the answer at one of its ends, or at random."""
    predicted: float
    """Change of log p(query) in nats that its influence predicts."""
    measured: float
    """Change of log p(query) in nats."""
    converged: bool = True
    """False where the iterations ran out before the response was found; a step always converges."""
    iterations: int = 0
    """Iterations that finding the response took."""
    remaining: float = 0.0
    """Norm of the objective's whitened gradient at the end, as a part of its norm at the start."""
    taken_out: list[str] | None = None
    """Ids of all examples that are taken out together; None where it is this one example alone."""
    deviation: float | None = None
    """Standard deviation of the measured change over seeds; None for one seed, or where nothing is random."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Verification(Shown):
    """The checks of one answer.

    The change is that of log p(query), or, where the question has a contrast, of the log odds between the two.
    """

    kind: CheckKind
    """`step`: a small step on the example. `pbrf`: the response of the weights to its removal, with the reference set
    unchanged. `retrain`: training again without several examples."""
    query: Query
    checks: list[Check]
    """Proponents, then opponents, strongest first; then the random ones."""
    slope: float | None
    """Measured change per nat of predicted change: least squares through the origin. None where nothing is
    predicted."""
    correlation: float | None
    """Pearson's correlation of predicted and measured changes; None where either does not vary."""
    spearman: float | None
    """Spearman's rank correlation of them; None where either does not vary."""
    weight: float
    """The part of the example that is taken out; 1 is all of it. The numbers of a step are those of a whole example."""
    examples: int
    """N, the number of training examples."""
    subset: int | None
    """Number of examples in the reference set of a response; None for a step."""
    seed: int
    """Seed of the choice of random examples and of the reference set."""
    curvature: str
    """The curvature kind that the predictions were made with."""
    damping: str
    """How λ was set."""
    model: str
    """Name or path of the model."""
    contrast: Query | None = None
    """What the model might have said instead."""
    layers: list[str] | None = None
    """The layers whose weights move; None means all tracked layers."""
    seeds: int | None = None
    """Trainings of each set of examples; None where nothing is retrained."""
    likelihood: float | None = None
    """Mean log p(query) of the models retrained on everything, in nats."""

    def __repr__(self) -> str:
        facts = [
            f"{quoted_end(self.query.prompt)} → {quoted(self.query.completion)}",
            self.kind,
            counted(len(self.checks), "check"),
            "no slope" if self.slope is None else f"slope {self.slope:.2f}",
            self.curvature,
            counted(self.examples, "example"),
        ]
        return f"Verification({', '.join(facts)})"

    def to_dict(self) -> dict[str, Any]:
        """The verification as dicts and lists."""
        return asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """The verification as JSON in plain ASCII. Raises HeadwaterError where a number is infinite or NaN."""
        return finite_json(self.to_dict(), "This verification", indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Verification:
        """Read a verification that `to_json` wrote. Raises HeadwaterError, naming the place, where it is not one."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise HeadwaterError(f"This is not a verification of Headwater: {first_mistake(error)}.") from error

    def save_html(self, path: str | Path) -> Path:
        """Write the scatter plot and its table as one self-contained page, whole or not at all."""
        return write_text(Path(path), face(self).page(self))

    def save_svg(self, path: str | Path) -> Path:
        """Write the scatter plot alone, as a picture that follows the reader's light or dark theme."""
        return write_text(Path(path), face(self).svg(self))
