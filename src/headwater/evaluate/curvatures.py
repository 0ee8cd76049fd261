"""The curvatures that are compared, over the layers of the run's own: fitted once, then kept."""

from __future__ import annotations

import json

from headwater.curvature.damping import parse_damping
from headwater.curvature.kinds import Curvature, CurvatureKind
from headwater.curvature.store import load_curvature, save_curvature
from headwater.evaluate.scene import EvalScene
from headwater.files import read_metadata
from headwater.influence.fit import Workbench, fit_curvature
from headwater.lm.capture import Labels
from headwater.sweep.sweep import Sweep


def fitted(scene: EvalScene, kind: CurvatureKind) -> Curvature:
    """The run's own curvature where it is of that kind; else one of that kind, fitted on all examples into `work`.

    Interrupted, fitting goes on where it stopped. Raises HeadwaterError where the run has no curvature.
    """
    run = scene.run
    own = run.curvature()
    if own.kind == kind:
        return own
    folder = scene.work / "curvatures" / kind
    path = folder / "curvature.safetensors"
    binding = run.manifest.binding() | {"settings": json.dumps([[layer.name for layer in own.layers], scene.seed])}
    if not path.exists() or not binding.items() <= read_metadata(path).items():
        sweep = Sweep("curvature", run.lm, own.layers, run.corpus.sequences(), Labels("sampled", scene.seed))
        bench = Workbench(folder, json.dumps(binding, sort_keys=True), scene.report)
        save_curvature(path, fit_curvature(kind, sweep, bench), binding)
        bench.clear()
    return load_curvature(path, parse_damping(run.manifest.damping), str(run.lm.device))[0]
