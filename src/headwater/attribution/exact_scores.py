"""Exact scores of the whole corpus: scans, rankings and self-influence, kept for as long as they are of use."""

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

from headwater.attribution.aggregate import Aggregate, aggregated
from headwater.attribution.ask import AttributionContext
from headwater.attribution.question import Question, question_gradients
from headwater.attribution.scan import Scan, check_query_ids, scan_corpus
from headwater.attribution.score_cache import cached_scores
from headwater.attribution.scores import Scores, SelfInfluence, of_rank
from headwater.sweep.sweep import Sweep, SweepCheckpoint, fold


@dataclass(frozen=True)
class ExactScoring:
    """What scores of the whole corpus are made with."""

    scene: AttributionContext
    folder: Path
    """Where they are kept."""
    fitted: Mapping[str, str]
    """The curvature's fingerprints and settings."""

    @property
    def binding(self) -> dict[str, str]:
        """What they depend on, whatever they are of."""
        damping = self.scene.curvature.damping.describe()
        return {**self.fitted, "damping": damping, "examples": self.scene.corpus.fingerprint}

    def asking(self, questions: Sequence[Question]) -> dict[str, str]:
        """What scores of these questions depend on."""
        asked = [[q.id, *([part.prompt, part.completion, part.selected] for part, _ in q.parts)] for q in questions]
        return self.binding | {"queries": hashlib.sha256(json.dumps(asked).encode()).hexdigest()}

    def sweep(self, stage: str) -> Sweep:
        scene = self.scene
        return Sweep(
            stage=stage,
            lm=scene.lm,
            layers=scene.curvature.layers,
            sequences=scene.corpus.sequences(),
            engine=scene.engine,
        )


def scan(
    whole: ExactScoring,
    questions: Sequence[Question],
    output: Path,
    *,
    tokens: bool = False,
    query_rank: int | None = None,
) -> None:
    """Write the scores on every question to a Parquet file (see `Run.scan`)."""
    ids = [question.id for question in questions]
    check_query_ids(ids)
    lm, curvature = whole.scene.lm, whole.scene.curvature
    binding = whole.asking(questions) | {"tokens": str(tokens), "query_rank": str(query_rank)}
    queries = of_rank(question_gradients(lm, curvature.layers, questions, curvature=curvature), query_rank)
    made = Scan(
        corpus=whole.scene.corpus,
        query_ids=ids,
        preconditioned=queries,
        tokens=tokens,
        binding=json.dumps(binding, sort_keys=True),
    )
    scan_corpus(made, whole.sweep("scan"), output, report=whole.scene.report)


def self_influence(whole: ExactScoring) -> NDArray[Any]:
    """[N] I(z, z) of every example."""
    return _kept(
        whole,
        "self_influence",
        whole.binding,
        stage="self-influence",
        reducers=lambda: partial(SelfInfluence, whole.scene.curvature),
    )


def aggregate(
    whole: ExactScoring, questions: Sequence[Question], how: Aggregate, *, query_rank: int | None = None
) -> NDArray[Any]:
    """[N] the mean or maximum over the questions of I(q, z) / √I(q, q)."""
    binding = whole.asking(questions) | {"aggregate": how, "query_rank": str(query_rank)}
    digits = hashlib.sha256(json.dumps(binding, sort_keys=True).encode()).hexdigest()[:16]
    scene = whole.scene
    make = partial(aggregated, scene.lm, scene.curvature, questions, aggregate=how, rank=query_rank)
    return _kept(whole, f"rank-{digits}", binding, stage="scores", reducers=make)


def relative(scores: NDArray[Any], loudness: NDArray[Any]) -> NDArray[Any]:
    """Scores over √I(z, z), given the self-influences of the same examples."""
    return scores / np.maximum(np.sqrt(loudness), 1e-30)


def _kept(
    whole: ExactScoring,
    name: str,
    binding: Mapping[str, str],
    *,
    stage: str,
    reducers: Callable[[], Callable[[], Scores | SelfInfluence]],
) -> NDArray[Any]:
    """[N] one score an example, by the reducers that `reducers` makes ready where it is not kept."""

    def compute(checkpoint: SweepCheckpoint) -> Tensor:
        return fold(whole.sweep(stage), reducers(), checkpoint, report=whole.scene.report).values

    path = whole.folder / f"{name}.parquet"
    return cached_scores(path, json.dumps(binding, sort_keys=True), whole.scene.corpus, compute=compute)
