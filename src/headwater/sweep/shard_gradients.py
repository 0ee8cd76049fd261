"""The factored gradients of one shard, batch by batch, within the memory of the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from headwater.base.progress import Report, Step
from headwater.corpus.batches import Batch, TokenSequence, make_batches, pad
from headwater.errors import HeadwaterError
from headwater.gradients.factored import FactoredGradient
from headwater.gradients.reducer import LayerGradients, R
from headwater.lm.capture import Capture, Captured
from headwater.lm.checkpointing import checkpoint_gradients
from headwater.lm.layers import TrackedLayer
from headwater.lm.precision import fast_products
from headwater.sweep.shards import Shard

if TYPE_CHECKING:
    from headwater.sweep.sweep import Sweep

MOST_TOKENS = 1024
"""Tokens in a batch on a CPU, padding included, if the layers are narrow."""
FACTOR_NUMBERS = 12_000_000
"""Numbers of activations and output gradients in a batch on a CPU (48 MB in float32).

So wide layers get fewer tokens in a batch. They reach full speed with them."""
GPU_FACTOR = 16
"""The batches of a GPU are larger by this factor."""


def token_budget(layers: Sequence[TrackedLayer], device: torch.device) -> int:
    """The most tokens in a batch, padding included, for a device and the width of the tracked layers."""
    factor = 1 if device.type == "cpu" else GPU_FACTOR
    width = sum(
        layer.token_share * (layer.outputs + (layer.inputs if layer.name == layer.group else 0)) for layer in layers
    )
    return factor * max(256, min(MOST_TOKENS, int(FACTOR_NUMBERS / width)))


def reduce_shard(sweep: Sweep, capture: Capture, shard: Shard, *, reducer: R, report: Report) -> R:
    """Run the model over one shard and fold its gradients into `reducer`."""
    done = shard.start
    with fast_products(sweep.lm):
        for batch, gradients in shard_gradients(sweep, capture, shard):
            reducer.update(batch, gradients)
            done += len(batch.ids)
            report(Step(stage=sweep.stage, done=done, total=len(sweep.sequences), tokens=batch.tokens))
    return reducer


def shard_gradients(sweep: Sweep, capture: Capture, shard: Shard) -> Iterator[tuple[Batch, LayerGradients]]:
    """Every batch of a shard with its gradients, from the sweep's cache if it holds them.

    If a batch runs out of memory, it is halved, and so are later batches of the shard that are as large. If a single
    example runs out of memory, gradient checkpointing is turned on for the model and stays on. Raises HeadwaterError
    if that is not enough.
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
    """The captured gradients of a batch, from the cache if it holds them."""
    captured = sweep.cache.load(shard.index, batch, sweep.lm.device) if sweep.cache else None
    if captured is None:
        captured = capture(batch, sweep.labels)
        if sweep.cache:
            sweep.cache.save(shard.index, batch, captured)
    return captured


def factored(layers: Sequence[TrackedLayer], captured: Captured) -> LayerGradients:
    """Captured tensors by layer. Layers of a group share their activations."""
    by_layer = {
        layer.name: FactoredGradient(
            captured.activations[layer.group],
            captured.output_gradients[layer.name],
            captured.positions.get(layer.name),
        )
        for layer in layers
    }
    return LayerGradients(by_layer, captured.losses)


def halves(sequences: Sequence[TokenSequence], batch: Batch) -> list[Batch]:
    """The second and the first half of a batch of `sequences`."""
    rows = batch.rows.tolist()
    middle = (len(rows) + 1) // 2
    return [pad(sequences, rows[middle:]), pad(sequences, rows[:middle])]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out, on a GPU or on a CPU. PyTorch has no exception of its own for the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
