"""Methods of attribution behind one interface: scores of every example on every query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headwater.ask import AskOptions, Scene
from headwater.curvature.kinds import Curvature, CurvatureKind, identity
from headwater.errors import HeadwaterError
from headwater.evaluate.curvatures import fitted
from headwater.evaluate.scene import EvalScene
from headwater.evaluate.words import bm25, overlap
from headwater.influence.question import question_gradients
from headwater.influence.scores import Scores, SelfInfluence, Weights, sum_of
from headwater.sweep.sweep import Sweep, fold

ScoreMatrix = NDArray[np.float64]
"""[N, Q], larger where the example is said to have raised the query's likelihood more."""


@dataclass(frozen=True)
class Method:
    """A way to say which examples made a model say something."""

    name: str
    """As it is asked for."""
    what: str
    """What it does, in a few words."""
    score: Callable[[EvalScene], ScoreMatrix]
    settings: str = ""
    """What else the scores depend on; other settings are scored anew."""


@dataclass(frozen=True)
class CgOptions:
    """How far conjugate gradients go (see AskOptions)."""

    iterations: int = 5
    subset: int = 256


def methods(cg: CgOptions = CgOptions()) -> dict[str, Method]:
    """All methods by name."""
    far = f"{cg.iterations} iterations over {cg.subset} examples"
    every = [
        Method("ekfac", "influence with EK-FAC", partial(_influence, kind="ekfac")),
        Method("kfac", "influence with K-FAC", partial(_influence, kind="kfac")),
        Method("diagonal", "influence with the Fisher's diagonal", partial(_influence, kind="diagonal")),
        Method("cg", f"influence with conjugate gradients, {far}", partial(_conjugate_gradients, cg=cg), far),
        Method("relative", "EK-FAC influence / √I(z, z)", _relative),
        Method("dot", "dot product of gradients", partial(_influence, kind="identity")),
        Method("cosine", "cosine of gradients", _cosine),
        Method("bm25", "BM25 of the query's words", _bm25),
        Method("overlap", "share of the query's words, pairs and triples", _overlap),
        Method("planted", "1 where the story states the fact: what knowing the facts is worth", _planted),
        Method("random", "chance", _random),
    ]
    return {method.name: method for method in every}


def choose(names: Sequence[str], cg: CgOptions = CgOptions()) -> list[Method]:
    """The methods of these names, each once, in their order. Raises HeadwaterError for a name that is none."""
    known = methods(cg)
    for name in names:
        if name not in known:
            raise HeadwaterError(f"--method {name}: there is no such method. Choose among {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)]


def _influence(scene: EvalScene, kind: CurvatureKind) -> ScoreMatrix:
    """I(q, z)"""
    return _against(scene, _weights(scene, _curvature(scene, kind), AskOptions()))


def _conjugate_gradients(scene: EvalScene, cg: CgOptions) -> ScoreMatrix:
    """⟨(H + λI)⁻¹ ∇L(q), ∇L(z)⟩ with the true Gauss–Newton matrix H; EK-FAC sets out the way."""
    options = AskOptions(solver="cg", iterations=cg.iterations, subset=cg.subset)
    options.check()
    return _against(scene, _weights(scene, _curvature(scene, "ekfac"), options))


def _relative(scene: EvalScene) -> ScoreMatrix:
    """I(q, z) / √I(z, z): loud examples do not always win (Barshan et al. 2020)."""
    return _influence(scene, "ekfac") / _norms(scene, _curvature(scene, "ekfac"))[:, None]


def _cosine(scene: EvalScene) -> ScoreMatrix:
    """⟨∇L(q), ∇L(z)⟩ / (‖∇L(q)‖ ‖∇L(z)‖)"""
    plain = _curvature(scene, "identity")
    gradients = question_gradients(scene.run.lm, plain.layers, scene.questions)
    lengths = sum_of(part.double().square().sum((1, 2)) for part in gradients.values()).sqrt().cpu().numpy()
    return _against(scene, gradients) / np.outer(_norms(scene, plain), np.maximum(lengths, 1e-30))


def _bm25(scene: EvalScene) -> ScoreMatrix:
    return bm25([story.text for story in scene.stories], _texts(scene))


def _overlap(scene: EvalScene) -> ScoreMatrix:
    return overlap([story.text for story in scene.stories], _texts(scene))


def _planted(scene: EvalScene) -> ScoreMatrix:
    return scene.stating().astype(np.float64)


def _random(scene: EvalScene) -> ScoreMatrix:
    return np.random.default_rng(scene.seed).standard_normal((len(scene.stories), len(scene.facts)))


def _texts(scene: EvalScene) -> list[str]:
    return [fact.prompt + fact.completion for fact in scene.facts]


def _curvature(scene: EvalScene, kind: CurvatureKind) -> Curvature:
    if kind == "identity":
        return identity(scene.run.curvature().layers, str(scene.run.lm.device))
    return fitted(scene, kind)


def _weights(scene: EvalScene, curvature: Curvature, options: AskOptions) -> Weights:
    """R_q of every query."""
    return Scene(scene.run.lm, scene.run.corpus, curvature, scene.report).weights(scene.questions, options)


def _against(scene: EvalScene, weights: Weights) -> ScoreMatrix:
    """⟨R_q, ∇L(z)⟩ of every example and query, exactly."""
    sweep = Sweep("scores", scene.run.lm, scene.run.curvature().layers, scene.run.corpus.sequences())
    return fold(sweep, lambda: Scores(weights), report=scene.report).values.double().numpy()


def _norms(scene: EvalScene, curvature: Curvature) -> NDArray[np.float64]:
    """[N] √I(z, z) of every example, never quite zero."""
    sweep = Sweep("self-influence", scene.run.lm, curvature.layers, scene.run.corpus.sequences())
    squares = fold(sweep, lambda: SelfInfluence(curvature), report=scene.report).values.double().numpy()
    return np.maximum(np.sqrt(squares), 1e-30)
