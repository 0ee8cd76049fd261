"""The index of a run: its table, the check that it matches the run, and its sketches in memory."""

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
    """The table at `url`, with the sketches that were read from it."""

    url: str
    memory: int | None = None
    """Bytes of memory for sketches; None is half of the free memory."""
    _loaded: dict[tuple[int, str], LoadedSketches] = field(
        default_factory=dict[tuple[int, str], LoadedSketches], repr=False
    )
    _complete: tuple[int, str] | None = field(default=None, repr=False)
    """Version of the table and fingerprint of the corpus when they last had the same examples."""

    @property
    def exists(self) -> bool:
        return self.table is not None

    @property
    def table(self) -> Table | None:
        """The table in its newest version, or None if there is none."""
        return open_table(self.url)

    @property
    def settings(self) -> IndexSettings | None:
        """The settings that the index was built with, or None if there is no index."""
        table = self.table
        return None if table is None else parse_settings(table.binding)

    def matching(self, corpus: Corpus, where: str | None, contains: str | None) -> NDArray[np.bool_]:
        """[N] the examples that meet the condition `where` and contain the words `contains` (see Table.matching)."""
        keys = self._require(corpus).matching(where, contains)
        selected = np.zeros(len(corpus), dtype=np.bool_)
        selected[corpus.positions_of(keys)] = True
        return selected

    def loaded(self, corpus: Corpus, curvature: Mapping[str, str]) -> LoadedSketches:
        """The sketches. They are read from the table at the first call.

        Raises HeadwaterError if the index is unfinished, or belongs to another curvature or damping.
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
        if key not in self._loaded:
            memory = int(psutil.virtual_memory().available * MEMORY_SHARE) if self.memory is None else self.memory
            self._loaded.clear()
            self._loaded[key] = load_sketches(
                table, corpus, settings.sketch, memory=memory, directions=settings.directions
            )
        return self._loaded[key]

    def _require(self, corpus: Corpus) -> Table:
        """The table. Raises HeadwaterError if it does not hold exactly the examples of the corpus."""
        table = self.table
        if table is None:
            raise HeadwaterError(
                "There is no index yet, and --where and --contains need one. Build it: headwater index RUN"
            )
        state = (table.version, corpus.fingerprint)
        if state == self._complete:
            return table
        if len(table) != len(corpus) or not np.array_equal(np.sort(table.keys()), corpus.keys):
            raise HeadwaterError(
                f"The index is unfinished: it holds {len(table):,} examples, the corpus {len(corpus):,}. Finish it "
                "(headwater index RUN), or score everything with --exact."
            )
        self._complete = state
        return table
