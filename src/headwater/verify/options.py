"""Which examples of an answer are checked, and how."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.base.choices import REFERENCE_EXAMPLES, RESPONSE_ITERATIONS, CheckKind
from headwater.errors import HeadwaterError


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Which examples are checked, and how."""

    kind: CheckKind = "step"
    """A small `step` on each, the proximal Bregman response to its removal, or `retrain` without the k together."""
    k: int = 5
    """Examples checked at each end of the answer."""
    random: int = 5
    """Examples checked that the answer does not show; of a retraining, sets of k such examples."""
    weight: float = 1.0
    """The part of the example that is taken out, for a response."""
    subset: int | None = REFERENCE_EXAMPLES
    """Examples that are held fast in a response, a seeded random choice; None is all of them."""
    iterations: int = RESPONSE_ITERATIONS
    """Of finding a response, at most."""
    seeds: int = 3
    """Of a retraining: how many times it is done, with other first weights and another order."""
    jobs: int = 1
    """Trainings at a time."""
    seed: int = 0

    def check(self) -> None:
        """Raises HeadwaterError for numbers that ask for nothing."""
        if self.kind not in ("step", "pbrf", "retrain"):
            raise HeadwaterError(f"--kind {self.kind!r}: give step, pbrf or retrain.")
        if self.kind == "retrain" and (self.k < 1 or self.seeds < 1):
            raise HeadwaterError(
                f"-k {self.k} and --seeds {self.seeds}: a retraining leaves out at least one example, at least once."
            )
        if self.k < 0 or self.random < 0 or self.k + self.random == 0:
            raise HeadwaterError(f"-k {self.k} and --random {self.random}: check at least one example.")
        if not 0 < abs(self.weight) <= 1:
            raise HeadwaterError(
                f"--weight {self.weight:g}: take out a part from 0 to 1; below 0, it is added once more."
            )
        if self.subset is not None and self.subset < 1:
            raise HeadwaterError(f"--subset {self.subset}: a response needs at least one example that is held fast.")
        if self.iterations < 1:
            raise HeadwaterError(f"--iterations {self.iterations}: a response needs at least one.")
