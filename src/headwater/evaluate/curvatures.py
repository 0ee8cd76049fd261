"""Fits the curvatures that methods need, with the run's settings, and stores them with their cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from headwater.base.files import write_text
from headwater.curvature.base import Curvature
from headwater.curvature.damping import parse_damping
from headwater.curvature.refit import Refit
from headwater.curvature.store import load_curvature
from headwater.evaluate.context import EvaluationContext
from headwater.lm.layers import TrackedLayer, choose_layers
from headwater.lm.load import LanguageModel


@dataclass(frozen=True)
class FitSpec:
    """A curvature to fit: its kind and layers."""

    kind: str
    layers: str = ""
    """Glob of the tracked layers; empty for the layers that the run tracks."""

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.layers.replace('*', '_')}".rstrip("-")


def tracked_layers(context: EvaluationContext, layers: str = "") -> tuple[TrackedLayer, ...]:
    """The layers that match a glob, or those that the run tracks."""
    if not layers:
        return context.run.curvature().layers
    return tuple(choose_layers(context.run.lm.model, [layers]))


def fitted_curvature(context: EvaluationContext, fit: FitSpec, damping: str = "") -> Curvature:
    """The curvature, fitted on the same examples and labels as the run's own.

    An interrupted fit resumes. Raises HeadwaterError if the run has no curvature.
    """
    path = fit_if_missing(context, fit)
    chosen = parse_damping(damping or context.run.manifest.damping)
    return load_curvature(path, chosen, str(context.run.lm.device))[0]


def fit_if_missing(context: EvaluationContext, fit: FitSpec) -> Path:
    """The file of the curvature, which is fitted if it does not exist yet."""
    folder = context.work / "curvatures" / fit.name
    path, cost_file = folder / "curvature.safetensors", _cost_file(context, fit)
    if not cost_file.exists():
        path.unlink(missing_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else None
    start = time.process_time()
    path = fit_at(context, fit, context.run.lm, folder=folder)
    if path.stat().st_mtime_ns != before:
        write_text(cost_file, f"{time.process_time() - start:.2f}")
    return path


def fit_seconds(context: EvaluationContext, fit: FitSpec) -> float:
    """CPU seconds of the fit."""
    fit_if_missing(context, fit)
    return float(_cost_file(context, fit).read_text())


def _cost_file(context: EvaluationContext, fit: FitSpec) -> Path:
    return context.work / "curvatures" / fit.name / "cpu_seconds.txt"


def fit_at(context: EvaluationContext, fit: FitSpec, lm: LanguageModel, *, folder: Path) -> Path:
    """Fit the curvature of `lm`, the run's model or a checkpoint of it, on the run's corpus into `folder`."""
    refit = Refit(context.run.paths.curvature, context.run.corpus, context.run.execution)
    return refit.fit(lm, folder, fit.kind, layers=tracked_layers(context, fit.layers))
