"""Gradients of questions, plain and preconditioned: R_q = (H + λI)⁻¹ ∇L(q) for every tracked layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from headwater.attribution.context import AttributionContext
from headwater.attribution.options import AskOptions
from headwater.attribution.question import Question
from headwater.corpus.batches import Batch, TokenSequence
from headwater.curvature.base import Curvature
from headwater.curvature.solvers.solver import LinearProblem, solver_of
from headwater.errors import HeadwaterError
from headwater.gradients.factored import FactoredGradient, Gradients, LowRank, low_rank, match_layout, per_example
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep, fold


class PreconditionedQueries(dict[str, Tensor | LowRank]):
    """R_q of Q questions: layer name -> [Q, O, I], dense or low-rank."""

    def query(self, row: int) -> PreconditionedQueries:
        """R_q of one question, [1, O, I]."""
        return PreconditionedQueries({name: every[row : row + 1] for name, every in self.items()})

    def of_rank(self, rank: int | None) -> PreconditionedQueries:
        """Every [O, I] matrix reduced to `rank`; None keeps the full rank. Raises HeadwaterError for a rank below 1."""
        if rank is None:
            return self
        if rank < 1:
            raise HeadwaterError(f"--query-rank {rank}: give 1 or more, or leave it out for the full gradient.")
        return PreconditionedQueries({name: low_rank(every, rank) for name, every in self.dense().items()})

    def dense(self) -> Gradients:
        """layer name -> [Q, O, I]"""
        return {name: every.dense() if isinstance(every, LowRank) else every for name, every in self.items()}


def precondition(
    context: AttributionContext, questions: Sequence[Question], options: AskOptions
) -> PreconditionedQueries:
    """R_q of the questions, in their order; zero in layers that the options leave out."""
    if options.solver == "curvature":  # the same result as its solver, without storing plain gradients
        gradients = question_gradients(context.lm, context.curvature.layers, questions, curvature=context.curvature)
    else:
        given = {} if options.iterations is None else {"iterations": options.iterations}
        gradients = solve(context, questions, options.solver, subset=options.subset, given=given, seed=options.seed)
    counted = {layer.name for layer in context.layers(options.layers)}
    for name in gradients.keys() - counted:
        gradients[name] = torch.zeros_like(gradients[name])
    return PreconditionedQueries(gradients).of_rank(options.query_rank)


def solve(
    context: AttributionContext,
    questions: Sequence[Question],
    name: str,
    *,
    subset: int | None,
    given: Mapping[str, int],
    seed: int,
) -> Gradients:
    """(H + λI)⁻¹ ∇L(q) by the solver `name` with the options `given`.

    H is the Gauss–Newton matrix of `subset` examples, drawn by `seed`; None takes all. Raises HeadwaterError for an
    unknown solver, or an option that it does not have.
    """
    solver = solver_of(name)
    if unknown := given.keys() - solver.options.keys():
        raise HeadwaterError(f"The solver {name} has no option {', '.join(sorted(unknown))}.")
    total = len(context.corpus)
    positions: Sequence[int] = range(total)
    if subset is not None and subset < total:
        positions = np.sort(np.random.default_rng(seed).choice(total, subset, replace=False)).tolist()
    lm, layers = context.lm.float32_model, context.curvature.layers
    # A solver multiplies by H many times, so its sweeps stay in this process.
    sweep = Sweep(stage=name, lm=lm, layers=layers, sequences=context.corpus.sequences(positions))
    problem = LinearProblem(
        curvature=context.curvature,
        sweep=sweep,
        gradients=question_gradients(lm, layers, questions),
        report=context.execution.report,
        seed=seed,
    )
    return solver.solve(problem, **{**solver.options, **given})


def question_gradients(
    lm: LanguageModel,
    layers: Sequence[TrackedLayer],
    questions: Sequence[Question],
    *,
    curvature: Curvature | None = None,
) -> Gradients:
    """∇L(q) of every question, or (H + λI)⁻¹ ∇L(q) with a `curvature`: layer name -> [Q, O, I].

    The gradient of a contrast is subtracted from that of its question.
    """
    parts = [(q, part, sign) for q, question in enumerate(questions) for part, sign in question.parts]
    gradients = loss_gradients(lm, layers, [part.sequence for _, part, _ in parts], curvature=curvature)
    if len(parts) == len(questions):
        return gradients
    combined: Gradients = {}
    for name, every in gradients.items():
        combined[name] = every.new_zeros(len(questions), *every.shape[1:])
        for row, (q, _, sign) in enumerate(parts):
            combined[name][q] += sign * every[row]
    return combined


def loss_gradients(
    lm: LanguageModel,
    layers: Sequence[TrackedLayer],
    sequences: Sequence[TokenSequence],
    *,
    curvature: Curvature | None = None,
) -> Gradients:
    """∇L of every sequence, or (H + λI)⁻¹ ∇L with a `curvature`: layer name -> [Q, O, I], in the given order."""
    sweep = Sweep(stage="query", lm=lm, layers=layers, sequences=sequences)
    return fold(sweep, lambda: SequenceGradients(layers, curvature)).by_layer()


class SequenceGradients:
    """A reducer: the dense gradients of a few sequences, preconditioned if there is a `curvature`."""

    def __init__(self, layers: Sequence[TrackedLayer], curvature: Curvature | None = None) -> None:
        self.layers = tuple(layers)
        self.curvature = curvature
        self._rows: list[Tensor] = []
        self._parts: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        self._rows.append(torch.from_numpy(batch.rows))
        if self.curvature is None:
            batch_parts = {name: per_example(gradient) for name, gradient in gradients.items()}
        else:
            batch_parts = self.curvature.precondition_factored(gradients)
        for name, part in batch_parts.items():
            self._parts[name].append(part)

    def merge(self, other: Self) -> None:
        count = sum(len(rows) for rows in self._rows)
        self._rows += [rows + count for rows in other._rows]
        for name, parts in other._parts.items():
            self._parts[name] += parts

    def by_layer(self) -> Gradients:
        """layer name -> [Q, O, I] in the order of the sequences. It releases what this reducer stores."""
        order = torch.cat(self._rows).argsort()
        in_order = torch.equal(order, torch.arange(len(order)))
        found: Gradients = {}
        for layer in self.layers:
            whole = torch.cat(parts) if len(parts := self._parts.pop(layer.name)) > 1 else parts[0]
            found[layer.name] = match_layout(whole if in_order else whole[order.to(whole.device)])
        return found

    def state_dict(self) -> dict[str, Tensor]:
        return {"rows": torch.cat(self._rows)} | {name: torch.cat(parts) for name, parts in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._rows = [state["rows"]]
        self._parts = {layer.name: [state[layer.name]] for layer in self.layers}
