"""Methods that look back at the training, as they are evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headwater.curvature.base import EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext, ScoreMatrix
from headwater.evaluate.curvatures import Fit, fit_at, tracked
from headwater.evaluate.gradients import products
from headwater.lm.load import LanguageModel
from headwater.training.checkpoints import Checkpoint, read_checkpoints
from headwater.training.lookback import METHODS, CheckpointMethod, TrainingHistory, View


def look_back(scene: EvaluationContext, method: CheckpointMethod) -> ScoreMatrix:
    """What the checkpoints of the scene come to by a method of `training.lookback`, added up."""
    if scene.checkpoints is None:
        raise HeadwaterError(f"--method {method} looks back at the training: name its checkpoints with --checkpoints.")

    def refit(checkpoint: Checkpoint, lm: LanguageModel) -> EigenCurvature:
        folder = scene.work / "curvatures" / Path(checkpoint.name).name
        curvature = load_curvature(fit_at(scene, Fit("ekfac"), lm, folder=folder), Damping(), str(lm.device))[0]
        assert isinstance(curvature, EigenCurvature)
        return curvature

    run, layers = scene.run, tracked(scene)
    history = TrainingHistory(
        lm=run.lm,
        layers=layers,
        sequences=run.corpus.sequences(),
        questions=scene.questions,
        checkpoints=read_checkpoints(scene.checkpoints),
        refit=refit,
    )
    total = np.zeros((len(run.corpus), len(scene.queries)))

    def visit(view: View) -> None:
        nonlocal total
        total += view.factor * products(scene, view.lm, layers, weights=view.weights)

    METHODS[method](history, visit)
    return total
