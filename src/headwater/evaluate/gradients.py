"""Methods that go by gradients at the model as it is: influences, products, cosines, and the index's estimates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.ask import AskOptions, AttributionContext
from headwater.attribution.index.build import Sketches
from headwater.attribution.index.kernels import look_up
from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.question import question_gradients
from headwater.attribution.scores import PreconditionedQueries, Scores, SelfInfluence, sum_of
from headwater.curvature.base import Curvature, Eigenbasis, EigenCurvature, identity
from headwater.curvature.damping import parse_damping
from headwater.evaluate.context import EvaluationContext, ScoreMatrix
from headwater.evaluate.curvatures import Fit, fitted, tracked
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep, fold
from headwater.training.adam import kernel_moments, second_moments


def influence(scene: EvaluationContext, kind: str, damping: str = "", *, layers: str = "") -> ScoreMatrix:
    """I(q, z) with a curvature of any kind, fitted as the run's own was."""
    return _influence(scene, fitted(scene, Fit(kind, layers), damping))


def solved(
    scene: EvaluationContext, solver: str, subset: int, *, damping: str = "", layers: str = "", **options: int
) -> ScoreMatrix:
    """⟨(H + λI)⁻¹ ∇L(q), ∇L(z)⟩, H the true Gauss–Newton matrix over a `subset` (0: all); EK-FAC sets out the way."""
    curvature = fitted(scene, Fit("ekfac", layers), damping)
    asker = AttributionContext(lm=scene.run.lm, corpus=scene.run.corpus, curvature=curvature, report=scene.report)
    weights = asker.solved(scene.questions, solver, subset or None, given=options, seed=scene.seed)
    return products(scene, scene.run.lm, curvature.layers, weights=weights)


def relative(scene: EvaluationContext, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z) / √I(z, z): loud examples do not always win (Barshan et al. 2020)."""
    curvature = fitted(scene, Fit("ekfac", layers), damping)
    return _influence(scene, curvature) / _norms(scene, curvature)[:, None]


def dot_product(scene: EvaluationContext, layers: str = "") -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩"""
    return _influence(scene, _plain(scene, layers))


def cosine(scene: EvaluationContext, layers: str = "") -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩ / (‖∇L(q)‖ ‖∇L(z)‖)"""
    return _cosines(scene, _plain(scene, layers))


def trackstar(scene: EvaluationContext, damping: str = "", layers: str = "") -> ScoreMatrix:
    """Cosine of gradients over the root of the optimiser's second moments, as in TrackStar (Chang et al. 2024).

    Without its task-specific Hessian and its projection. A model without second moments beside it has the Fisher's
    diagonal in their place.
    """
    chosen = tracked(scene, layers)
    moments = second_moments(Path(scene.run.lm.name))
    if moments is None:
        return _cosines(scene, fitted(scene, Fit("diagonal", layers), damping))
    bases = {layer.name: Eigenbasis(None, None, kernel_moments(scene.run.lm, layer.name, moments)) for layer in chosen}
    return _cosines(scene, EigenCurvature("diagonal", chosen, bases, parse_damping(damping or None)))


def sketch(scene: EvaluationContext, bytes: int = 8192, kind: str = "planes") -> ScoreMatrix:
    """Influences as the sketches of an index estimate them, none scored exactly."""
    curvature = fitted(scene, Fit("ekfac"))
    width = sketch_of_width(sum(layer.parameters for layer in curvature.layers), bytes, kind=kind)
    sweep = Sweep(
        stage="sketches",
        lm=scene.run.lm,
        layers=curvature.layers,
        sequences=scene.run.corpus.sequences(),
        engine=scene.run.engine,
    )
    state = fold(sweep, lambda: Sketches(curvature, width), report=scene.report).state_dict()
    codes, scales = state["codes"].numpy(), state["numbers"].numpy()[:, 0]
    asker = AttributionContext(lm=scene.run.lm, corpus=scene.run.corpus, curvature=curvature)
    found = np.zeros((len(codes), len(scene.questions)), np.float32)
    for q, question in enumerate(scene.questions):
        sums = np.zeros(len(codes), np.float32)
        table = width.table(asker.sketch_query(asker.weights([question], AskOptions())).whitened)
        look_up(codes, np.arange(len(codes)), table, sums)
        found[:, q] = sums * scales
    return found.astype(np.float64)


def products(
    scene: EvaluationContext, lm: LanguageModel, layers: Sequence[TrackedLayer], *, weights: PreconditionedQueries
) -> ScoreMatrix:
    """⟨R_q, ∇L(z)⟩ of every example and query, exactly, with gradients of `lm`: the run's model or a checkpoint."""
    sweep = Sweep(stage="scores", lm=lm, layers=layers, sequences=scene.run.corpus.sequences(), engine=scene.run.engine)
    return fold(sweep, lambda: Scores(weights), report=scene.report).values.double().numpy()


def _influence(scene: EvaluationContext, curvature: Curvature) -> ScoreMatrix:
    asker = AttributionContext(lm=scene.run.lm, corpus=scene.run.corpus, curvature=curvature, report=scene.report)
    return products(scene, scene.run.lm, curvature.layers, weights=asker.weights(scene.questions, AskOptions()))


def _cosines(scene: EvaluationContext, curvature: Curvature) -> ScoreMatrix:
    """I(q, z) / √(I(q, q) I(z, z))"""
    gradients = question_gradients(scene.run.lm, curvature.layers, scene.questions)
    weights = curvature.precondition(gradients)
    parts = ((weights[name].double() * part.double()).sum((1, 2)) for name, part in gradients.items())
    lengths = np.sqrt(np.maximum(sum_of(parts).cpu().numpy(), 1e-30))
    return products(scene, scene.run.lm, curvature.layers, weights=weights) / np.outer(
        _norms(scene, curvature), lengths
    )


def _norms(scene: EvaluationContext, curvature: Curvature) -> NDArray[np.float64]:
    """[N] √I(z, z) of every example, never quite zero."""
    sweep = Sweep(
        stage="self-influence",
        lm=scene.run.lm,
        layers=curvature.layers,
        sequences=scene.run.corpus.sequences(),
        engine=scene.run.engine,
    )
    squares = fold(sweep, lambda: SelfInfluence(curvature), report=scene.report).values.double().numpy()
    return np.maximum(np.sqrt(squares), 1e-30)


def _plain(scene: EvaluationContext, layers: str) -> EigenCurvature:
    return identity(tracked(scene, layers), str(scene.run.lm.device))
