"""Options of `verify`, declared once. Loads neither torch nor numpy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from headwater.base.options import Option, check
from headwater.errors import HeadwaterError

CheckKind = Literal["step", "pbrf", "retrain"]
"""How a prediction is checked."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Which examples are checked, and how."""

    panel: ClassVar = "Check"
    kind: Annotated[
        CheckKind,
        Option(
            help="A small step on each example (step), the weights' response to its removal (pbrf), or training again "
            "without the k strongest of an end together (retrain)."
        ),
    ] = "step"
    k: Annotated[
        int, Option(help="Examples checked at each end of the answer.", flags=("-k",), minimum=0, also=("top", "top_k"))
    ] = 5
    random: Annotated[
        int, Option(help="Random examples checked that the answer does not show; retrain: sets of k.", minimum=0)
    ] = 5
    weight: Annotated[
        float, Option(help="pbrf: part of the example that is removed; below 0 it is added.", minimum=-1, maximum=1)
    ] = 1.0
    subset: Annotated[
        int | None,
        Option(
            help="pbrf: examples in the reference set of a response, a random choice.",
            none="all examples",
            minimum=1,
            zero_is_none=True,
        ),
    ] = 512
    iterations: Annotated[int, Option(help="pbrf: maximum iterations to find a response.", minimum=1)] = 40
    seeds: Annotated[int, Option(help="retrain: trainings of every set.", minimum=1, http=False)] = 3
    jobs: Annotated[
        int,
        Option(
            help="retrain: trainings at the same time.",
            minimum=1,
            cli_default=os.cpu_count() or 1,
            shown="one per core",
            http=False,
        ),
    ] = 1
    seed: Annotated[int, Option(help="Seed of the random examples and of the reference set.", minimum=0)] = 0

    def check(self) -> None:
        """Raises HeadwaterError for values that are wrong, and for values that together ask for nothing."""
        check(self)
        if self.kind == "retrain" and self.k < 1:
            raise HeadwaterError(f"k={self.k}: a retraining leaves out at least one example.")
        if self.k + self.random == 0:
            raise HeadwaterError(f"k={self.k}, random={self.random}: check at least one example.")
        if self.weight == 0:
            raise HeadwaterError("weight=0: remove a part of the example from 0 to 1; below 0, it is added.")
