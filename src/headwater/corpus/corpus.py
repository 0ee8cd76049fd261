"""The corpus of a run: the examples that it was made from and those added since, without those removed."""

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
"""Files that are read at the same time, if examples of several files are asked for."""


class Corpus:
    """The ordered training examples of a run.

    They are stored in segments, which are files that never change. The examples that the run was made from are in
    `path`, or, if the texts are streamed, in the catalogues of `streamed/` beside it. Those added since are in
    `added-0001.arrow` and so on. `removed.json` lists the removed examples. Every example has a position, 0 to N − 1,
    which removals shift, and a key, which never changes: its number in all segments taken together.
    """

    def __init__(self, path: Path, reader: SourceReader | None = None, *, base_only: bool = False) -> None:
        """`reader` reads the texts of a streamed corpus. Without it, everything but those texts can be read."""
        self.path = path
        self._reader = reader
        catalogues = sorted((path.parent / STREAMED).glob("*.arrow"))
        self.streamed = tuple(StreamedSegment(file, reader) for file in catalogues)
        """One segment for each file that texts are streamed from. Empty if the texts are in the run."""
        added = [] if base_only else sorted(path.parent.glob("added-*.arrow"))
        self.added = [Segment(file) for file in added]
        self.segments = [*(self.streamed or [Segment(path)]), *self.added]
        self.removed: list[int] = [] if base_only else _read_removed(path.parent)

    def reopened(self, *, base_only: bool = False) -> Corpus:
        """The corpus as its files are now."""
        return Corpus(self.path, self._reader, base_only=base_only)

    @property
    def base(self) -> Corpus:
        """The examples that the run was made from. The curvature is fitted on them."""
        return self.reopened(base_only=True)

    @cached_property
    def counts(self) -> CorpusCounts:
        """Counts of the examples that the run was made from."""
        return counts_of([segment.header for segment in self.streamed]) if self.streamed else self.segments[0].counts

    @property
    def base_fingerprint(self) -> str:
        return self.counts.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the corpus as it is now. Without changes since the run was made, it is `base_fingerprint`."""
        if not self.added and not self.removed:
            return self.base_fingerprint
        parts = [self.base_fingerprint, *(segment.counts.fingerprint for segment in self.added)]
        return hashlib.sha256(json.dumps([parts, self.removed]).encode()).hexdigest()[:16]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """[S + 1] key of the first example of each segment, and one past the last."""
        return np.cumsum([0, *(len(segment) for segment in self.segments)])

    @property
    def key_ranges(self) -> list[tuple[int, int]]:
        """First key and one past the last: of the examples that the run was made from, then of each addition."""
        bounds = self.starts[len(self.segments) - len(self.added) :].tolist()
        return list(pairwise([0, *bounds]))

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """[N] the key of every example, in increasing order."""
        present = np.ones(int(self.starts[-1]), dtype=np.bool_)
        present[self.removed] = False
        return np.flatnonzero(present)

    def positions_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of examples, given their keys. All of them must be in the corpus."""
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
        """The examples with the given keys. Those of a segment are read together; segments are read in parallel."""
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
        """The metadata of the examples at `positions`: each name with the types of its values.

        For a streamed file they come from its catalogue, which has the names of all its examples, so no text is read.
        """
        kinds: dict[str, set[str]] = {}
        keys = self.keys[np.fromiter(positions, dtype=np.int64)]
        start = self.starts[len(self.streamed)]
        for number in np.unique(np.searchsorted(self.starts, keys[keys < start], side="right") - 1).tolist():
            for name, found in self.streamed[number].header.fields.items():
                kinds.setdefault(name, set()).update(found)
        for example in self.read(self.positions_of(keys[keys >= start]).tolist()):
            for name, value in example.metadata.items():
                kinds.setdefault(name, set()).add(type(value).__name__)
        return kinds

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in corpus order."""
        ids = self.ids_by_key
        return ids if not self.removed else [ids[key] for key in self.keys.tolist()]

    @property
    def ids_by_key(self) -> list[str]:
        """The id at every key, including those of removed examples."""
        return [id for segment in self.segments for id in segment.ids]

    @cached_property
    def position(self) -> dict[str, int]:
        """The position of every id."""
        return {id: index for index, id in enumerate(self.ids)}

    def sequences(self, indices: Sequence[int] | None = None) -> CorpusSequences:
        """The token sequences of all examples, or of those at `indices`, read when they are used."""
        return CorpusSequences(self, range(len(self)) if indices is None else indices)

    def next_segment(self) -> Path:
        """Path of the next segment."""
        return self.path.with_name(f"added-{len(self.added) + 1:04d}.arrow")

    def write_removed(self, keys: Iterable[int]) -> None:
        """Make `keys` the removed examples. Only a corpus that is opened afterwards shows the change."""
        write_text(self.path.with_name("removed.json"), json.dumps(sorted(keys)))


def _fetch(segment: Segment | StreamedSegment, rows: Sequence[int]) -> Any:
    return segment.fetch(rows)


class CorpusSequences(Sequence[TokenSequence]):
    """The token sequences of a corpus as a list that reads on access. A slice is read in one go."""

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
