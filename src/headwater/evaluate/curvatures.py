"""The curvatures that are compared, fitted as the run's own was: once, then kept with what it cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.curvature.damping import parse_damping
from headwater.curvature.kinds import Curvature, CurvatureKind
from headwater.curvature.store import load_curvature
from headwater.evaluate.scene import EvalScene
from headwater.files import read_metadata
from headwater.influence.fit import labels_of
from headwater.influence.refit import fit_kept
from headwater.lm.layers import TrackedLayer, choose_layers
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep


@dataclass(frozen=True)
class Fit:
    """One curvature."""

    kind: CurvatureKind
    layers: str = ""
    """A glob of the layers that are tracked; nothing is those that the run tracks."""

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.layers.replace('*', '_')}".rstrip("-")


def tracked(scene: EvalScene, layers: str = "") -> tuple[TrackedLayer, ...]:
    """The layers of a glob, or those that the run tracks."""
    if not layers:
        return scene.run.curvature().layers
    return tuple(choose_layers(scene.run.lm.model, [layers]))


def fitted(scene: EvalScene, fit: Fit, damping: str = "") -> Curvature:
    """The curvature, on all examples and with the labels that the run's own was fitted with.

    Interrupted, fitting goes on where it stopped. Raises HeadwaterError where the run has no curvature.
    """
    path = ready(scene, fit)
    chosen = parse_damping(damping or scene.run.manifest.damping)
    return load_curvature(path, chosen, str(scene.run.lm.device))[0]


def ready(scene: EvalScene, fit: Fit) -> Path:
    """The file of the curvature, fitted where it is not there yet."""
    return fit_at(scene, fit, scene.run.lm, scene.work / "curvatures" / fit.name)


def cost(scene: EvalScene, fit: Fit) -> float:
    """CPU seconds that the fit took."""
    return float(read_metadata(ready(scene, fit))["cpu_seconds"])


def fit_at(scene: EvalScene, fit: Fit, lm: LanguageModel, folder: Path) -> Path:
    """Fit the curvature of `lm`, the run's model or one like it, over the run's corpus into the folder."""
    settings: dict[str, Any] = json.loads(read_metadata(scene.run.curvature_path)["settings"])
    layers = tracked(scene, fit.layers)
    binding = scene.run.manifest.binding() | {"model": lm.fingerprint}
    binding["settings"] = json.dumps([settings, fit.kind, [layer.name for layer in layers]])
    labels = labels_of(settings["fisher"], settings["seed"])
    sweep = Sweep("curvature", lm, layers, scene.run.corpus.sequences(), labels)
    return fit_kept(fit.kind, sweep, folder, binding, scene.report, settings.get("block_width"))
