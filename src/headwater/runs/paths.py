"""Paths of the files of a run (docs/formats.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The files and folders of the run in `folder`."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def corpus_folder(self) -> Path:
        return self.folder / "corpus"

    @property
    def corpus(self) -> Path:
        """The examples that the run was made from. A streamed run has no such file."""
        return self.corpus_folder / "examples.arrow"

    @property
    def curvature_folder(self) -> Path:
        return self.folder / "curvature"

    @property
    def curvature(self) -> Path:
        return self.curvature_folder / "curvature.safetensors"

    @property
    def familiarity(self) -> Path:
        """How usual the corpus is to the model, measured at the fit."""
        return self.curvature_folder / "familiarity.json"

    @property
    def index(self) -> Path:
        """Folder of the index's table, unless the manifest names another store."""
        return self.folder / "index"

    @property
    def scores(self) -> Path:
        """Cached exact scores."""
        return self.folder / "scores"

    @property
    def checkpoints(self) -> Path:
        """Curvatures fitted at training checkpoints."""
        return self.folder / "checkpoints"

    @property
    def retrained(self) -> Path:
        """Results of retraining."""
        return self.folder / "retrained"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluate"

    @property
    def questions(self) -> Path:
        """Example questions of the page."""
        return self.folder / "examples.jsonl"
