"""One pass over a corpus, shard by shard, folded into a reducer.

A shard is a run of examples; its result depends on the corpus and the settings alone, and shards are merged in
order, so an interrupted sweep that goes on later ends with the same bytes as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from headwater.corpus.batches import Batch, TokenSequence, make_batches
from headwater.files import load_tensors, read_metadata, save_tensors
from headwater.gradient import FactoredGradient
from headwater.lm.capture import Capture, Captured, Labels
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.kept import Kept
from headwater.sweep.progress import Report, Step, silent

MOST_TOKENS = 1024
"""Tokens in a batch on a processor, padding included, where layers are narrow."""
FACTOR_NUMBERS = 12_000_000
"""Numbers of activations and output gradients of a batch on a processor (48 MB in float32): fewer tokens where layers
are wide, which need no more to be worked on at full speed."""
GPU_FACTOR = 16
"""So much larger are the batches of a GPU."""
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
    tokens_in_batch: int | None = None
    """At most, padding included; None is what suits the layers."""
    kept: Kept | None = None
    """Where captured gradients are kept for another sweep over the same sequences, and found again."""

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch, padding included."""
        return self.tokens_in_batch or token_budget(self.layers, self.lm.device)

    def shards(self) -> list[Shard]:
        """A sixteenth of the corpus each, within the bounds of a shard. They follow from the corpus alone."""
        total = len(self.sequences)
        size = min(max(-(-total // 16), SMALLEST_SHARD), LARGEST_SHARD)
        return [Shard(k, start, min(start + size, total)) for k, start in enumerate(range(0, total, size))]


def token_budget(layers: Sequence[TrackedLayer], device: torch.device) -> int:
    """Most tokens in a batch, padding included, that suit a device and the width of the layers tracked."""
    factor = 1 if device.type == "cpu" else GPU_FACTOR
    width = sum(layer.outputs + (layer.inputs if layer.name == layer.group else 0) for layer in layers)
    return factor * max(256, min(MOST_TOKENS, FACTOR_NUMBERS // width))


def gradients_of(sweep: Sweep, capture: Capture, shard: Shard) -> Iterator[tuple[Batch, LayerGradients]]:
    """Every batch of a shard with its gradients, those that are kept from there."""
    batches = make_batches(sweep.sequences[shard.start : shard.stop], sweep.token_budget)
    for place, batch in enumerate(batches):
        captured = sweep.kept.load(shard.index, place, sweep.lm.device) if sweep.kept else None
        if captured is None:
            captured = capture(batch, sweep.labels)
            if sweep.kept:
                sweep.kept.save(shard.index, place, captured)
        yield batch, factored(sweep.layers, captured)


def reduce_shard(sweep: Sweep, capture: Capture, shard: Shard, reducer: R, report: Report) -> R:
    """Run the model over one shard and fold its gradients into `reducer`."""
    done = shard.start
    for batch, gradients in gradients_of(sweep, capture, shard):
        reducer.update(batch, gradients)
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
