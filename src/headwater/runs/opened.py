"""The loaded parts of a run, each read from disk once."""

from __future__ import annotations

from headwater.attribution.index.index import Index
from headwater.base.files import read_metadata
from headwater.corpus.corpus import Corpus
from headwater.curvature.base import Curvature
from headwater.curvature.damping import parse_damping
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel
from headwater.runs.create import open_corpus
from headwater.runs.manifest import Manifest, require_same
from headwater.runs.paths import RunPaths


class Opened:
    """The manifest, corpus, index and curvature of a run, shared by all its views (see `Run.using`)."""

    def __init__(self, paths: RunPaths, manifest: Manifest, lm: LanguageModel) -> None:
        self.paths, self.manifest, self.lm = paths, manifest, lm
        self._corpus: Corpus | None = None
        self._index: Index | None = None
        self._curvature: tuple[tuple[int, str], Curvature] | None = None
        """The curvature, with the time of its file and its damping as the key."""

    @property
    def corpus(self) -> Corpus:
        if self._corpus is None:
            self._corpus = open_corpus(self.paths.folder, self.lm, self.manifest.corpus)
        return self._corpus

    @corpus.setter
    def corpus(self, changed: Corpus) -> None:
        self._corpus = changed

    @property
    def index(self) -> Index:
        url = self.manifest.store or str(self.paths.index)
        if self._index is None or self._index.url != url:
            self._index = Index(url)
        return self._index

    def curvature(self, damping: str | float | None = None) -> Curvature:
        """The curvature with λ as given here, or else as given to `fit`.

        Raises HeadwaterError if none is fitted, and FingerprintMismatch if it belongs to another model or corpus.
        """
        path = self.paths.curvature
        if not path.exists():
            interrupted = " (it resumes the interrupted fit)" if self.paths.curvature_folder.exists() else ""
            raise HeadwaterError(
                f"{self.paths.folder} has no curvature yet. Fit it with: headwater fit {self.paths.folder}{interrupted}"
            )
        metadata = read_metadata(path)
        for what, expected in self.manifest.binding().items():
            require_same(
                f"The {what} that {path} was fitted on",
                expected,
                metadata.get(what, "none"),
                fix=f"Delete it and fit again: headwater fit {self.paths.folder}",
            )
        parsed = parse_damping(self.manifest.damping if damping is None else damping)
        key = (path.stat().st_mtime_ns, parsed.describe())
        if self._curvature is None or self._curvature[0] != key:
            self._curvature = None  # free its memory before another is read
            self._curvature = (key, load_curvature(path, parsed, str(self.lm.device))[0])
        return self._curvature[1]
