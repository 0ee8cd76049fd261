"""One pass over a corpus, shard by shard, folded into a reducer.

A shard is a run of examples; its result depends on the corpus and the settings alone, and shards are merged in
order, so an interrupted sweep that goes on later ends with the same bytes as one that was never interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from headwater.base.files import load_tensors, read_metadata, save_tensors
from headwater.base.progress import Report, Step, silent
from headwater.corpus.batches import Batch, TokenSequence, make_batches, pad
from headwater.errors import HeadwaterError
from headwater.gradients.factored import FactoredGradient
from headwater.gradients.reducer import LayerGradients, R, Reducer
from headwater.lm.capture import Capture, Captured, Labels
from headwater.lm.checkpointing import checkpoint_gradients
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.lm.precision import fast_products
from headwater.sweep.checkpoint_policy import CheckpointPolicy
from headwater.sweep.gradient_cache import GradientCache

MOST_TOKENS = 1024
"""Tokens in a batch on a processor, padding included, where layers are narrow."""
FACTOR_NUMBERS = 12_000_000
"""Numbers of activations and output gradients of a batch on a processor (48 MB in float32): fewer tokens where layers
are wide, which need no more to be worked on at full speed."""
GPU_FACTOR = 16
"""So much larger are the batches of a GPU."""
SMALLEST_SHARD, LARGEST_SHARD = 256, 4096
"""Examples in a shard: enough for sorting by length to pay, few enough to lose little by a kill."""


T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Shard:
    index: int
    start: int
    stop: int


class Engine(Protocol):
    """Who does the work: this process, or many on a cluster. The results are the same bytes."""

    def reduce(
        self, sweep: Sweep, shards: Sequence[Shard], make: Callable[[], R], *, report: Report
    ) -> Iterator[tuple[Shard, R]]:
        """The reducer of each of `shards`, in their order."""
        ...

    def map(self, work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """`work` done on each of `items`, which are taken as they are needed; in their order."""
        ...


class LocalEngine:
    """The engine that is this process: one shard, one item after the other."""

    def reduce(
        self, sweep: Sweep, shards: Sequence[Shard], make: Callable[[], R], *, report: Report
    ) -> Iterator[tuple[Shard, R]]:
        with Capture(sweep.lm, sweep.layers) as capture:
            for shard in shards:
                yield shard, reduce_shard(sweep, capture, shard, reducer=make(), report=report)

    def map(self, work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        return map(work, items)


LOCAL_ENGINE = LocalEngine()


@dataclass(frozen=True, kw_only=True)
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
    cache: GradientCache | None = None
    """Where captured gradients are kept for another sweep over the same sequences."""
    engine: Engine = LOCAL_ENGINE
    shard_examples: int | None = None
    """Examples in a shard; None is a sixteenth of the corpus, from 256 to 4,096."""

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch, padding included."""
        return self.tokens_in_batch or token_budget(self.layers, self.lm.device)

    def shards(self) -> list[Shard]:
        """A sixteenth of the corpus each, within the bounds of a shard. They follow from the corpus alone."""
        return shards_of(len(self.sequences), self.shard_examples)


def shards_of(total: int, shard_examples: int | None = None) -> list[Shard]:
    """The shards of `total` sequences, of `shard_examples` each where that is given."""
    size = shard_examples or min(max(-(-total // 16), SMALLEST_SHARD), LARGEST_SHARD)
    return [Shard(k, start, min(start + size, total)) for k, start in enumerate(range(0, total, size))]


def token_budget(layers: Sequence[TrackedLayer], device: torch.device) -> int:
    """Most tokens in a batch, padding included, that suit a device and the width of the layers tracked."""
    factor = 1 if device.type == "cpu" else GPU_FACTOR
    width = sum(layer.outputs + (layer.inputs if layer.name == layer.group else 0) for layer in layers)
    return factor * max(256, min(MOST_TOKENS, FACTOR_NUMBERS // width))


def gradients_of(sweep: Sweep, capture: Capture, shard: Shard) -> Iterator[tuple[Batch, LayerGradients]]:
    """Every batch of a shard with its gradients, cached ones from the cache.

    A batch that memory does not suffice for is halved, and so are the shard's later ones of that size. Where it does
    not suffice for a single example, the model's blocks are run again on the way back from then on (gradient
    checkpointing). Raises HeadwaterError where that does not suffice either.
    """
    sequences = sweep.sequences[shard.start : shard.stop]
    waiting = list(make_batches(sequences, sweep.token_budget))[::-1]
    most = sweep.token_budget
    while waiting:
        batch = waiting.pop()
        if batch.input_ids.size > most and len(batch.ids) > 1:
            waiting += halves(sequences, batch)
            continue
        try:
            captured = _captured(sweep, capture, shard, batch=batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch.ids) > 1:
                most = batch.input_ids.size // 2
            elif not checkpoint_gradients(sweep.lm.model):
                raise HeadwaterError(
                    f"There is not enough memory for example {batch.ids[0]}, {batch.tokens:,} tokens alone. Cut long "
                    "examples with --max-tokens, or use a machine with more memory."
                ) from error
            waiting.append(batch)
        else:
            yield batch, factored(sweep.layers, captured)


def _captured(sweep: Sweep, capture: Capture, shard: Shard, *, batch: Batch) -> Captured:
    """The captured gradients of a batch, from the cache where it holds them."""
    captured = sweep.cache.load(shard.index, batch, sweep.lm.device) if sweep.cache else None
    if captured is None:
        captured = capture(batch, sweep.labels)
        if sweep.cache:
            sweep.cache.save(shard.index, batch, captured)
    return captured


def halves(sequences: Sequence[TokenSequence], batch: Batch) -> list[Batch]:
    """The second and the first half of a batch of `sequences`."""
    rows = batch.rows.tolist()
    middle = (len(rows) + 1) // 2
    return [pad(sequences, rows[middle:]), pad(sequences, rows[:middle])]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out, on a GPU or on a processor (which has no exception of its own for it)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def reduce_shard(sweep: Sweep, capture: Capture, shard: Shard, *, reducer: R, report: Report) -> R:
    """Run the model over one shard and fold its gradients into `reducer`."""
    done = shard.start
    with fast_products(sweep.lm):
        for batch, gradients in gradients_of(sweep, capture, shard):
            reducer.update(batch, gradients)
            done += len(batch.ids)
            report(Step(stage=sweep.stage, done=done, total=len(sweep.sequences), tokens=batch.tokens))
    return reducer


def factored(layers: Sequence[TrackedLayer], captured: Captured) -> LayerGradients:
    """Captured tensors by layer; layers of a group share their activations."""
    by_layer = {
        layer.name: FactoredGradient(captured.activations[layer.group], captured.output_gradients[layer.name])
        for layer in layers
    }
    return LayerGradients(by_layer, captured.losses)


def fold(
    sweep: Sweep, make: Callable[[], R], checkpoint: SweepCheckpoint | None = None, *, report: Report = silent
) -> R:
    """The whole sweep folded into one reducer, going on from `checkpoint` where it holds finished shards."""
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
    """The reducer of every shard that is not `finished`, in order: for results that are rows rather than sums."""
    missing = [shard for shard in sweep.shards() if not finished(shard)]
    there = len(sweep.sequences) - sum(shard.stop - shard.start for shard in missing)
    if there:
        report(Step(stage=sweep.stage, done=there, total=len(sweep.sequences), tokens=0))
    return sweep.engine.reduce(sweep, missing, make, report=report)


@dataclass(frozen=True)
class SweepCheckpoint:
    """The merged state of the shards finished so far, in one file; `binding` says what it is the state of.

    The state of one shard less is kept beside it, so that damage to a file costs no more than that shard.
    """

    path: Path
    binding: str

    def in_shards_of(self, examples: int | None) -> SweepCheckpoint:
        """The same for shards of another size, whose numbers mean other examples."""
        return self if examples is None else replace(self, binding=f"{self.binding}, shards of {examples}")

    def load(self, reducer: Reducer, device: torch.device) -> int:
        """Fill `reducer` with the saved state, brought to `device`. Returns how many shards it holds: 0 where there is
        none of ours."""
        for shards, path in sorted(self._found(), reverse=True):
            try:
                reducer.load_state_dict(load_tensors(path, str(device)))
            except HeadwaterError:  # damaged: the one before may not be
                continue
            return shards
        return 0

    def save(self, state: Mapping[str, Tensor], shards: int) -> None:
        """Keep the `state` of the first `shards` shards."""
        following = self._beside("next")
        save_tensors(following, state, {"binding": self.binding, "shards": str(shards)})
        if self.path.exists():
            os.replace(self.path, self._beside("previous"))
        os.replace(following, self.path)

    def remove(self) -> None:
        """Delete what is saved: the work is done."""
        for path in (self.path, self._beside("next"), self._beside("previous")):
            path.unlink(missing_ok=True)

    def _found(self) -> Iterator[tuple[int, Path]]:
        """How many shards each readable file of this binding holds."""
        for path in (self.path, self._beside("next"), self._beside("previous")):
            with suppress(HeadwaterError):
                metadata = read_metadata(path) if path.exists() else {}
                if metadata.get("binding") == self.binding:
                    yield int(metadata["shards"]), path

    def _beside(self, word: str) -> Path:
        return self.path.with_name(f"{word}-{self.path.name}")
