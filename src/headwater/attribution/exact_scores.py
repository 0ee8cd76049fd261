"""Exact scores of the whole corpus: scans, rankings and self-influence, cached in the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.aggregate import aggregated
from headwater.attribution.context import AttributionContext
from headwater.attribution.options import Aggregate, ScanOptions
from headwater.attribution.preconditioned import PreconditionedQueries, question_gradients
from headwater.attribution.question import Question
from headwater.attribution.scan import Scan, check_query_ids, scan_corpus
from headwater.attribution.score_cache import cached_scores
from headwater.attribution.scores import Scores, SelfInfluence
from headwater.sweep.checkpoint import SweepCheckpoint
from headwater.sweep.sweep import fold


@dataclass(frozen=True)
class ExactScoring:
    """The context of exact scores of the whole corpus, and the folder of their cache."""

    context: AttributionContext
    folder: Path
    """Folder of the cache."""
    curvature_binding: Mapping[str, str]
    """The curvature's fingerprints and settings."""

    @property
    def index_binding(self) -> dict[str, str]:
        """Fingerprints and settings of the curvature, and its damping: an index must have the same."""
        return {**self.curvature_binding, "damping": self.context.curvature.damping.describe()}

    @property
    def binding(self) -> dict[str, str]:
        """The facts that every score depends on."""
        return {**self.index_binding, "examples": self.context.corpus.fingerprint}

    def binding_of(self, questions: Sequence[Question]) -> dict[str, str]:
        """The facts that the scores of these questions depend on."""
        facts = [[q.id, *([part.prompt, part.completion, part.selected] for part, _ in q.parts)] for q in questions]
        return self.binding | {"queries": hashlib.sha256(json.dumps(facts).encode()).hexdigest()}


def scan(scoring: ExactScoring, questions: Sequence[Question], output: Path, *, options: ScanOptions) -> Path:
    """Write the scores on every question to the Parquet file `output` and return it (see `Run.scan`)."""
    ids = [question.id for question in questions]
    check_query_ids(ids)
    context = scoring.context
    binding = scoring.binding_of(questions) | {"tokens": str(options.tokens), "query_rank": str(options.query_rank)}
    gradients = question_gradients(context.lm, context.curvature.layers, questions, curvature=context.curvature)
    made = Scan(
        corpus=context.corpus,
        query_ids=ids,
        preconditioned=PreconditionedQueries(gradients).of_rank(options.query_rank),
        tokens=options.tokens,
        binding=json.dumps(binding, sort_keys=True),
    )
    scan_corpus(made, context.sweep("scan"), output, report=context.execution.report)
    return output


def self_influence(scoring: ExactScoring) -> NDArray[Any]:
    """[N] I(z, z) of every example."""
    make = partial(SelfInfluence, scoring.context.curvature)
    return _cached(scoring, "self_influence", scoring.binding, stage="self-influence", reducers=lambda: make)


def aggregate(
    scoring: ExactScoring, questions: Sequence[Question], how: Aggregate, *, query_rank: int | None = None
) -> NDArray[Any]:
    """[N] the mean or maximum over the questions of I(q, z) / √I(q, q)."""
    binding = scoring.binding_of(questions) | {"aggregate": how, "query_rank": str(query_rank)}
    digits = hashlib.sha256(json.dumps(binding, sort_keys=True).encode()).hexdigest()[:16]
    make = partial(aggregated, scoring.context, questions, how, rank=query_rank)
    return _cached(scoring, f"rank-{digits}", binding, stage="scores", reducers=make)


def relative(scores: NDArray[Any], self_influences: NDArray[Any]) -> NDArray[Any]:
    """Scores divided by √I(z, z); `self_influences` are those of the same examples."""
    return scores / np.maximum(np.sqrt(self_influences), 1e-30)


def _cached(
    scoring: ExactScoring,
    name: str,
    binding: Mapping[str, str],
    *,
    stage: str,
    reducers: Callable[[], Callable[[], Scores | SelfInfluence]],
) -> NDArray[Any]:
    """[N] one score per example, from the cache or from a sweep. `reducers` returns the sweep's reducer factory."""
    context = scoring.context

    def compute(checkpoint: SweepCheckpoint) -> Tensor:
        return fold(context.sweep(stage), reducers(), checkpoint, report=context.execution.report).values

    path = scoring.folder / f"{name}.parquet"
    return cached_scores(path, json.dumps(binding, sort_keys=True), context.corpus, compute=compute)
