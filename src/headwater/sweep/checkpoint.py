"""The saved state of an unfinished sweep."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from headwater.base.files import load_tensors, read_metadata, save_tensors
from headwater.errors import HeadwaterError
from headwater.gradients.reducer import Reducer


@dataclass(frozen=True)
class SweepCheckpoint:
    """The merged state of the finished shards, in one file. The state before it is kept beside it.

    So a damaged file costs no more than the work since the state before.
    """

    path: Path
    binding: str
    """What the state was computed from. A file with another binding is ignored."""

    def in_shards_of(self, examples: int | None) -> SweepCheckpoint:
        """The same for shards of another size, where shard numbers mean other examples."""
        return self if examples is None else replace(self, binding=f"{self.binding}, shards of {examples}")

    def load(self, reducer: Reducer, device: torch.device) -> int:
        """Load the newest readable state into `reducer`. Returns its number of shards, 0 if there is none."""
        for shards, path in sorted(self._found(), reverse=True):
            try:
                reducer.load_state_dict(load_tensors(path, str(device)))
            except HeadwaterError:  # damaged: try the state before it
                continue
            return shards
        return 0

    def save(self, state: Mapping[str, Tensor], shards: int) -> None:
        """Save the `state` of the first `shards` shards."""
        following = self._beside("next")
        save_tensors(following, state, {"binding": self.binding, "shards": str(shards)})
        if self.path.exists():
            os.replace(self.path, self._beside("previous"))
        os.replace(following, self.path)

    def remove(self) -> None:
        """Delete all files of the checkpoint."""
        for path in (self.path, self._beside("next"), self._beside("previous")):
            path.unlink(missing_ok=True)

    def _found(self) -> Iterator[tuple[int, Path]]:
        """(number of shards, file) of each readable file with this binding."""
        for path in (self.path, self._beside("next"), self._beside("previous")):
            with suppress(HeadwaterError):
                metadata = read_metadata(path) if path.exists() else {}
                if metadata.get("binding") == self.binding:
                    yield int(metadata["shards"]), path

    def _beside(self, word: str) -> Path:
        return self.path.with_name(f"{word}-{self.path.name}")
