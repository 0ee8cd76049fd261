"""Fitting the curvature of a run, and what it was fitted on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from headwater.base.files import read_metadata, write_text
from headwater.base.lock import exclusive
from headwater.corpus.corpus import Corpus
from headwater.curvature.damping import parse_damping
from headwater.curvature.fit import chosen_examples, labels_of, settings_of, write_curvature
from headwater.curvature.options import FitOptions
from headwater.curvature.store import curvature_files
from headwater.curvature.workbench import Workbench
from headwater.lm.coverage import coverage_of
from headwater.lm.familiarity import familiarity
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel
from headwater.runs.manifest import Manifest
from headwater.runs.paths import RunPaths
from headwater.sweep.execution import Execution


def fit_curvature(
    paths: RunPaths, manifest: Manifest, lm: LanguageModel, *, corpus: Corpus, options: FitOptions, execution: Execution
) -> Manifest:
    """Fit the curvature of a run, or resume an interrupted fit. A finished one with the same settings is kept.

    Writes the damping to the manifest and returns the manifest. Raises HeadwaterError if another process works on the
    run.
    """
    parse_damping(options.damping)
    layers = choose_layers(lm.model, options.layers)
    binding = manifest.binding() | {"settings": settings_of(options, [layer.name for layer in layers])}
    if not is_fitted(paths, binding):
        sequences = corpus.base.sequences(chosen_examples(options, corpus.counts.examples))
        labels = labels_of(options.fisher, options.seed)
        sweep = execution.sweep("curvature", lm, layers, sequences=sequences, labels=labels)
        bench = Workbench(paths.curvature_folder, json.dumps(binding, sort_keys=True), execution.report)
        with exclusive(paths.folder):
            written = binding | {"coverage": coverage_of(lm.model, layers).to_json()}
            write_curvature(paths.curvature, options, sweep, bench=bench, binding=written)
            write_text(paths.familiarity, json.dumps(asdict(familiarity(lm, corpus.base.sequences()))))
    if options.damping == manifest.damping:
        return manifest
    changed = replace(manifest, damping=options.damping)
    changed.write(paths.folder)
    return changed


def is_fitted(paths: RunPaths, binding: dict[str, str]) -> bool:
    """Whether the curvature is complete and has the fingerprints and settings of `binding`."""
    if not paths.curvature.exists() or binding_of(read_metadata(paths.curvature)) != binding:
        return False
    return all(file.exists() for file in curvature_files(paths.curvature))


def binding_of(metadata: dict[str, str]) -> dict[str, str]:
    """The fingerprints and settings in the metadata of a curvature."""
    return {key: metadata.get(key, "") for key in ("model", "tokenizer", "corpus", "settings")}


def binding_at(paths: RunPaths) -> dict[str, str]:
    """The fingerprints and settings of the fitted curvature of a run."""
    return binding_of(read_metadata(paths.curvature))
