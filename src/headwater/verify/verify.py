"""Verification of an answer: predicted against measured effects of single examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headwater.attribution.answer import Answer
from headwater.attribution.context import AttributionContext
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import loss_gradients, precondition
from headwater.attribution.question import Question, describe
from headwater.base.progress import Step
from headwater.corpus.batches import TokenSequence
from headwater.curvature.solvers.vectors import dot, only, times
from headwater.gradients.factored import Gradients
from headwater.training.retrain import Retraining
from headwater.verify.agreement import correlation, slope, spearman
from headwater.verify.from_answer import (
    answered_question,
    examples_to_check,
    reference_positions,
    require_same_settings,
)
from headwater.verify.measured_question import measured_question
from headwater.verify.minimise import LBFGSMemory, minimise
from headwater.verify.options import VerifyOptions
from headwater.verify.response import reference_set
from headwater.verify.retrain import retrain_without
from headwater.verify.step import step_change
from headwater.verify.verification import Check, ExampleGroup, Verification

RESPONSE_TOLERANCE = 0.1
"""A response counts as found when `Minimum.remaining` is at most this. The objective is then within about 1 % of its
total decrease."""


@dataclass(frozen=True, kw_only=True)
class CheckedExample:
    """One example to check."""

    id: str
    group: ExampleGroup
    sequence: TokenSequence
    gradient: Gradients
    """∇L(z), layer -> [1, O, I], zero in layers that do not count."""
    influence: float
    """I(q, z)"""


def verify(
    context: AttributionContext,
    answer: Answer,
    options: VerifyOptions = VerifyOptions(),
    *,
    retraining: Callable[[Question], Retraining] | None = None,
) -> Verification:
    """Predicted and measured changes of log p(query), for the top examples of an answer and some random ones.

    The context's curvature must have the answer's damping. Predictions are computed again, in the way of the answer.
    `retraining` is needed by that kind alone; it makes the trainings of a question. Raises HeadwaterError if the answer
    comes from another model or run.
    """
    options.check()
    require_same_settings(context, answer)
    question = answered_question(context.lm, answer)
    as_asked = AskOptions(
        layers=None if answer.layers is None else tuple(answer.layers),
        solver=answer.curvature.partition(" + ")[2] or "curvature",
        iterations=answer.iterations,
        subset=answer.subset,
        seed=answer.seed,
    )
    retrained = None
    if options.kind == "retrain":
        assert retraining is not None, "the kind `retrain` needs `retraining`"
        retrained = retrain_without(context, answer, as_asked, retraining=retraining(question), options=options)
        checks = retrained.checks
    else:
        selected = examples_to_check(context.corpus, answer, options.k, random=options.random, seed=options.seed)
        moving = [layer.name for layer in context.layers(as_asked.layers)]
        subjects = _subjects(context, question, as_asked, selected=selected, moving=moving)
        measure = _steps if options.kind == "step" else _responses
        checks = list(measure(context, question, subjects, total=len(selected), options=options, moving=moving))
    return Verification(
        kind=options.kind,
        query=describe(context.lm, question),
        checks=checks,
        slope=slope(checks),
        correlation=correlation(checks),
        spearman=spearman(checks),
        weight=options.weight if options.kind == "pbrf" else 1.0,
        examples=len(context.corpus),
        subset=len(reference_positions(len(context.corpus), options.subset, options.seed))
        if options.kind == "pbrf"
        else None,
        seed=options.seed,
        curvature=answer.curvature,
        damping=context.curvature.damping.describe(),
        model=context.lm.name,
        contrast=None if question.contrast is None else describe(context.lm, question.contrast),
        layers=answer.layers,
        seeds=None if retrained is None else options.seeds,
        likelihood=None if retrained is None else retrained.likelihood,
    )


def _subjects(
    context: AttributionContext,
    question: Question,
    as_asked: AskOptions,
    *,
    selected: list[tuple[int, ExampleGroup]],
    moving: list[str],
) -> Iterator[CheckedExample]:
    """The selected examples one by one, so that only one gradient is in memory."""
    preconditioned = precondition(context, [question], as_asked).dense()
    for position, group in selected:
        example = context.corpus[position]
        gradient = only(loss_gradients(context.lm, context.curvature.layers, [example.sequence]), moving)
        yield CheckedExample(
            id=example.id,
            group=group,
            sequence=example.sequence,
            gradient=gradient,
            influence=dot(preconditioned, gradient),
        )


def _steps(
    context: AttributionContext,
    question: Question,
    subjects: Iterator[CheckedExample],
    *,
    total: int,
    options: VerifyOptions,
    moving: list[str],
) -> Iterator[Check]:
    query, examples = measured_question(context.lm, question), len(context.corpus)
    for done, subject in enumerate(subjects, start=1):
        measured = step_change(query, subject.gradient, context.curvature.precondition(subject.gradient))
        yield Check(
            id=subject.id, group=subject.group, predicted=subject.influence / examples, measured=measured / examples
        )
        context.execution.report(Step(stage="steps", done=done, total=total, tokens=0))


def _responses(
    context: AttributionContext,
    question: Question,
    subjects: Iterator[CheckedExample],
    *,
    total: int,
    options: VerifyOptions,
    moving: list[str],
) -> Iterator[Check]:
    query, examples = measured_question(context.lm, question), len(context.corpus)
    context.execution.report(Step(stage="responses", done=0, total=total, tokens=0))
    positions = reference_positions(examples, options.subset, options.seed)
    reference = reference_set(
        context.lm, context.curvature, context.corpus.sequences(positions)[:], total=examples, moving=moving
    )
    history = LBFGSMemory(lambda gradient: only(context.curvature.precondition(gradient), moving))
    for done, subject in enumerate(subjects, start=1):

        def progress(iteration: int, remaining: float, done: int = done) -> None:
            note = f"iteration {iteration}, gradient {remaining:.2g}"
            context.execution.report(Step(stage="responses", done=done - 1, total=total, tokens=0, note=note))

        found = minimise(
            reference.without(subject.sequence, options.weight),
            history,
            times(0.0, subject.gradient),
            iterations=options.iterations,
            tolerance=RESPONSE_TOLERANCE,
            progress=progress,
        )
        yield Check(
            id=subject.id,
            group=subject.group,
            predicted=-options.weight * subject.influence / examples,
            measured=query.change(found.point),
            converged=found.converged,
            iterations=found.iterations,
            remaining=found.remaining,
        )
        context.execution.report(Step(stage="responses", done=done, total=total, tokens=0))
