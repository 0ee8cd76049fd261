"""Answering a question: by a scan of everything, by the index, or against texts that are not in the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.answer import Answer
from headwater.attribution.attribution import Distribution, ScoredExample
from headwater.attribution.distribution import distribution
from headwater.attribution.index.rescore import Budget, Rescored, rescore
from headwater.attribution.index.search import Candidates, LoadedSketches, SketchQuery, search
from headwater.attribution.options import AskOptions
from headwater.attribution.question import Question, describe, question_gradients
from headwater.attribution.scores import PreconditionedQueries, Scores, SelfInfluence, TokenScores, of_rank
from headwater.attribution.strongest import Detail, both_ends, scored, scored_example, shares
from headwater.base.progress import Report, Step, silent
from headwater.corpus.corpus import Corpus
from headwater.corpus.store import Example
from headwater.curvature.base import Curvature
from headwater.curvature.solvers.solver import LinearProblem, solver_of
from headwater.curvature.truncated import project, truncated
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients, LowRank
from headwater.lm.layers import TrackedLayer, named
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import LOCAL_ENGINE, Engine, Sweep, fold


@dataclass(frozen=True, kw_only=True)
class AttributionContext:
    """What every answer needs."""

    lm: LanguageModel
    corpus: Corpus
    curvature: Curvature
    report: Report = silent
    engine: Engine = LOCAL_ENGINE

    def chosen(self, options: AskOptions) -> tuple[TrackedLayer, ...]:
        """The layers that count. Raises HeadwaterError where a glob names none of those tracked."""
        return self.curvature.layers if options.layers is None else named(self.curvature.layers, options.layers)

    def weights(self, questions: Sequence[Question], options: AskOptions) -> PreconditionedQueries:
        """R_q of the questions, in their order; zero in the layers that do not count."""
        gradients = self._solved(questions, options)
        counting = {layer.name for layer in self.chosen(options)}
        for name in gradients.keys() - counting:
            gradients[name] = torch.zeros_like(gradients[name])
        return of_rank(gradients, options.query_rank)

    def _solved(self, questions: Sequence[Question], options: AskOptions) -> Gradients:
        """(H + λI)⁻¹ applied to the gradients of the questions, by the solver that is asked for."""
        layers = self.curvature.layers
        if options.solver == "curvature":  # as its solver does, but without the gradients in between
            return question_gradients(self.lm, layers, questions, curvature=self.curvature)
        given = {} if options.iterations is None else {"iterations": options.iterations}
        return self.solved(questions, options.solver, options.subset, given=given)

    def solved(
        self, questions: Sequence[Question], name: str, subset: int | None, *, given: Mapping[str, int], seed: int = 0
    ) -> Gradients:
        """(H + λI)⁻¹ ∇L(q) by the solver of that name with the options `given`, H over a `subset` of the examples.

        Raises HeadwaterError where there is no such solver, or it has no such option.
        """
        solver = solver_of(name)
        if unknown := given.keys() - solver.options.keys():
            raise HeadwaterError(f"The solver {name} has no {', '.join(sorted(unknown))} that could be set.")
        total = len(self.corpus)
        chosen: Sequence[int] = range(total)
        if subset is not None and subset < total:
            chosen = np.sort(np.random.default_rng(0).choice(total, subset, replace=False)).tolist()
        lm, layers = self.lm.float32_model, self.curvature.layers
        sweep = Sweep(stage=name, lm=lm, layers=layers, sequences=self.corpus.sequences(chosen))
        problem = LinearProblem(
            curvature=self.curvature,
            sweep=sweep,
            gradients=question_gradients(lm, layers, questions),
            report=self.report,
            seed=seed,
        )
        return solver.solve(problem, **{**solver.options, **given})

    def sketch_query(self, weights: PreconditionedQueries, directions: int = 0) -> SketchQuery:
        """What sketches of so many directions are compared with for the one question that `weights` are of."""
        whole = {name: weight.dense() if isinstance(weight, LowRank) else weight for name, weight in weights.items()}
        if not directions:
            return SketchQuery(self.curvature.whitened_from(whole)[0].float().cpu().numpy())
        vectors = project(self.curvature, truncated(self.curvature, directions), whole)
        return SketchQuery(vectors[0].float().cpu().numpy(), partial=True)

    def detail(self, weights: PreconditionedQueries) -> Detail:
        return Detail(self.lm, self.curvature.layers, self.corpus, weights)


def ask_everything(
    scene: AttributionContext,
    questions: Sequence[Question],
    options: AskOptions,
    *,
    norms: NDArray[Any] | None,
    among: NDArray[np.bool_] | None = None,
) -> list[Answer]:
    """Answers from the exact scores of every example, or of those `among` [N], in one pass for all questions.

    `norms` [N] are √I(z, z), where the ranking is relative.
    """
    weights = scene.weights(questions, options)
    positions = np.arange(len(scene.corpus)) if among is None else np.flatnonzero(among)
    scores = np.zeros((len(scene.corpus), len(questions)))
    if len(positions):
        sequences = scene.corpus.sequences(positions.tolist())
        sweep = Sweep(
            stage="scores", lm=scene.lm, layers=scene.curvature.layers, sequences=sequences, engine=scene.engine
        )
        scores[positions] = fold(sweep, lambda: Scores(weights), report=scene.report).values.numpy()
    answers: list[Answer] = []
    for q, question in enumerate(questions):
        strengths = scores[:, q] if norms is None else scores[:, q] / np.maximum(norms, 1e-30)
        ends = both_ends(strengths, options.k, scene.corpus if options.fold else None)
        context = scene.detail({name: every[q : q + 1] for name, every in weights.items()})
        parts = shares(context, ends.positions)
        by_position = None if norms is None else dict(enumerate(norms.tolist()))
        raised, lowered = (scored(context, end, parts, norms=by_position) for end in (ends.proponents, ends.opponents))
        made = _answer(scene, question, options, raised=raised, lowered=lowered, scored=len(positions))
        answers.append(replace(made, distribution=distribution(strengths[positions])))
    return answers


def ask_index(
    scene: AttributionContext,
    question: Question,
    options: AskOptions,
    *,
    loaded: LoadedSketches,
    among: NDArray[np.bool_] | None = None,
) -> Answer:
    """An answer from the index: the sketches find candidates, and the likeliest of them are scored exactly."""
    weights = scene.weights([question], options)
    scene.report(Step(stage="searching", done=0, total=len(loaded), tokens=0))
    candidates = search(loaded, scene.sketch_query(weights, loaded.directions), options.rank_by, among=among)
    scene.report(Step(stage="searching", done=candidates.searched, total=candidates.searched, tokens=0))
    norms = None
    if options.rank_by == "relative":
        roots = np.sqrt(loaded.self_influence[candidates.positions].astype(np.float64))
        norms = dict(zip(candidates.positions.tolist(), roots.tolist(), strict=True))
    context = scene.detail(weights)
    budget = max(options.candidates, 2 * options.k)
    done = 0

    def score(positions: Sequence[int]) -> dict[int, Tensor]:
        nonlocal done
        done += len(positions)
        scene.report(Step(stage="scoring", done=done, total=min(budget, len(candidates.positions)), tokens=0))
        return shares(context, positions)

    fold_in = scene.corpus if options.fold else None
    found = rescore(score, candidates, Budget(options.k, budget), norms=norms, corpus=fold_in)
    ends = (found.ends.proponents, found.ends.opponents)
    raised, lowered = (scored(context, end, found.parts, norms=norms) for end in ends)
    made = _answer(
        scene,
        question,
        options,
        raised=raised,
        lowered=lowered,
        scored=len(found.parts),
        searched=candidates.searched,
        missed=found.expected_missed,
    )
    return replace(made, distribution=_spread(candidates, found))


def _spread(candidates: Candidates, found: Rescored) -> Distribution | None:
    """The histogram of everything searched."""
    known = ~np.isnan(found.exact)
    return distribution(found.exact[known], np.concatenate([candidates.estimates[~known], candidates.others]))


def ask_against(
    scene: AttributionContext, question: Question, examples: Sequence[Example], *, name: str, options: AskOptions
) -> Answer:
    """What texts that are not in the corpus would do to the question if they were added to it."""
    weights = scene.weights([question], options)
    sequences = [example.sequence for example in examples]
    sweep = Sweep(stage="scores", lm=scene.lm, layers=scene.curvature.layers, sequences=sequences, engine=scene.engine)
    parts = fold(sweep, lambda: TokenScores(weights, by_layer=True), report=scene.report).values
    norms: list[float | None] = [None] * len(examples)
    if options.rank_by == "relative":
        norms = fold(sweep, lambda: SelfInfluence(scene.curvature)).values.sqrt().tolist()
    layers = [layer.name for layer in scene.curvature.layers]
    made = [
        scored_example(example, layers, part[..., 0], total=len(scene.corpus), norm=norm)
        for example, part, norm in zip(examples, parts, norms, strict=True)
    ]

    def strength(example: ScoredExample) -> float:
        return example.influence if example.relative is None else example.relative

    raised = sorted((e for e in made if strength(e) > 0), key=strength, reverse=True)[: options.k]
    lowered = sorted((e for e in made if strength(e) < 0), key=strength)[: options.k]
    return _answer(scene, question, options, raised=raised, lowered=lowered, scored=len(examples), against=name)


def _answer(
    scene: AttributionContext,
    question: Question,
    options: AskOptions,
    *,
    raised: list[ScoredExample],
    lowered: list[ScoredExample],
    scored: int,
    searched: int | None = None,
    missed: float = 0.0,
    against: str | None = None,
) -> Answer:
    return Answer(
        query=describe(scene.lm, question),
        proponents=raised,
        opponents=lowered,
        rank_by=options.rank_by,
        examples=len(scene.corpus),
        examples_scored=scored,
        curvature=scene.curvature.kind + ("" if options.solver == "curvature" else f" + {options.solver}"),
        damping=scene.curvature.damping.describe(),
        model=scene.lm.name,
        examples_searched=searched,
        expected_missed=missed,
        selection=options.selection if against is None else against,
        added=against is not None,
        contrast=None if question.contrast is None else describe(scene.lm, question.contrast),
        layers=None if options.layers is None else [layer.name for layer in scene.chosen(options)],
    )
