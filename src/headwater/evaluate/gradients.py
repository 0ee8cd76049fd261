"""Methods that go by gradients at the model as it is: influences, products, cosines, and the index's estimates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.ask import AskOptions, Scene
from headwater.curvature.damping import parse_damping
from headwater.curvature.kinds import Curvature, Eigenbasis, EigenCurvature, identity
from headwater.evaluate.curvatures import Fit, fitted, tracked
from headwater.evaluate.scene import EvalScene, ScoreMatrix
from headwater.gradient import Gradients
from headwater.index.build import Sketches
from headwater.index.kernels import look_up
from headwater.index.sketch import sketch_of_width
from headwater.influence.question import question_gradients
from headwater.influence.scores import Scores, SelfInfluence, Weights, sum_of
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.solvers.conjugate_gradient import damped_product
from headwater.solvers.lissa import neumann_series
from headwater.sweep.sweep import Sweep, fold
from headwater.training.adam import kernel_moments, second_moments


def ekfac(scene: EvalScene, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z)"""
    return _influence(scene, fitted(scene, Fit("ekfac", layers), damping))


def kfac(scene: EvalScene, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z) with K-FAC's eigenvalues (Martens & Grosse 2015)."""
    return _influence(scene, fitted(scene, Fit("kfac", layers), damping))


def diagonal(scene: EvalScene, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z) with the Fisher's diagonal."""
    return _influence(scene, fitted(scene, Fit("diagonal", layers), damping))


def exact(scene: EvalScene, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z) with the dense Fisher. Raises HeadwaterError where the model is too large for it."""
    return _influence(scene, fitted(scene, Fit("exact", layers), damping))


def conjugate_gradients(
    scene: EvalScene, iterations: int = 5, subset: int = 256, damping: str = "", layers: str = ""
) -> ScoreMatrix:
    """⟨(H + λI)⁻¹ ∇L(q), ∇L(z)⟩ with the true Gauss–Newton matrix H; EK-FAC sets out the way."""
    options = AskOptions(solver="cg", iterations=iterations, subset=subset)
    options.check()
    return _influence(scene, fitted(scene, Fit("ekfac", layers), damping), options)


def lissa(scene: EvalScene, steps: int = 40, batch: int = 32, damping: str = "", layers: str = "") -> ScoreMatrix:
    """The same by a Neumann series over random batches, without EK-FAC but for the size of λ."""
    curvature = fitted(scene, Fit("ekfac", layers), damping)
    run, rng = scene.run, np.random.default_rng(scene.seed)

    def product(vectors: Gradients) -> Gradients:
        chosen = rng.choice(len(run.corpus), min(batch, len(run.corpus)), replace=False)
        sweep = Sweep("LiSSA", run.lm, curvature.layers, run.corpus.sequences(np.sort(chosen).tolist()))
        return damped_product(curvature, sweep, vectors)

    gradients = question_gradients(run.lm, curvature.layers, scene.questions)
    return products(scene, scene.run.lm, curvature.layers, neumann_series(product, gradients, steps, scene.report))


def relative(scene: EvalScene, damping: str = "", layers: str = "") -> ScoreMatrix:
    """I(q, z) / √I(z, z): loud examples do not always win (Barshan et al. 2020)."""
    curvature = fitted(scene, Fit("ekfac", layers), damping)
    return _influence(scene, curvature) / _norms(scene, curvature)[:, None]


def dot_product(scene: EvalScene, layers: str = "") -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩"""
    return _influence(scene, _plain(scene, layers))


def cosine(scene: EvalScene, layers: str = "") -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩ / (‖∇L(q)‖ ‖∇L(z)‖)"""
    return _cosines(scene, _plain(scene, layers))


def trackstar(scene: EvalScene, damping: str = "", layers: str = "") -> ScoreMatrix:
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


def sketch(scene: EvalScene, bytes: int = 8192) -> ScoreMatrix:
    """Influences as the sketches of an index estimate them, none scored exactly."""
    curvature = fitted(scene, Fit("ekfac"))
    width = sketch_of_width(sum(layer.parameters for layer in curvature.layers), bytes)
    sweep = Sweep("sketches", scene.run.lm, curvature.layers, scene.run.corpus.sequences(), engine=scene.run.engine)
    state = fold(sweep, lambda: Sketches(curvature, width), report=scene.report).state_dict()
    codes, scales = state["codes"].numpy(), state["numbers"].numpy()[:, 0]
    asker = Scene(scene.run.lm, scene.run.corpus, curvature)
    found = np.zeros((len(codes), len(scene.questions)), np.float32)
    for q, question in enumerate(scene.questions):
        sums = np.zeros(len(codes), np.float32)
        table = width.table(asker.sought(asker.weights([question], AskOptions())).whitened)
        look_up(codes, np.arange(len(codes)), table, sums)
        found[:, q] = sums * scales
    return found.astype(np.float64)


def products(scene: EvalScene, lm: LanguageModel, layers: Sequence[TrackedLayer], weights: Weights) -> ScoreMatrix:
    """⟨R_q, ∇L(z)⟩ of every example and query, exactly, with gradients of `lm`: the run's model or a checkpoint."""
    sweep = Sweep("scores", lm, layers, scene.run.corpus.sequences(), engine=scene.run.engine)
    return fold(sweep, lambda: Scores(weights), report=scene.report).values.double().numpy()


def _influence(scene: EvalScene, curvature: Curvature, options: AskOptions = AskOptions()) -> ScoreMatrix:
    asker = Scene(scene.run.lm, scene.run.corpus, curvature, scene.report)
    return products(scene, scene.run.lm, curvature.layers, asker.weights(scene.questions, options))


def _cosines(scene: EvalScene, curvature: Curvature) -> ScoreMatrix:
    """I(q, z) / √(I(q, q) I(z, z))"""
    gradients = question_gradients(scene.run.lm, curvature.layers, scene.questions)
    weights = curvature.precondition(gradients)
    parts = ((weights[name].double() * part.double()).sum((1, 2)) for name, part in gradients.items())
    lengths = np.sqrt(np.maximum(sum_of(parts).cpu().numpy(), 1e-30))
    return products(scene, scene.run.lm, curvature.layers, weights) / np.outer(_norms(scene, curvature), lengths)


def _norms(scene: EvalScene, curvature: Curvature) -> NDArray[np.float64]:
    """[N] √I(z, z) of every example, never quite zero."""
    sweep = Sweep(
        "self-influence", scene.run.lm, curvature.layers, scene.run.corpus.sequences(), engine=scene.run.engine
    )
    squares = fold(sweep, lambda: SelfInfluence(curvature), report=scene.report).values.double().numpy()
    return np.maximum(np.sqrt(squares), 1e-30)


def _plain(scene: EvalScene, layers: str) -> EigenCurvature:
    return identity(tracked(scene, layers), str(scene.run.lm.device))
