"""Captured gradients on disk, so that a second sweep over the same examples needs no model.

EK-FAC reads its examples twice: for the covariances, and for the eigenvalues in the basis that the covariances give.
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

LARGEST_CACHE = 8 << 30
"""Most bytes of a cache. It also takes at most a quarter of the free disk space."""


@dataclass(frozen=True)
class GradientCache:
    """The captured gradients of batches of a sweep, one file per batch."""

    folder: Path
    """Belongs to one setting of the sweep: every file in it is taken to match."""
    limit: int
    """Most bytes of all files together. Batches beyond are computed again."""

    def load(self, shard: int, batch: Batch, device: torch.device) -> Captured | None:
        """The captured gradients of a batch, or None if they are not kept."""
        path = self._path(shard, batch)
        if not path.exists():
            return None
        try:
            tensors = load_tensors(path, str(device))
        except HeadwaterError:  # damaged: computed again
            return None
        activations = {name.removeprefix("a "): x for name, x in tensors.items() if name.startswith("a ")}
        gradients = {name.removeprefix("g "): x for name, x in tensors.items() if name.startswith("g ")}
        positions = {name.removeprefix("p "): x for name, x in tensors.items() if name.startswith("p ")}
        return Captured(tensors["losses"], activations, gradients, positions)

    def save(self, shard: int, batch: Batch, captured: Captured) -> None:
        """Keep the captured gradients of a batch if there is room."""
        tensors = {f"a {name}": x for name, x in captured.activations.items()}
        tensors |= {f"g {name}": x for name, x in captured.output_gradients.items()}
        tensors |= {f"p {name}": x.clone() for name, x in captured.positions.items()}  # one expert's layers share them
        size = sum(x.numel() * x.element_size() for x in tensors.values())
        if size + self.bytes <= self.limit:
            with suppress(OSError, SafetensorError):  # the disk is full after all
                save_tensors(self._path(shard, batch), tensors | {"losses": captured.losses}, {})

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.stat().st_size for file in self.folder.glob("*"))

    def _path(self, shard: int, batch: Batch) -> Path:
        """Batches are sorted by length, so the first example and their number identify a batch of a shard."""
        return self.folder / f"{shard:06d}-{batch.rows[0]:06d}-{len(batch.rows)}.safetensors"


def open_gradient_cache(folder: Path) -> GradientCache:
    """A cache in `folder`, as large as the disk can spare."""
    folder.mkdir(parents=True, exist_ok=True)
    return GradientCache(folder, min(LARGEST_CACHE, shutil.disk_usage(folder).free // 4))
