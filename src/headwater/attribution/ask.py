"""Answering questions: with a pass over the whole corpus, with the index, or about texts outside the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution import exact_scores
from headwater.attribution.answer import Answer, Distribution, ScoredExample
from headwater.attribution.context import AttributionContext
from headwater.attribution.distribution import distribution
from headwater.attribution.exact_scores import ExactScoring
from headwater.attribution.heads import head_shares
from headwater.attribution.index.index import Index
from headwater.attribution.index.rescore import Budget, Rescored, rescore
from headwater.attribution.index.search import Candidates, LoadedSketches, make_sketch_query, search
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import precondition
from headwater.attribution.question import Question, describe
from headwater.attribution.reliability import linear_reach
from headwater.attribution.scores import Scores, SelfInfluence, TokenScores
from headwater.attribution.strongest import both_ends, scored, scored_example, shares
from headwater.attribution.taught import kept_where_it_states
from headwater.base.progress import Step
from headwater.corpus.store import Example
from headwater.errors import HeadwaterError
from headwater.sweep.sweep import fold


def ask(scoring: ExactScoring, index: Index, questions: Sequence[Question], *, options: AskOptions) -> list[Answer]:
    """Answers in the order of the questions: one by one from the index, or all in one pass over the corpus.

    Raises HeadwaterError if the index is unfinished, belongs to another curvature, or cannot read a condition, and if
    no example meets the condition.
    """
    context = scoring.context
    among = index.matching(context.corpus, options.where, options.contains) if options.selection else None
    if among is not None and not among.any():
        raise HeadwaterError(
            f"Examples {options.selection}: none of the {len(context.corpus):,} training examples. Ask with another "
            "--where or --contains, or without them."
        )
    if index.exists and not options.exact:
        loaded = index.loaded(context.corpus, scoring.index_binding)
        return [ask_index(context, question, options, loaded=loaded, among=among) for question in questions]
    norms = None
    if options.rank_by == "relative":
        norms = np.sqrt(exact_scores.self_influence(scoring))
    return ask_everything(context, questions, options, norms=norms, among=among)


def ask_everything(
    context: AttributionContext,
    questions: Sequence[Question],
    options: AskOptions,
    *,
    norms: NDArray[Any] | None,
    among: NDArray[np.bool_] | None = None,
) -> list[Answer]:
    """Answers from the exact scores of every example, in one pass for all questions.

    `among` [N] selects the examples that are scored; None scores all. `norms` [N] are √I(z, z), for a relative ranking.
    """
    preconditioned = precondition(context, questions, options)
    positions = np.arange(len(context.corpus)) if among is None else np.flatnonzero(among)
    scores = np.zeros((len(context.corpus), len(questions)))
    if len(positions):
        sweep = context.sweep("scores", context.corpus.sequences(positions.tolist()))
        scores[positions] = fold(sweep, lambda: Scores(preconditioned), report=context.execution.report).values.numpy()
    answers: list[Answer] = []
    for row, question in enumerate(questions):
        strengths = scores[:, row] if norms is None else scores[:, row] / np.maximum(norms, 1e-30)
        ends = both_ends(strengths, options.k, context.corpus if options.fold else None)
        parts = shares(context, preconditioned.query(row), ends.positions)
        by_position = None if norms is None else dict(enumerate(norms.tolist()))
        by_head = preconditioned.query(row) if options.heads else None
        found = _Found(
            proponents=scored(context, ends.proponents, parts, norms=by_position, by_head=by_head),
            opponents=scored(context, ends.opponents, parts, norms=by_position, by_head=by_head),
            scored=len(positions),
            distribution=distribution(strengths[positions]),
        )
        answers.append(_answer(context, question, options, found=found))
    return answers


def ask_index(
    context: AttributionContext,
    question: Question,
    options: AskOptions,
    *,
    loaded: LoadedSketches,
    among: NDArray[np.bool_] | None = None,
) -> Answer:
    """An answer from the index: the sketches find candidates, and the most likely of them are scored exactly."""
    report = context.execution.report
    preconditioned = precondition(context, [question], options)
    report(Step(stage="searching", done=0, total=len(loaded), tokens=0))
    sketched = make_sketch_query(context.curvature, preconditioned.dense(), loaded.directions)
    candidates = search(loaded, sketched, options.rank_by, among=among)
    report(Step(stage="searching", done=candidates.searched, total=candidates.searched, tokens=0))
    norms = _norms(candidates, loaded) if options.rank_by == "relative" else None
    rescored = rescore(
        partial(shares, context, preconditioned),
        candidates,
        Budget(options.k, max(options.candidates, 2 * options.k)),
        norms=norms,
        corpus=context.corpus if options.fold else None,
        report=report,
    )
    by_head = preconditioned if options.heads else None
    found = _Found(
        proponents=scored(context, rescored.ends.proponents, rescored.parts, norms=norms, by_head=by_head),
        opponents=scored(context, rescored.ends.opponents, rescored.parts, norms=norms, by_head=by_head),
        scored=len(rescored.parts),
        searched=candidates.searched,
        missed=rescored.expected_missed,
        distribution=_distribution(candidates, rescored),
    )
    return _answer(context, question, options, found=found)


def ask_against(
    context: AttributionContext, question: Question, examples: Sequence[Example], *, name: str, options: AskOptions
) -> Answer:
    """The predicted effect on the question of adding `examples`, which are not in the corpus, to the training data.

    Raises HeadwaterError for options that select examples of the corpus.
    """
    if options.selection:
        raise HeadwaterError(
            "--where and --contains select examples of the corpus; --against takes other texts. Leave them out."
        )
    preconditioned = precondition(context, [question], options)
    report = context.execution.report
    sweep = context.sweep("scores", [example.sequence for example in examples])
    parts = fold(sweep, lambda: TokenScores(preconditioned, by_layer=True), report=report).values
    norms: list[float | None] = [None] * len(examples)
    if options.rank_by == "relative":
        norms = fold(sweep, lambda: SelfInfluence(context.curvature)).values.sqrt().tolist()
    layers = [layer.name for layer in context.curvature.layers]
    heads: list[dict[str, list[float]]] = [{} for _ in examples]
    if options.heads:
        heads = head_shares(context, preconditioned, [example.sequence for example in examples])
    examples_scored = [
        scored_example(example, layers, part[..., 0], total=len(context.corpus), norm=norm, heads=by_layer)
        for example, part, norm, by_layer in zip(examples, parts, norms, heads, strict=True)
    ]

    def strength(example: ScoredExample) -> float:
        return example.influence if example.relative is None else example.relative

    found = _Found(
        proponents=sorted((e for e in examples_scored if strength(e) > 0), key=strength, reverse=True)[: options.k],
        opponents=sorted((e for e in examples_scored if strength(e) < 0), key=strength)[: options.k],
        scored=len(examples),
        against=name,
    )
    return _answer(context, question, options, found=found)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The examples of one answer, and how they were found."""

    proponents: list[ScoredExample]
    opponents: list[ScoredExample]
    scored: int
    searched: int | None = None
    missed: float = 0.0
    against: str | None = None
    distribution: Distribution | None = None


def _answer(context: AttributionContext, question: Question, options: AskOptions, *, found: _Found) -> Answer:
    query = describe(context.lm, question)
    contrast = None if question.contrast is None else describe(context.lm, question.contrast)
    return Answer(
        query=query,
        proponents=[replace(example, taught=[]) for example in found.proponents],
        opponents=[kept_where_it_states(example, query) for example in found.opponents],
        rank_by=options.rank_by,
        examples=len(context.corpus),
        examples_scored=found.scored,
        curvature=context.curvature.kind + ("" if options.solver == "curvature" else f" + {options.solver}"),
        damping=context.curvature.damping.describe(),
        model=context.lm.name,
        examples_searched=found.searched,
        expected_missed=found.missed,
        selection=options.selection if found.against is None else found.against,
        added=found.against is not None,
        contrast=contrast,
        layers=None if options.layers is None else [layer.name for layer in context.layers(options.layers)],
        distribution=found.distribution,
        iterations=options.iterations,
        subset=options.subset,
        seed=options.seed,
        reach=linear_reach([query] if contrast is None else [query, contrast]),
    )


def _norms(candidates: Candidates, loaded: LoadedSketches) -> dict[int, float]:
    """position -> √I(z, z) of every candidate."""
    roots = np.sqrt(loaded.self_influence[candidates.positions].astype(np.float64))
    return dict(zip(candidates.positions.tolist(), roots.tolist(), strict=True))


def _distribution(candidates: Candidates, rescored: Rescored) -> Distribution | None:
    """The histogram over all examples that were searched: exact scores, and estimates of the others."""
    exact = ~np.isnan(rescored.exact)
    return distribution(rescored.exact[exact], np.concatenate([candidates.estimates[~exact], candidates.others]))
