"""The index of a run: where it is, whether it fits the run as it is now, and its sketches in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import psutil
from numpy.typing import NDArray

from headwater.attribution.index.search import MEMORY_SHARE, LoadedSketches, load_sketches
from headwater.attribution.index.settings import IndexSettings, parse_settings
from headwater.attribution.index.table import Table, open_table
from headwater.corpus.corpus import Corpus
from headwater.errors import FingerprintMismatch, HeadwaterError


@dataclass
class Index:
    """The table at `url` with what has been read of it."""

    url: str
    memory: int | None = None
    """Bytes that sketches may take in memory; None is half of what is free."""
    _held: dict[tuple[int, str], LoadedSketches] = field(
        default_factory=dict[tuple[int, str], LoadedSketches], repr=False
    )
    _whole: tuple[int, str] | None = field(default=None, repr=False)
    """Version of the table and fingerprint of the corpus that were last seen to agree."""

    @property
    def exists(self) -> bool:
        return self.table is not None

    @property
    def table(self) -> Table | None:
        """The table as it is now, or None where there is none."""
        return open_table(self.url)

    @property
    def settings(self) -> IndexSettings | None:
        """What the index was built from, or None where there is none."""
        table = self.table
        return None if table is None else parse_settings(table.binding)

    def matching(self, corpus: Corpus, where: str | None, contains: str | None) -> NDArray[np.bool_]:
        """[N] which examples a condition and words choose (see Table.matching)."""
        keys = self._require(corpus).matching(where, contains)
        among = np.zeros(len(corpus), dtype=np.bool_)
        among[corpus.positions_of(keys)] = True
        return among

    def loaded(self, corpus: Corpus, curvature: Mapping[str, str]) -> LoadedSketches:
        """The sketches, read into memory the first time.

        Raises HeadwaterError where the index is unfinished, or belongs to another curvature or damping.
        """
        table = self._require(corpus)
        settings = parse_settings(table.binding)
        for what, expected in settings.curvature.items():
            if expected != curvature.get(what):
                raise FingerprintMismatch(
                    f"The {what} of the index",
                    expected,
                    str(curvature.get(what)),
                    fix="Build the index again (headwater index RUN), or score everything with --exact.",
                )
        key = (table.version, corpus.fingerprint)
        if key not in self._held:
            memory = int(psutil.virtual_memory().available * MEMORY_SHARE) if self.memory is None else self.memory
            self._held.clear()
            self._held[key] = load_sketches(
                table, corpus, settings.sketch, memory=memory, directions=settings.directions
            )
        return self._held[key]

    def _require(self, corpus: Corpus) -> Table:
        """The table, which must hold exactly the examples of the corpus."""
        table = self.table
        if table is None:
            raise HeadwaterError(
                "There is no index yet, and conditions and words are looked up in it. Build it: headwater index RUN"
            )
        state = (table.version, corpus.fingerprint)
        if state == self._whole:
            return table
        if len(table) != len(corpus) or not np.array_equal(np.sort(table.keys()), corpus.keys):
            raise HeadwaterError(
                f"The index is unfinished: it holds {len(table):,} examples, the corpus {len(corpus):,}. Go on with "
                "headwater index RUN, or score everything with --exact."
            )
        self._whole = state
        return table
