"""Methods that use gradients of the trained model: influences, dot products, cosines, and the index's estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.index.build import Sketches
from headwater.attribution.index.kernels import look_up
from headwater.attribution.index.search import make_sketch_query
from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import precondition, question_gradients, solve
from headwater.attribution.scores import Scores, SelfInfluence, sum_of
from headwater.curvature.base import Curvature, Eigenbasis, EigenCurvature, identity
from headwater.curvature.damping import parse_damping
from headwater.evaluate.context import EvaluationContext, ScoreMatrix
from headwater.evaluate.curvatures import FitSpec, fitted_curvature, tracked_layers
from headwater.gradients.factored import LowRank
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import fold
from headwater.training.adam import kernel_moments, second_moments


def influence(context: EvaluationContext, kind: str, damping: str = "", *, layers: str = "") -> ScoreMatrix:
    """I(q, z) with a curvature of any kind, fitted with the run's settings."""
    return _influence(context, fitted_curvature(context, FitSpec(kind, layers), damping))


def solved(
    context: EvaluationContext, solver: str, subset: int, *, damping: str = "", layers: str = "", **options: int
) -> ScoreMatrix:
    """⟨(H + λI)⁻¹ ∇L(q), ∇L(z)⟩ by a solver with EK-FAC; H is the Gauss–Newton matrix of a `subset` (0: all)."""
    curvature = fitted_curvature(context, FitSpec("ekfac", layers), damping)
    preconditioned = solve(
        context.attribution(curvature),
        context.questions,
        solver,
        subset=subset or None,
        given=options,
        seed=context.seed,
    )
    return products(context, context.run.lm, curvature.layers, preconditioned=preconditioned)


def relative(context: EvaluationContext, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z) / √I(z, z), which keeps examples with large gradients from dominating (Barshan et al. 2020)."""
    curvature = fitted_curvature(context, FitSpec("ekfac", layers), damping)
    return _influence(context, curvature) / _norms(context, curvature)[:, None]


def dot_product(context: EvaluationContext, layers: str = "") -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩"""
    return _influence(context, _plain(context, layers))


def cosine(context: EvaluationContext, layers: str = "") -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩ / (‖∇L(q)‖ ‖∇L(z)‖)"""
    return _cosines(context, _plain(context, layers))


def trackstar(context: EvaluationContext, damping: str = "", layers: str = "") -> ScoreMatrix:
    """Cosine of gradients divided by the root of the optimizer's second moments, as in TrackStar (Chang et al. 2024).

    It has neither TrackStar's task-specific Hessian nor its projection. If there are no second moments beside the
    model, the diagonal of the Fisher replaces them.
    """
    chosen = tracked_layers(context, layers)
    moments = second_moments(Path(context.run.lm.name))
    if moments is None:
        return _cosines(context, fitted_curvature(context, FitSpec("diagonal", layers), damping))
    bases = {
        layer.name: Eigenbasis(None, None, kernel_moments(context.run.lm, layer.name, moments)) for layer in chosen
    }
    return _cosines(context, EigenCurvature("diagonal", chosen, bases, parse_damping(damping or None)))


def sketch(context: EvaluationContext, bytes: int = 8192, kind: str = "planes") -> ScoreMatrix:
    """Influences estimated from the sketches of an index, without exact scores."""
    curvature = fitted_curvature(context, FitSpec("ekfac"))
    width = sketch_of_width(sum(layer.parameters for layer in curvature.layers), bytes, kind=kind)
    sweep = context.attribution(curvature).sweep("sketches")
    state = fold(sweep, lambda: Sketches(curvature, width), report=context.report).state_dict()
    codes, scales = state["codes"].numpy(), state["numbers"].numpy()[:, 0]
    found = np.zeros((len(codes), len(context.questions)), np.float32)
    for q, question in enumerate(context.questions):
        sums = np.zeros(len(codes), np.float32)
        preconditioned = precondition(context.attribution(curvature), [question], AskOptions())
        table = width.table(make_sketch_query(curvature, preconditioned.dense()).whitened)
        look_up(codes, np.arange(len(codes)), table, sums)
        found[:, q] = sums * scales
    return found.astype(np.float64)


def products(
    context: EvaluationContext,
    lm: LanguageModel,
    layers: Sequence[TrackedLayer],
    *,
    preconditioned: Mapping[str, Tensor | LowRank],
) -> ScoreMatrix:
    """Exact ⟨R_q, ∇L(z)⟩ of every example and query with gradients of `lm`, the run's model or a checkpoint."""
    sweep = context.run.execution.sweep("scores", lm, layers, sequences=context.run.corpus.sequences())
    return fold(sweep, lambda: Scores(preconditioned), report=context.report).values.double().numpy()


def _influence(context: EvaluationContext, curvature: Curvature) -> ScoreMatrix:
    preconditioned = precondition(context.attribution(curvature), context.questions, AskOptions())
    return products(context, context.run.lm, curvature.layers, preconditioned=preconditioned)


def _cosines(context: EvaluationContext, curvature: Curvature) -> ScoreMatrix:
    """I(q, z) / √(I(q, q) I(z, z))"""
    gradients = question_gradients(context.run.lm, curvature.layers, context.questions)
    preconditioned = curvature.precondition(gradients)
    parts = ((preconditioned[name].double() * part.double()).sum((1, 2)) for name, part in gradients.items())
    lengths = np.sqrt(np.maximum(sum_of(parts).cpu().numpy(), 1e-30))
    return products(context, context.run.lm, curvature.layers, preconditioned=preconditioned) / np.outer(
        _norms(context, curvature), lengths
    )


def _norms(context: EvaluationContext, curvature: Curvature) -> NDArray[np.float64]:
    """[N] √I(z, z) of every example, at least 1e-30."""
    sweep = context.attribution(curvature).sweep("self-influence")
    squares = fold(sweep, lambda: SelfInfluence(curvature), report=context.report).values.double().numpy()
    return np.maximum(np.sqrt(squares), 1e-30)


def _plain(context: EvaluationContext, layers: str) -> EigenCurvature:
    return identity(tracked_layers(context, layers), str(context.run.lm.device))
