"""The corpus of a run: the examples it was made from, those added since, less those taken out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from headwater.base.files import write_text
from headwater.corpus.batches import TokenSequence
from headwater.corpus.store import ROWS_PER_BATCH, CorpusCounts, Example, Segment
from headwater.corpus.streamed import STREAMED, SourceReader, StreamedSegment, counts_of
from headwater.errors import CorpusError

READERS = 8
"""Files that are read at a time, where examples of several are asked for."""


class Corpus:
    """The ordered training examples of a run.

    They lie in segments, files that never change: those that the run was made from in `path`, or, where their texts are
    not in the run, in the catalogues of `streamed/` beside it; those added since in `added-0001.arrow` and so on.
    `removed.json` lists what was taken out. Every example has a position, 0 to N − 1, which removals shift, and a key,
    which nothing changes: its place in the segments laid end to end.
    """

    def __init__(self, path: Path, reader: SourceReader | None = None, *, base_only: bool = False) -> None:
        """`reader` reads the texts that are not in the run; without it none of those can be read, but all else."""
        self.path = path
        self._reader = reader
        catalogues = sorted((path.parent / STREAMED).glob("*.arrow"))
        self.streamed = tuple(StreamedSegment(file, reader) for file in catalogues)
        """The files that texts are read from; none where all are in the run."""
        added = [] if base_only else sorted(path.parent.glob("added-*.arrow"))
        self.added = [Segment(file) for file in added]
        self.segments = [*(self.streamed or [Segment(path)]), *self.added]
        self.removed: list[int] = [] if base_only else _read_removed(path.parent)

    def reopened(self, *, base_only: bool = False) -> Corpus:
        """The corpus as its files are now."""
        return Corpus(self.path, self._reader, base_only=base_only)

    @property
    def base(self) -> Corpus:
        """The examples that the run was made from: those the curvature is fitted on."""
        return self.reopened(base_only=True)

    @cached_property
    def counts(self) -> CorpusCounts:
        """Of the examples that the run was made from."""
        return counts_of([segment.head for segment in self.streamed]) if self.streamed else self.segments[0].counts

    @property
    def base_fingerprint(self) -> str:
        return self.counts.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """That of the examples the run was made from, or, where it was changed since, of all that make it up."""
        if not self.added and not self.removed:
            return self.base_fingerprint
        parts = [self.base_fingerprint, *(segment.counts.fingerprint for segment in self.added)]
        return hashlib.sha256(json.dumps([parts, self.removed]).encode()).hexdigest()[:16]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """[S + 1] the key of each segment's first example, and one past the last."""
        return np.cumsum([0, *(len(segment) for segment in self.segments)])

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """From which key to which the examples reach that the run was made from, and those of each addition."""
        bounds = self.starts[len(self.segments) - len(self.added) :].tolist()
        return list(pairwise([0, *bounds]))

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
        positions = iter(indices)
        while block := list(islice(positions, ROWS_PER_BATCH)):
            yield from self._read_block(self.keys[block])

    def _read_block(self, keys: NDArray[np.int64]) -> list[Example]:
        """The examples of a few keys. Those of a segment are read together, and several segments at a time."""
        numbers = np.searchsorted(self.starts, keys, side="right") - 1
        places = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        segments = [self.segments[numbers[each[0]]] for each in places]
        rows = [(keys[each] - self.starts[numbers[each[0]]]).tolist() for each in places]
        fetched: Iterable[Any] = map(_fetch, segments, rows)
        if len(segments) > 1:
            with ThreadPoolExecutor(min(READERS, len(segments))) as pool:
                fetched = list(pool.map(_fetch, segments, rows))
        found: dict[int, Example] = {}
        for segment, each, part in zip(segments, places, fetched, strict=True):
            found |= zip(each.tolist(), segment.examples(part), strict=True)
        return [found[place] for place in range(len(keys))]

    def kinds_of(self, positions: Iterable[int]) -> dict[str, set[str]]:
        """The names of the metadata that the examples at `positions` have, and the kinds of value of each.

        Those of a file that is streamed are taken from its catalogue: of all its examples, without reading any.
        """
        kinds: dict[str, set[str]] = {}
        keys = self.keys[np.fromiter(positions, dtype=np.int64)]
        start = self.starts[len(self.streamed)]
        for number in np.unique(np.searchsorted(self.starts, keys[keys < start], side="right") - 1).tolist():
            for name, found in self.streamed[number].head.fields.items():
                kinds.setdefault(name, set()).update(found)
        for example in self.read(self.positions_of(keys[keys >= start]).tolist()):
            for name, value in example.metadata.items():
                kinds.setdefault(name, set()).add(type(value).__name__)
        return kinds

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
        return self.path.with_name(f"added-{len(self.added) + 1:04d}.arrow")

    def write_removed(self, keys: Iterable[int]) -> None:
        """Make `keys` the examples that are taken out. Open the corpus anew to see it so."""
        write_text(self.path.with_name("removed.json"), json.dumps(sorted(keys)))


def _fetch(segment: Segment | StreamedSegment, rows: Sequence[int]) -> Any:
    return segment.fetch(rows)


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
