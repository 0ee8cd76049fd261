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
from headwater.training.lookback import METHODS, TrainingHistory, View
from headwater.training.options import CheckpointMethod


def look_back(context: EvaluationContext, method: CheckpointMethod) -> ScoreMatrix:
    """What the checkpoints of the context come to by a method of `training.lookback`, added up."""
    if context.checkpoints is None:
        raise HeadwaterError(f"--method {method} looks back at the training: name its checkpoints with --checkpoints.")

    def refit(checkpoint: Checkpoint, lm: LanguageModel) -> EigenCurvature:
        folder = context.work / "curvatures" / Path(checkpoint.name).name
        curvature = load_curvature(fit_at(context, Fit("ekfac"), lm, folder=folder), Damping(), str(lm.device))[0]
        assert isinstance(curvature, EigenCurvature)
        return curvature

    run, layers = context.run, tracked(context)
    history = TrainingHistory(
        lm=run.lm,
        layers=layers,
        sequences=run.corpus.sequences(),
        questions=context.questions,
        checkpoints=read_checkpoints(context.checkpoints),
        refit=refit,
    )
    total = np.zeros((len(run.corpus), len(context.queries)))

    def visit(view: View) -> None:
        nonlocal total
        total += view.factor * products(context, view.lm, layers, preconditioned=view.preconditioned)

    METHODS[method](history, visit)
    return total
