"""Scores of the methods that sum over the checkpoints of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headwater.curvature.base import EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext, ScoreMatrix
from headwater.evaluate.curvatures import FitSpec, fit_at, tracked_layers
from headwater.evaluate.gradients import products
from headwater.lm.load import LanguageModel
from headwater.training.checkpoint_methods import METHODS, CheckpointTerm, TrainingHistory
from headwater.training.checkpoints import Checkpoint, read_checkpoints
from headwater.training.options import CheckpointMethod


def checkpoint_scores(context: EvaluationContext, method: CheckpointMethod) -> ScoreMatrix:
    """Scores summed over the context's checkpoints by a method of `training.checkpoint_methods`."""
    if context.checkpoints is None:
        raise HeadwaterError(f"--method {method} needs checkpoints of the training. Name them with --checkpoints.")

    def refit(checkpoint: Checkpoint, lm: LanguageModel) -> EigenCurvature:
        folder = context.work / "curvatures" / Path(checkpoint.name).name
        curvature = load_curvature(fit_at(context, FitSpec("ekfac"), lm, folder=folder), Damping(), str(lm.device))[0]
        assert isinstance(curvature, EigenCurvature)
        return curvature

    run, layers = context.run, tracked_layers(context)
    history = TrainingHistory(
        lm=run.lm,
        layers=layers,
        sequences=run.corpus.sequences(),
        questions=context.questions,
        checkpoints=read_checkpoints(context.checkpoints),
        refit=refit,
    )
    total = np.zeros((len(run.corpus), len(context.queries)))

    def visit(term: CheckpointTerm) -> None:
        nonlocal total
        total += term.factor * products(context, term.lm, layers, preconditioned=term.preconditioned)

    METHODS[method](history, visit)
    return total
