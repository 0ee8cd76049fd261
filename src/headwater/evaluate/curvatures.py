"""The curvatures that are compared, fitted as the run's own was: once, then kept with what it cost."""

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
    """One curvature."""

    kind: str
    layers: str = ""
    """A glob of the layers that are tracked; nothing is those that the run tracks."""

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.layers.replace('*', '_')}".rstrip("-")


def tracked_layers(context: EvaluationContext, layers: str = "") -> tuple[TrackedLayer, ...]:
    """The layers of a glob, or those that the run tracks."""
    if not layers:
        return context.run.curvature().layers
    return tuple(choose_layers(context.run.lm.model, [layers]))


def fitted_curvature(context: EvaluationContext, fit: FitSpec, damping: str = "") -> Curvature:
    """The curvature, on the examples and with the labels that the run's own was fitted with.

    Interrupted, fitting goes on where it stopped. Raises HeadwaterError where the run has no curvature.
    """
    path = fit_if_missing(context, fit)
    chosen = parse_damping(damping or context.run.manifest.damping)
    return load_curvature(path, chosen, str(context.run.lm.device))[0]


def fit_if_missing(context: EvaluationContext, fit: FitSpec) -> Path:
    """The file of the curvature, fitted where it is not there yet."""
    folder = context.work / "curvatures" / fit.name
    path, spent = folder / "curvature.safetensors", _cost_file(context, fit)
    if not spent.exists():
        path.unlink(missing_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else None
    start = time.process_time()
    path = fit_at(context, fit, context.run.lm, folder=folder)
    if path.stat().st_mtime_ns != before:
        write_text(spent, f"{time.process_time() - start:.2f}")
    return path


def fit_seconds(context: EvaluationContext, fit: FitSpec) -> float:
    """CPU seconds that the fit took."""
    fit_if_missing(context, fit)
    return float(_cost_file(context, fit).read_text())


def _cost_file(context: EvaluationContext, fit: FitSpec) -> Path:
    return context.work / "curvatures" / fit.name / "cpu_seconds.txt"


def fit_at(context: EvaluationContext, fit: FitSpec, lm: LanguageModel, *, folder: Path) -> Path:
    """FitSpec the curvature of `lm`, the run's model or one like it, over the run's corpus into the folder."""
    refit = Refit(context.run.paths.curvature, context.run.corpus, context.run.execution)
    return refit.fit(lm, folder, fit.kind, layers=tracked_layers(context, fit.layers))
