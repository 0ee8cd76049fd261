"""Methods that look back at the training: gradients at several checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from headwater.curvature.damping import Damping
from headwater.curvature.kinds import EigenCurvature
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.evaluate.curvatures import Fit, fit_at, tracked
from headwater.evaluate.gradients import kernel_moments, products
from headwater.evaluate.scene import EvalScene, ScoreMatrix
from headwater.gradient import Gradients
from headwater.influence.question import question_gradients
from headwater.lm.load import LanguageModel, load_model
from headwater.training.save import Checkpoint, read_checkpoints


def tracin(scene: EvalScene) -> ScoreMatrix:
    """Σ η ⟨∇L(q), ∇L(z)⟩ over checkpoints, η the learning rate there (Pruthi et al. 2020, TracInCP).

    Where a checkpoint does not say its learning rate, all of them count alike.
    """
    checkpoints, layers = _checkpoints(scene, "tracin"), tracked(scene)
    rates = [one.rate for one in checkpoints if one.rate is not None]
    if len(rates) < len(checkpoints):
        rates = [1.0] * len(checkpoints)
    total = np.zeros((len(scene.run.corpus), len(scene.queries)))
    for checkpoint, rate in zip(checkpoints, rates, strict=True):
        lm = _load(scene, checkpoint)
        total += rate * products(scene, lm, layers, question_gradients(lm, layers, scene.questions))
    return total


def source(scene: EvalScene) -> ScoreMatrix:
    """Approximate unrolled differentiation (Bae et al. 2024, SOURCE), one segment of training a checkpoint.

    In a segment of K steps at learning rate η the weights contract along every eigenvector of EK-FAC by e^(−ηKσ), and
    an example moves them by (1 − e^(−ηKσ))/σ of its gradient. The query's gradient is taken back through the segments,
    the last first. Adam's step is longer than plain descent's by 1/√v: η is taken over the root of the layer's mean
    second moment, and σ for the mean loss a token, which is what was trained on.
    """
    checkpoints = _checkpoints(scene, "source")
    tokens = float(np.mean([one.targets.sum() for one in scene.run.corpus.sequences()]))
    reach = _reach(checkpoints)
    layers = tracked(scene)
    carried = question_gradients(scene.run.lm, layers, scene.questions)
    total = np.zeros((len(scene.run.corpus), len(scene.queries)))
    for checkpoint, rate_steps in reversed(list(zip(checkpoints, reach, strict=True))):
        lm = _load(scene, checkpoint)
        segment = _segment(scene, lm, checkpoint, rate_steps / tokens)
        total += products(scene, lm, layers, segment.moved(carried))
        carried = segment.contracted(carried)
    return total


@dataclass(frozen=True)
class Segment:
    """A stretch of training about one checkpoint."""

    curvature: EigenCurvature
    strides: dict[str, float]
    """layer -> ηK: how far plain descent would have gone."""

    def contracted(self, vectors: Gradients) -> Gradients:
        """e^(−ηKH) of vectors {layer: [Q, O, I]}."""
        return self._through(vectors, lambda values, stride: torch.exp(-stride * values))

    def moved(self, vectors: Gradients) -> Gradients:
        """(I − e^(−ηKH)) H⁻¹ of vectors {layer: [Q, O, I]}; ηK where nothing curves."""

        def factor(values: Tensor, stride: float) -> Tensor:
            safe = values.clamp(min=1e-12)
            return torch.where(stride * values > 1e-6, -torch.expm1(-stride * safe) / safe, stride)

        return self._through(vectors, factor)

    def _through(self, vectors: Gradients, factor: Callable[[Tensor, float], Tensor]) -> Gradients:
        found: Gradients = {}
        for name, vector in vectors.items():
            basis = self.curvature.bases[name]
            found[name] = basis.from_eigenbasis(
                basis.to_eigenbasis(vector) * factor(basis.eigenvalues, self.strides[name])
            )
        return found


def _segment(scene: EvalScene, lm: LanguageModel, checkpoint: Checkpoint, rate_steps: float) -> Segment:
    folder = scene.work / "curvatures" / checkpoint.path.name
    curvature = load_curvature(fit_at(scene, Fit("ekfac"), lm, folder), Damping(), str(lm.device))[0]
    assert isinstance(curvature, EigenCurvature)
    moments = checkpoint.second_moments()
    if moments is None:
        raise HeadwaterError(
            f"source needs to know how long the optimiser's steps were, and {checkpoint.path} has no second moments. "
            "`headwater train --checkpoints 4` writes them."
        )
    strides = {
        layer.name: rate_steps / math.sqrt(float(kernel_moments(lm, layer.name, moments).mean()))
        for layer in curvature.layers
    }
    return Segment(curvature, strides)


def _reach(checkpoints: Sequence[Checkpoint]) -> list[float]:
    """Σ η over the steps that led to each checkpoint, the rate between two taken for the mean of theirs."""
    steps, rates = [0], [checkpoints[0].rate or 0.0]
    for one in checkpoints:
        if one.rate is None:
            raise HeadwaterError(
                f"source needs the learning rate at {one.path}, in its trainer_state.json: "
                '{"step": …, "learning_rate": …}.'
            )
        steps.append(one.step)
        rates.append(one.rate)
    lengths = [later - earlier for earlier, later in pairwise(steps)]
    return [length * (one + other) / 2 for length, (one, other) in zip(lengths, pairwise(rates), strict=True)]


def _checkpoints(scene: EvalScene, method: str) -> list[Checkpoint]:
    if scene.checkpoints is None:
        raise HeadwaterError(f"--method {method} looks back at the training: name its checkpoints with --checkpoints.")
    return read_checkpoints(scene.checkpoints)


def _load(scene: EvalScene, checkpoint: Checkpoint) -> LanguageModel:
    """The model there. Raises HeadwaterError where it reads text otherwise than the run's."""
    lm = load_model(str(checkpoint.path), device=str(scene.run.lm.device))
    if lm.tokenizer_fingerprint != scene.run.lm.tokenizer_fingerprint:
        raise HeadwaterError(f"The tokenizer of the checkpoint {checkpoint.path} is not the run's.")
    return lm
