"""Methods that look back at a training: gradients at its checkpoints."""

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
    """A training that is looked back at, and what is asked of it."""

    lm: LanguageModel
    """The model that came of it."""
    layers: Sequence[TrackedLayer]
    sequences: Sequence[TokenSequence]
    """What was trained on: N."""
    questions: Sequence[Question]
    """Q of them."""
    checkpoints: Sequence[Checkpoint]
    """In the order of their steps."""
    refit: Callable[[Checkpoint, LanguageModel], EigenCurvature]
    """EK-FAC of the model at a checkpoint."""


@dataclass(frozen=True)
class CheckpointTerm:
    """What of an influence is due to one checkpoint: `factor · ⟨R_q, ∇L(z)⟩`, with the gradients of `lm`."""

    checkpoint: Checkpoint
    lm: LanguageModel
    preconditioned: Gradients
    """R_q, layer -> [Q, O, I]"""
    factor: float = 1.0


Visit = Callable[[CheckpointTerm], None]
"""Called with every checkpoint's term. It should keep none of them, so that one model at a time is held."""


def tracin(history: TrainingHistory, visit: Visit) -> None:
    """Σ η ⟨∇L(q), ∇L(z)⟩ over checkpoints, η the learning rate there (Pruthi et al. 2020, TracInCP).

    Where a checkpoint does not say its learning rate, all of them count alike.
    """
    for checkpoint, rate in zip(history.checkpoints, _rates(history), strict=True):
        visit(_plain_term(history, checkpoint, rate))


def adam(history: TrainingHistory, visit: Visit) -> None:
    """Σ η ⟨∇L(q), ∇L(z) / (√v̂ + ε)⟩ over checkpoints: TracIn along Adam's step in place of plain descent's.

    v̂ are Adam's second moments at the checkpoint, elementwise. This is Γ of Xia et al. 2024 (LESS, section 3.1) with v
    as the training left it and without the momentum, which is the same for every example; a product, not a cosine.
    """
    for checkpoint, rate in zip(history.checkpoints, _rates(history), strict=True):
        visit(_adam_term(history, checkpoint, rate))


def ekfac(history: TrainingHistory, visit: Visit) -> None:
    """Σ ∇L(q)ᵀ (H + λI)⁻¹ ∇L(z) over checkpoints, gradients and EK-FAC being those of each."""
    for checkpoint in history.checkpoints:
        visit(_ekfac_term(history, checkpoint))


def source(history: TrainingHistory, visit: Visit) -> None:
    """Approximate unrolled differentiation (Bae et al. 2024, SOURCE), one segment of training a checkpoint.

    In a segment of K steps at learning rate η the weights contract along every eigenvector of EK-FAC by e^(−ηKσ), and
    an example moves them by (1 − e^(−ηKσ))/σ of its gradient. The query's gradient is taken back through the segments,
    the last first. Adam's step is longer than plain descent's by 1/√v: η is taken over the root of the layer's mean
    second moment, and σ for the mean loss a token, which is what was trained on.
    """
    tokens = float(np.mean([one.targets.sum() for one in history.sequences]))
    reach = _rate_sums(history.checkpoints)
    carried = question_gradients(history.lm, history.layers, history.questions)
    for checkpoint, rate_steps in reversed(list(zip(history.checkpoints, reach, strict=True))):
        carried = _propagate_back(history, checkpoint, rate_steps / tokens, carried=carried, visit=visit)


METHODS: Mapping[CheckpointMethod, Callable[[TrainingHistory, Visit], None]] = {
    "tracin": tracin,
    "adam": adam,
    "ekfac": ekfac,
    "source": source,
}


def check_checkpoints(history: TrainingHistory, method: CheckpointMethod) -> list[str]:
    """Fingerprints of the checkpoints' models, in their order, after a look at what `method` needs of each.

    Raises HeadwaterError where something is missing: better now than after the hours that the others take.
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


def _plain_term(history: TrainingHistory, checkpoint: Checkpoint, rate: float) -> CheckpointTerm:
    lm = _load(history, checkpoint)
    return CheckpointTerm(checkpoint, lm, question_gradients(lm, history.layers, history.questions), rate)


def _adam_term(history: TrainingHistory, checkpoint: Checkpoint, rate: float) -> CheckpointTerm:
    """The query's gradient is divided in place of every example's: v̂ is the same for all."""
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
    history: TrainingHistory, checkpoint: Checkpoint, rate_steps: float, *, carried: Gradients, visit: Visit
) -> Gradients:
    """The query's gradient before a segment, from that after it."""
    lm = _load(history, checkpoint)
    segment = _segment(history, lm, checkpoint, rate_steps=rate_steps)
    visit(CheckpointTerm(checkpoint, lm, segment.moved(carried)))
    return segment.contracted(carried)


def _segment(
    history: TrainingHistory, lm: LanguageModel, checkpoint: Checkpoint, *, rate_steps: float
) -> TrainingSegment:
    moments = _adam("source", checkpoint, lm).second_moments
    curvature = history.refit(checkpoint, lm)
    strides = {
        layer.name: rate_steps / math.sqrt(float(kernel_moments(lm, layer.name, moments).mean()))
        for layer in curvature.layers
    }
    return TrainingSegment(curvature, strides)


def _rates(history: TrainingHistory) -> list[float]:
    rates = [one.rate for one in history.checkpoints if one.rate is not None]
    return rates if len(rates) == len(history.checkpoints) else [1.0] * len(history.checkpoints)


def _rate_sums(checkpoints: Sequence[Checkpoint]) -> list[float]:
    """Σ η over the steps that led to each checkpoint: as it was logged, or the rate between two the mean of theirs."""
    steps, rates = [0], [checkpoints[0].rate or 0.0]
    for one in checkpoints:
        if one.rate is None:
            raise HeadwaterError(
                f"source needs the learning rate at {one.name}, in its trainer_state.json: "
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
            f"{method} needs to know how long the optimiser's steps were, and {checkpoint.name} has no second moments. "
            "`headwater train --checkpoints 4` writes them, and transformers' Trainer an optimizer.pt."
        )
    return found


def _load(history: TrainingHistory, checkpoint: Checkpoint) -> LanguageModel:
    """The model there. Raises HeadwaterError where it reads text otherwise than the one that came of the training."""
    now = history.lm
    lm = load_model(checkpoint.name, now.loading, device=None if now.loading.device_map else str(now.device))
    if lm.tokenizer_fingerprint != now.tokenizer_fingerprint:
        raise HeadwaterError(f"The tokenizer of the checkpoint {checkpoint.name} is not the run's.")
    return lm
