"""Sections: the layers that are fitted together, so that a fit stays within its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import psutil
import torch

from headwater.base.byte_sizes import in_bytes
from headwater.base.memory_probe import Peak
from headwater.corpus.batches import make_batches
from headwater.errors import HeadwaterError
from headwater.gradients.basis import spans
from headwater.lm.capture import Capture
from headwater.lm.layers import TrackedLayer
from headwater.sweep.sweep import Sweep

WORKSPACE = 256 << 20
"""Bytes for gradients of a few examples, for buffers of products, and for freed memory that the process keeps."""
FREE_SHARE = 0.9
"""Part of the free memory that a fit uses if no limit is given."""


@dataclass(frozen=True)
class Section:
    """Neighbouring layers whose curvature is fitted together. Layers of a group are in one section."""

    layers: tuple[TrackedLayer, ...]
    covariances: int
    """Bytes of their A and S, and of their eigenbases."""
    widest: int
    """Bytes of the largest of these matrices."""
    eigenvalues: int
    """Bytes of their Λ."""

    @property
    def peak(self) -> int:
        """Most bytes that fitting EK-FAC to them holds, besides the model and a batch.

        1. The covariances three times: of a shard, of all shards before, and while they are saved.
        2. During a decomposition, all covariances, and five matrices of the size of the largest.
        3. The bases, and the eigenvalues three times, as in 1.
        4. The bases and the eigenvalues twice, while they are written.
        """
        covariances, bases, eigenvalues = self.covariances, self.covariances, self.eigenvalues
        stages = (3 * covariances, covariances + 5 * self.widest, bases + 3 * eigenvalues, 2 * (bases + eigenvalues))
        return max(stages) + WORKSPACE

    def with_next(self, other: Section) -> Section:
        return Section(
            self.layers + other.layers,
            self.covariances + other.covariances,
            max(self.widest, other.widest),
            self.eigenvalues + other.eigenvalues,
        )


def section_of(layers: Sequence[TrackedLayer], block_width: int | None = None, number: int = 4) -> Section:
    """The section of `layers`, with `number` bytes a number, and covariances in blocks of at most `block_width`."""
    widths = [layer.inputs for layer in layers if layer.name == layer.group] + [layer.outputs for layer in layers]
    blocks = [span.stop - span.start for width in widths for span in spans(width, block_width)]
    return Section(
        tuple(layers),
        number * sum(n * n for n in blocks),
        number * max(blocks) ** 2,
        number * sum(layer.parameters for layer in layers),
    )


def sections(
    layers: Sequence[TrackedLayer], room: int, block_width: int | None = None, *, number: int = 4
) -> list[Section]:
    """The layers, in their order, in the fewest sections that fit in `room` bytes besides the model and a batch.

    Raises HeadwaterError if a single group of layers does not fit.
    """
    found: list[Section] = []
    for _, group in groupby(layers, key=lambda layer: layer.group):
        section = section_of(list(group), block_width, number)
        if section.peak > room:
            raise HeadwaterError(
                f"Layer {section.layers[0].name} alone needs {in_bytes(section.peak)} besides the model and a batch. "
                f"{in_bytes(max(0, room))} are available. Give the fit more --memory, make the covariances "
                "block-diagonal with --block-width, or leave the layer out with --layers."
            )
        if found and found[-1].with_next(section).peak <= room:
            found[-1] = found[-1].with_next(section)
        else:
            found.append(section)
    return found


def sections_of(sweep: Sweep, memory: int | None, block_width: int | None = None) -> list[Section]:
    """The sections of a fit that may use `memory` bytes in total, the model included. None is what is free.

    It is the memory of the model's device. The largest batch of the first shard is run, to measure what the model and a
    batch take.
    """
    number = torch.promote_types(sweep.lm.model.dtype, torch.float32).itemsize
    device, layers = sweep.lm.device, sweep.layers
    whole = section_of(layers, block_width, number)
    if memory is None and 4 * whole.peak < _free(device):  # clearly enough: nothing to measure
        return [whole]
    held, before = _held_in_a_batch(sweep)
    room = memory - held if memory is not None else int(FREE_SHARE * _free(device)) - (held - before)
    return sections(layers, room, block_width, number=number)


def _held_in_a_batch(sweep: Sweep) -> tuple[int, int]:
    """Most bytes that the process, or its GPU, holds during a batch, and the bytes that it held before."""
    shard = sweep.shards()[0]
    batch = next(make_batches(sweep.sequences[shard.start : shard.stop], sweep.token_budget))
    device = sweep.lm.device
    with Capture(sweep.lm, sweep.layers) as capture:
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            capture(batch, sweep.labels)
            return torch.cuda.max_memory_allocated(device), before
        with Peak() as peak:
            before = peak.bytes
            capture(batch, sweep.labels)
        return peak.bytes, before


def _free(device: torch.device) -> int:
    """Free bytes of the device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
