"""More curvatures of a run, fitted as its own was: of other kinds and layers, or of the model at a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.base.files import read_metadata
from headwater.base.lock import exclusive
from headwater.corpus.corpus import Corpus
from headwater.curvature.fit import chosen_examples, labels_of, write_curvature
from headwater.curvature.options import FitOptions
from headwater.curvature.store import layers_of
from headwater.curvature.workbench import Workbench
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.execution import LOCAL, Execution


@dataclass(frozen=True)
class Refit:
    """Fits curvatures on the examples and with the labels of the curvature at `own`."""

    own: Path
    corpus: Corpus
    execution: Execution = LOCAL

    def fit(
        self, lm: LanguageModel, folder: Path, kind: str = "ekfac", *, layers: Sequence[TrackedLayer] | None = None
    ) -> Path:
        """The file of a curvature of `kind` in `folder`, fitted unless one with the same settings is there.

        `lm` is the run's model, or one of the same shape. `layers` are by default those of `own`. After an interruption
        the fit resumes. Raises HeadwaterError if another process works on the folder.
        """
        fitted = read_metadata(self.own)
        settings = json.loads(fitted["settings"])
        tracked = tuple(layers or layers_of(fitted))
        names = [layer.name for layer in tracked]
        binding = {what: fitted[what] for what in ("tokenizer", "corpus")} | {"model": lm.fingerprint}
        binding["settings"] = json.dumps([settings, kind, names], sort_keys=True)
        path = folder / "curvature.safetensors"
        if not path.exists() or not binding.items() <= read_metadata(path).items():
            options = replace(FitOptions(**settings), curvature=kind)
            sequences = self.corpus.base.sequences(chosen_examples(options, self.corpus.counts.examples))
            labels = labels_of(options.fisher, options.seed)
            sweep = self.execution.sweep("curvature", lm, tracked, sequences=sequences, labels=labels)
            bench = Workbench(folder, json.dumps(binding, sort_keys=True), self.execution.report)
            with exclusive(folder):
                write_curvature(path, options, sweep, bench=bench, binding=binding)
        return path
