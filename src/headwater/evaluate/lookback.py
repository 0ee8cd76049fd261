"""Methods that look back at the training, as they are evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headwater.curvature.damping import Damping
from headwater.curvature.kinds import EigenCurvature
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.evaluate.curvatures import Fit, fit_at, tracked
from headwater.evaluate.gradients import products
from headwater.evaluate.scene import EvalScene, ScoreMatrix
from headwater.lm.load import LanguageModel
from headwater.training.checkpoints import Checkpoint, read_checkpoints
from headwater.training.lookback import METHODS, History, Method, View


def look_back(scene: EvalScene, method: Method) -> ScoreMatrix:
    """What the checkpoints of the scene come to by a method of `training.lookback`, added up."""
    if scene.checkpoints is None:
        raise HeadwaterError(f"--method {method} looks back at the training: name its checkpoints with --checkpoints.")

    def refit(checkpoint: Checkpoint, lm: LanguageModel) -> EigenCurvature:
        folder = scene.work / "curvatures" / Path(checkpoint.name).name
        curvature = load_curvature(fit_at(scene, Fit("ekfac"), lm, folder), Damping(), str(lm.device))[0]
        assert isinstance(curvature, EigenCurvature)
        return curvature

    run, layers = scene.run, tracked(scene)
    history = History(
        run.lm, layers, run.corpus.sequences(), scene.questions, read_checkpoints(scene.checkpoints), refit
    )  # fmt: skip
    total = np.zeros((len(run.corpus), len(scene.queries)))

    def visit(view: View) -> None:
        nonlocal total
        total += view.factor * products(scene, view.lm, layers, view.weights)

    METHODS[method](history, visit)
    return total
