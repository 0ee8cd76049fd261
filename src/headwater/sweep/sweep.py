"""One pass over a corpus, shard by shard, folded into a reducer.

A shard is a run of examples; its result depends on the corpus and the settings alone, and shards are merged in
order, so an interrupted sweep that goes on later ends with the same bytes as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from torch import Tensor

from headwater.corpus.batches import Batch, TokenSequence, make_batches
from headwater.files import load_tensors, read_metadata, save_tensors
from headwater.gradient import FactoredGradient
from headwater.lm.capture import Capture, Captured, Labels
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.progress import Report, Step, silent

TOKEN_BUDGET = 4096
"""Tokens in a batch, padding included."""
SMALLEST_SHARD, LARGEST_SHARD = 256, 4096
"""Examples in a shard: enough for sorting by length to pay, few enough to lose little by a kill."""


class LayerGradients(dict[str, FactoredGradient]):
    """The factored gradients of a batch by layer, and the losses [B, T] that they are the gradients of."""

    def __init__(self, gradients: Mapping[str, FactoredGradient], losses: Tensor) -> None:
        super().__init__(gradients)
        self.losses = losses


class Reducer(Protocol):
    """What a sweep folds its factored gradients into."""

    def update(self, batch: Batch, gradients: LayerGradients) -> None: ...
    def merge(self, other: Self) -> None:
        """Add the result of the next shard. Associative; shards are merged in order."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


R = TypeVar("R", bound=Reducer)


@dataclass(frozen=True)
class Shard:
    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Sweep:
    """What a sweep runs on: a model, the layers it tracks, and the sequences it reads."""

    stage: str
    lm: LanguageModel
    layers: Sequence[TrackedLayer]
    sequences: Sequence[TokenSequence]
    """Read lazily, a shard at a time."""
    labels: Labels = Labels()
    token_budget: int = TOKEN_BUDGET

    def shards(self) -> list[Shard]:
        """A sixteenth of the corpus each, within the bounds of a shard. They follow from the corpus alone."""
        total = len(self.sequences)
        size = min(max(-(-total // 16), SMALLEST_SHARD), LARGEST_SHARD)
        return [Shard(k, start, min(start + size, total)) for k, start in enumerate(range(0, total, size))]


def reduce_shard(sweep: Sweep, capture: Capture, shard: Shard, reducer: R, report: Report) -> R:
    """Run the model over one shard and fold its gradients into `reducer`."""
    done = shard.start
    for batch in make_batches(sweep.sequences[shard.start : shard.stop], sweep.token_budget):
        reducer.update(batch, factored(sweep.layers, capture(batch, sweep.labels)))
        done += len(batch.ids)
        report(Step(sweep.stage, done, len(sweep.sequences), batch.tokens))
    return reducer


def factored(layers: Sequence[TrackedLayer], captured: Captured) -> LayerGradients:
    """Captured tensors by layer; layers of a group share their activations."""
    by_layer = {
        layer.name: FactoredGradient(captured.activations[layer.group], captured.output_gradients[layer.name])
        for layer in layers
    }
    return LayerGradients(by_layer, captured.losses)


def fold(sweep: Sweep, make: Callable[[], R], checkpoint: Checkpoint | None = None, report: Report = silent) -> R:
    """The whole sweep folded into one reducer, going on from `checkpoint` where it holds finished shards."""
    total = make()
    shards = sweep.shards()
    done = checkpoint.load(total) if checkpoint else 0
    report(Step(sweep.stage, shards[done - 1].stop if done else 0, len(sweep.sequences), 0))
    with Capture(sweep.lm, sweep.layers) as capture:
        for shard in shards[done:]:
            total.merge(reduce_shard(sweep, capture, shard, make(), report))
            if checkpoint:
                checkpoint.save(total, shard.index + 1)
    return total


def each_shard(
    sweep: Sweep, make: Callable[[], R], finished: Callable[[Shard], bool], report: Report = silent
) -> Iterator[tuple[Shard, R]]:
    """The reducer of every shard that is not `finished`, in order: for results that are rows rather than sums."""
    with Capture(sweep.lm, sweep.layers) as capture:
        for shard in sweep.shards():
            if finished(shard):
                report(Step(sweep.stage, shard.stop, len(sweep.sequences), 0))
            else:
                yield shard, reduce_shard(sweep, capture, shard, make(), report)


@dataclass(frozen=True)
class Checkpoint:
    """The merged state of the shards finished so far, in one file; `binding` says what it is the state of."""

    path: Path
    binding: str

    def load(self, reducer: Reducer) -> int:
        """Fill `reducer` with the saved state. Returns how many shards it holds: 0 where there is none of ours."""
        if not self.path.exists():
            return 0
        metadata = read_metadata(self.path)
        if metadata.get("binding") != self.binding:
            return 0
        reducer.load_state_dict(load_tensors(self.path))
        return int(metadata["shards"])

    def save(self, reducer: Reducer, shards: int) -> None:
        save_tensors(self.path, reducer.state_dict(), {"binding": self.binding, "shards": str(shards)})

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
