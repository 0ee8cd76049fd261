"""Influence methods that sum over the checkpoints of a training: TracIn, along Adam's steps, EK-FAC, SOURCE."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from headwater.attribution.preconditioned import question_gradients
from headwater.attribution.question import Question
from headwater.corpus.batches import TokenSequence
from headwater.curvature.base import EigenCurvature
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel, load_model
from headwater.training.adam import Adam, kernel_moments
from headwater.training.checkpoints import Checkpoint
from headwater.training.options import CheckpointMethod


@dataclass(frozen=True, kw_only=True)
class TrainingHistory:
    """A training with its checkpoints, and the questions about it."""

    lm: LanguageModel
    """The trained model."""
    layers: Sequence[TrackedLayer]
    sequences: Sequence[TokenSequence]
    """The training data, N."""
    questions: Sequence[Question]
    """The Q questions."""
    checkpoints: Sequence[Checkpoint]
    """By step."""
    refit: Callable[[Checkpoint, LanguageModel], EigenCurvature]
    """Returns EK-FAC of the model at a checkpoint."""


@dataclass(frozen=True)
class CheckpointTerm:
    """The contribution of one checkpoint to an influence: `factor · ⟨R_q, ∇L(z)⟩`, with the gradients of `lm`."""

    checkpoint: Checkpoint
    lm: LanguageModel
    preconditioned: Gradients
    """R_q, layer -> [Q, O, I]"""
    factor: float = 1.0


Visit = Callable[[CheckpointTerm], None]
"""Called with the term of each checkpoint. It must not keep the term, so that only one model is in memory."""


def tracin(history: TrainingHistory, visit: Visit) -> None:
    """Σ η ⟨∇L(q), ∇L(z)⟩ over checkpoints with learning rates η (TracInCP, Pruthi et al. 2020).

    If a checkpoint has no known learning rate, all checkpoints have the same weight.
    """
    for checkpoint, rate in zip(history.checkpoints, _rates(history), strict=True):
        visit(_plain_term(history, checkpoint, rate))


def adam(history: TrainingHistory, visit: Visit) -> None:
    """Σ η ⟨∇L(q), ∇L(z) / (√v̂ + ε)⟩ over checkpoints: TracIn along Adam's steps instead of gradient descent's.

    v̂ are Adam's elementwise second moments at the checkpoint. This is Γ of LESS (Xia et al. 2024, section 3.1) with
    the v of the training, a dot product in place of a cosine, and no momentum, which is the same for every example.
    """
    for checkpoint, rate in zip(history.checkpoints, _rates(history), strict=True):
        visit(_adam_term(history, checkpoint, rate))


def ekfac(history: TrainingHistory, visit: Visit) -> None:
    """Σ ∇L(q)ᵀ (H + λI)⁻¹ ∇L(z) over checkpoints, with the gradients and EK-FAC of each checkpoint."""
    for checkpoint in history.checkpoints:
        visit(_ekfac_term(history, checkpoint))


def source(history: TrainingHistory, visit: Visit) -> None:
    """Approximate unrolled differentiation (SOURCE, Bae et al. 2024), with one training segment per checkpoint.

    In a segment of K steps at learning rate η, the weights contract along each eigenvector of EK-FAC by e^(−ηKσ), and
    an example moves them by (1 − e^(−ηKσ))/σ times its gradient. The query's gradient is propagated back through the
    segments, starting at the last. Adam's step is longer than that of gradient descent by 1/√v, so η is divided by the
    root of the layer's mean second moment. σ is that of the mean loss per token, the training objective.
    """
    tokens = float(np.mean([one.targets.sum() for one in history.sequences]))
    rate_sums = _rate_sums(history.checkpoints)
    gradients = question_gradients(history.lm, history.layers, history.questions)
    for checkpoint, rate_sum in reversed(list(zip(history.checkpoints, rate_sums, strict=True))):
        gradients = _propagate_back(history, checkpoint, rate_sum / tokens, gradients=gradients, visit=visit)


METHODS: Mapping[CheckpointMethod, Callable[[TrainingHistory, Visit], None]] = {
    "tracin": tracin,
    "adam": adam,
    "ekfac": ekfac,
    "source": source,
}


def check_checkpoints(history: TrainingHistory, method: CheckpointMethod) -> list[str]:
    """Fingerprints of the checkpoints' models, after a check that each has what `method` needs.

    Raises HeadwaterError if something is missing, before hours are spent on the other checkpoints.
    """
    if method == "source":
        _rate_sums(history.checkpoints)
    return [_examined(history, method, checkpoint) for checkpoint in history.checkpoints]


def _examined(history: TrainingHistory, method: CheckpointMethod, checkpoint: Checkpoint) -> str:
    lm = _load(history, checkpoint)
    if method in ("adam", "source"):
        moments = _adam(method, checkpoint, lm).second_moments
        for layer in history.layers:
            kernel_moments(lm, layer.name, moments)
    return lm.fingerprint


@dataclass(frozen=True)
class TrainingSegment:
    """The part of a training that one checkpoint stands for."""

    curvature: EigenCurvature
    strides: dict[str, float]
    """layer -> ηK: the summed learning rate of gradient descent."""

    def contracted(self, vectors: Gradients) -> Gradients:
        """e^(−ηKH) v for vectors {layer: [Q, O, I]}."""
        return self._through(vectors, lambda values, stride: torch.exp(-stride * values))

    def moved(self, vectors: Gradients) -> Gradients:
        """(I − e^(−ηKH)) H⁻¹ v for vectors {layer: [Q, O, I]}; ηK v along directions without curvature."""

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


def _plain_term(history: TrainingHistory, checkpoint: Checkpoint, rate: float) -> CheckpointTerm:
    lm = _load(history, checkpoint)
    return CheckpointTerm(checkpoint, lm, question_gradients(lm, history.layers, history.questions), rate)


def _adam_term(history: TrainingHistory, checkpoint: Checkpoint, rate: float) -> CheckpointTerm:
    """Divides the query's gradient instead of every example's, since v̂ is the same for all."""
    term = _plain_term(history, checkpoint, rate)
    state = _adam("adam", checkpoint, term.lm)
    for name, gradients in term.preconditioned.items():
        gradients /= kernel_moments(term.lm, name, state.second_moments).sqrt() + state.epsilon
    return term


def _ekfac_term(history: TrainingHistory, checkpoint: Checkpoint) -> CheckpointTerm:
    lm = _load(history, checkpoint)
    curvature = history.refit(checkpoint, lm)
    return CheckpointTerm(
        checkpoint, lm, question_gradients(lm, history.layers, history.questions, curvature=curvature)
    )


def _propagate_back(
    history: TrainingHistory, checkpoint: Checkpoint, rate_sum: float, *, gradients: Gradients, visit: Visit
) -> Gradients:
    """The query's gradient before a segment, from its gradient after the segment."""
    lm = _load(history, checkpoint)
    segment = _segment(history, lm, checkpoint, rate_sum=rate_sum)
    visit(CheckpointTerm(checkpoint, lm, segment.moved(gradients)))
    return segment.contracted(gradients)


def _segment(
    history: TrainingHistory, lm: LanguageModel, checkpoint: Checkpoint, *, rate_sum: float
) -> TrainingSegment:
    moments = _adam("source", checkpoint, lm).second_moments
    curvature = history.refit(checkpoint, lm)
    strides = {
        layer.name: rate_sum / math.sqrt(float(kernel_moments(lm, layer.name, moments).mean()))
        for layer in curvature.layers
    }
    return TrainingSegment(curvature, strides)


def _rates(history: TrainingHistory) -> list[float]:
    rates = [one.rate for one in history.checkpoints if one.rate is not None]
    return rates if len(rates) == len(history.checkpoints) else [1.0] * len(history.checkpoints)


def _rate_sums(checkpoints: Sequence[Checkpoint]) -> list[float]:
    """Sum of the learning rates between checkpoints: as logged, or the steps times the mean rate of both ends."""
    steps, rates = [0], [checkpoints[0].rate or 0.0]
    for one in checkpoints:
        if one.rate is None:
            raise HeadwaterError(
                f"source needs the learning rate at the checkpoint {one.name}. Write it to its trainer_state.json: "
                '{"step": …, "learning_rate": …}.'
            )
        steps.append(one.step)
        rates.append(one.rate)
    lengths = [later - earlier for earlier, later in pairwise(steps)]
    found = [length * (one + other) / 2 for length, (one, other) in zip(lengths, pairwise(rates), strict=True)]
    return [
        straight if one.rate_sum is None else one.rate_sum for one, straight in zip(checkpoints, found, strict=True)
    ]


def _adam(method: CheckpointMethod, checkpoint: Checkpoint, lm: LanguageModel) -> Adam:
    found = checkpoint.adam(lm)
    if found is None:
        raise HeadwaterError(
            f"{method} needs the lengths of Adam's steps, and {checkpoint.name} has no second moments. "
            "`headwater train --checkpoints 4` writes them. transformers' Trainer writes them to optimizer.pt."
        )
    return found


def _load(history: TrainingHistory, checkpoint: Checkpoint) -> LanguageModel:
    """The model of a checkpoint. Raises HeadwaterError if its tokenizer differs from that of the trained model."""
    final = history.lm
    lm = load_model(checkpoint.name, final.loading, device=None if final.loading.device_map else str(final.device))
    if lm.tokenizer_fingerprint != final.tokenizer_fingerprint:
        raise HeadwaterError(f"The tokenizer of the checkpoint {checkpoint.name} differs from the run's.")
    return lm
