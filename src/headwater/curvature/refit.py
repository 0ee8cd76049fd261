"""Curvatures beside the run's own, fitted as it was: of other kinds and layers, or of the model at a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.base.files import read_metadata
from headwater.base.lock import exclusive
from headwater.corpus.corpus import Corpus
from headwater.curvature.fit import Workbench, chosen_examples, labels_of, write_curvature
from headwater.curvature.options import FitOptions
from headwater.curvature.store import layers_of
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.execution import LOCAL, Execution


@dataclass(frozen=True)
class Refit:
    """Fits on the examples, and with the labels, of the curvature at `own`."""

    own: Path
    corpus: Corpus
    execution: Execution = LOCAL

    def fit(
        self,
        lm: LanguageModel,
        folder: Path,
        kind: str = "ekfac",
        *,
        layers: Sequence[TrackedLayer] | None = None,
    ) -> Path:
        """The file of a curvature in `folder`, fitted where there is none of these settings.

        `lm` is the run's model or one like it; `layers` are by default those of `own`. Interrupted, fitting goes on
        where it stopped. Raises HeadwaterError where another process is at work on the folder.
        """
        fitted = read_metadata(self.own)
        settings = json.loads(fitted["settings"])
        options = replace(FitOptions(**settings), curvature=kind)
        tracked = tuple(layers or layers_of(fitted))
        names = [layer.name for layer in tracked]
        binding = {what: fitted[what] for what in ("tokenizer", "corpus")} | {"model": lm.fingerprint}
        binding["settings"] = json.dumps([settings, kind, names], sort_keys=True)
        path = folder / "curvature.safetensors"
        if not path.exists() or not binding.items() <= read_metadata(path).items():
            sequences = self.corpus.base.sequences(chosen_examples(options, self.corpus.counts.examples))
            labels = labels_of(options.fisher, options.seed)
            sweep = self.execution.sweep("curvature", lm, tracked, sequences=sequences, labels=labels)
            with exclusive(folder):
                write_curvature(
                    path,
                    options,
                    sweep,
                    bench=Workbench(folder, json.dumps(binding, sort_keys=True), self.execution.report),
                    binding=binding,
                )
        return path
