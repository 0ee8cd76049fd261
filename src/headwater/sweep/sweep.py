"""A sweep: one pass over a corpus, shard by shard, folded into a reducer.

The result of a shard depends on the corpus and the settings only, and shards are merged in order. So an interrupted
sweep that is resumed ends with the same bytes as one that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headwater.base.progress import Report, Step, silent
from headwater.corpus.batches import TokenSequence
from headwater.gradients.reducer import R
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.checkpoint import SweepCheckpoint
from headwater.sweep.checkpoint_policy import CheckpointPolicy
from headwater.sweep.engine import LOCAL_ENGINE, Engine
from headwater.sweep.gradient_cache import GradientCache
from headwater.sweep.shard_gradients import token_budget
from headwater.sweep.shards import Shard, shards_of


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep runs on: a model, its tracked layers, and the sequences to read."""

    stage: str
    """Name of the pass in its progress."""
    lm: LanguageModel
    layers: Sequence[TrackedLayer]
    sequences: Sequence[TokenSequence]
    """Read lazily, one shard after the other."""
    labels: Labels = Labels()
    tokens_in_batch: int | None = None
    """Most tokens in a batch, padding included. None chooses by the width of the layers."""
    cache: GradientCache | None = None
    """Where captured gradients are kept for another sweep over the same sequences."""
    engine: Engine = LOCAL_ENGINE
    shard_examples: int | None = None
    """Examples in a shard. None is a sixteenth of the corpus, from 256 to 4,096."""

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch, padding included."""
        return self.tokens_in_batch or token_budget(self.layers, self.lm.device)

    def shards(self) -> list[Shard]:
        """The shards of the sequences, in their order."""
        return shards_of(len(self.sequences), self.shard_examples)


def fold(
    sweep: Sweep, make: Callable[[], R], checkpoint: SweepCheckpoint | None = None, *, report: Report = silent
) -> R:
    """The whole sweep folded into one reducer. It resumes from `checkpoint` if that holds finished shards."""
    total = make()
    shards = sweep.shards()
    checkpoint = checkpoint and checkpoint.in_shards_of(sweep.shard_examples)
    done = checkpoint.load(total, sweep.lm.device) if checkpoint else 0
    report(Step(stage=sweep.stage, done=shards[done - 1].stop if done else 0, total=len(sweep.sequences), tokens=0))
    policy = CheckpointPolicy()
    for shard, reducer in sweep.engine.reduce(sweep, shards[done:], make, report=report):
        total.merge(reducer)
        if checkpoint and policy.is_due(state := total.state_dict()):
            checkpoint.save(state, shard.index + 1)
            policy.saved()
    return total


def each_shard(
    sweep: Sweep, make: Callable[[], R], finished: Callable[[Shard], bool], *, report: Report = silent
) -> Iterator[tuple[Shard, R]]:
    """The reducer of every shard that is not `finished`, in order. For results that are rows, not sums."""
    missing = [shard for shard in sweep.shards() if not finished(shard)]
    done = len(sweep.sequences) - sum(shard.stop - shard.start for shard in missing)
    if done:
        report(Step(stage=sweep.stage, done=done, total=len(sweep.sequences), tokens=0))
    return sweep.engine.reduce(sweep, missing, make, report=report)
