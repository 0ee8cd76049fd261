"""The corpus of a run: the examples it was made from, those added since, less those taken out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.batches import TokenSequence
from headwater.corpus.store import CorpusCounts, Example, Segment
from headwater.errors import CorpusError
from headwater.files import write_text


class Corpus:
    """The ordered training examples of a run.

    They lie in segments, files that never change: `path`, and beside it `added-0001.arrow` and so on; `removed.json`
    lists what was taken out. Every example has a position, 0 to N − 1, which removals shift, and a key, which nothing
    changes: its place in the segments laid end to end.
    """

    def __init__(self, path: Path, *, base_only: bool = False) -> None:
        self.path = path
        added = [] if base_only else sorted(path.parent.glob("added-*.arrow"))
        self.segments = [Segment(path), *(Segment(file) for file in added)]
        self.removed: list[int] = [] if base_only else _read_removed(path.parent)

    @property
    def base(self) -> Corpus:
        """The examples that the run was made from: those the curvature is fitted on."""
        return Corpus(self.path, base_only=True)

    @property
    def counts(self) -> CorpusCounts:
        """Of the examples that the run was made from."""
        return self.segments[0].counts

    @property
    def base_fingerprint(self) -> str:
        return self.counts.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """That of the examples the run was made from, or, where it was changed since, of all that make it up."""
        if len(self.segments) == 1 and not self.removed:
            return self.base_fingerprint
        parts = [segment.counts.fingerprint for segment in self.segments]
        return hashlib.sha256(json.dumps([parts, self.removed]).encode()).hexdigest()[:16]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """[S + 1] the key of each segment's first example, and one past the last."""
        return np.cumsum([0, *(len(segment) for segment in self.segments)])

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """[N] the key of every example, rising."""
        there = np.ones(int(self.starts[-1]), dtype=np.bool_)
        there[self.removed] = False
        return np.flatnonzero(there)

    def positions_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of examples by their keys, all of which must be in the corpus."""
        return np.searchsorted(self.keys, keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Example:
        return next(self.read([index]))

    def read(self, indices: Iterable[int]) -> Iterator[Example]:
        """The examples at positions `indices`, in that order."""
        keys = self.keys[np.fromiter(indices, dtype=np.int64)]
        segments = np.searchsorted(self.starts, keys, side="right") - 1
        for segment, part in groupby(zip(segments.tolist(), keys.tolist(), strict=True), key=lambda pair: pair[0]):
            yield from self.segments[segment].read(key - int(self.starts[segment]) for _, key in part)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in corpus order."""
        everything = self.everything
        return everything if not self.removed else [everything[key] for key in self.keys.tolist()]

    @property
    def everything(self) -> list[str]:
        """The id at every key, those of examples that were taken out included."""
        return [id for segment in self.segments for id in segment.ids]

    @cached_property
    def position(self) -> dict[str, int]:
        """id -> position."""
        return {id: index for index, id in enumerate(self.ids)}

    def sequences(self, indices: Sequence[int] | None = None) -> CorpusSequences:
        """The token sequences of all examples, or of those at `indices`, read lazily."""
        return CorpusSequences(self, range(len(self)) if indices is None else indices)

    def next_segment(self) -> Path:
        """Where the next segment is written."""
        return self.path.with_name(f"added-{len(self.segments):04d}.arrow")

    def write_removed(self, keys: Iterable[int]) -> None:
        """Make `keys` the examples that are taken out. Open the corpus anew to see it so."""
        write_text(self.path.with_name("removed.json"), json.dumps(sorted(keys)))


class CorpusSequences(Sequence[TokenSequence]):
    """A lazy list of a corpus's token sequences; a slice is read in one go."""

    def __init__(self, corpus: Corpus, indices: Sequence[int]) -> None:
        self._corpus, self._indices = corpus, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> TokenSequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenSequence]: ...
    def __getitem__(self, index: int | slice) -> TokenSequence | list[TokenSequence]:
        if isinstance(index, slice):
            return [example.sequence for example in self._corpus.read(self._indices[index])]
        return self._corpus[self._indices[index]].sequence


def _read_removed(folder: Path) -> list[int]:
    path = folder / "removed.json"
    if not path.exists():
        return []
    try:
        found: Any = json.loads(path.read_bytes())
        return [int(key) for key in found]
    except (ValueError, TypeError) as error:
        raise CorpusError(f"{path} is damaged ({error}). Delete it, and remove the examples again.") from error
