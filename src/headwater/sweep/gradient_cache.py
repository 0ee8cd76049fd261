"""Captured gradients kept on disk, so that a second sweep over the same examples needs no model.

EK-FAC reads its examples twice: for the covariances, and for the eigenvalues in the basis they give. What the first
sweep has caught is as good as new for the second.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from headwater.base.files import load_tensors, save_tensors
from headwater.corpus.batches import Batch
from headwater.errors import HeadwaterError
from headwater.lm.capture import Captured

MOST_BYTES = 8 << 30
"""What is kept takes at most so much room, and at most a quarter of what is free."""


@dataclass(frozen=True)
class GradientCache:
    """The captured gradients of some batches of a sweep, one file each."""

    folder: Path
    """Of this sweep's settings alone: what is found in it is believed."""
    limit: int
    """Bytes of all files together; batches beyond are not kept, and are computed again."""

    def load(self, shard: int, batch: Batch, device: torch.device) -> Captured | None:
        """What was caught of a batch, or None where it is not kept."""
        path = self._path(shard, batch)
        if not path.exists():
            return None
        try:
            tensors = load_tensors(path, str(device))
        except HeadwaterError:  # damaged: as good as not kept
            return None
        activations = {name.removeprefix("a "): x for name, x in tensors.items() if name.startswith("a ")}
        gradients = {name.removeprefix("g "): x for name, x in tensors.items() if name.startswith("g ")}
        return Captured(tensors["losses"], activations, gradients)

    def save(self, shard: int, batch: Batch, captured: Captured) -> None:
        """Keep what was caught of a batch, where there is room for it."""
        tensors = {f"a {name}": x for name, x in captured.activations.items()}
        tensors |= {f"g {name}": x for name, x in captured.output_gradients.items()}
        size = sum(x.numel() * x.element_size() for x in tensors.values())
        if size + self.bytes <= self.limit:
            with suppress(OSError, SafetensorError):  # the disk is full after all
                save_tensors(self._path(shard, batch), tensors | {"losses": captured.losses}, {})

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return sum(file.stat().st_size for file in self.folder.glob("*"))

    def _path(self, shard: int, batch: Batch) -> Path:
        """A batch is known by its first example and how many follow it by length."""
        return self.folder / f"{shard:06d}-{batch.rows[0]:06d}-{len(batch.rows)}.safetensors"


def open_gradient_cache(folder: Path) -> GradientCache:
    """Room for captured gradients in `folder`, as much as the disk can spare."""
    folder.mkdir(parents=True, exist_ok=True)
    return GradientCache(folder, min(MOST_BYTES, shutil.disk_usage(folder).free // 4))
