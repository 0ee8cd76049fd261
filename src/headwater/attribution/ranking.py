"""Curating a corpus: every example in the order of a score, and the share of them that is worth keeping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution import exact_scores
from headwater.attribution.exact_scores import ExactScoring
from headwater.attribution.options import RankOptions
from headwater.attribution.question import Question
from headwater.base.files import replacing
from headwater.base.shown import Shown, counted
from headwater.corpus.corpus import Corpus
from headwater.corpus.options import ReadOptions
from headwater.corpus.store import Example
from headwater.errors import HeadwaterError


@dataclass(frozen=True, repr=False)
class Ranking(Shown):
    """All examples of a corpus by one score each, the best first; ties in corpus order."""

    corpus: Corpus
    read: ReadOptions
    """How the corpus was read: what is written is named so that it can be read in the same way."""
    scores: NDArray[Any]
    """[N]"""
    lowest: bool = False
    """Whether the lowest score comes first."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.scores).all():
            raise HeadwaterError(
                "A score is infinite or not a number: either the model overflows (load it in float32) or the damping "
                "is too small (raise --damping)."
            )

    def __repr__(self) -> str:
        low, high = (float(end) for end in (self.scores.min(), self.scores.max()))
        first = "lowest" if self.lowest else "highest"
        return f"Ranking({counted(len(self.scores), 'example')}, {first} score first, from {low:.3g} to {high:.3g})"

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """[N] positions of the examples, in the order of their rank."""
        return np.argsort(self.scores if self.lowest else -self.scores, kind="stable")

    def kept(self, keep: int | float | None = None) -> NDArray[np.int64]:
        """Positions of the first of them, in the order of their rank: so many, or such a share; None is all."""
        return self.order if keep is None else self.order[: count_of(keep, len(self.order))]

    def top(self, count: int) -> list[tuple[float, Example]]:
        """The first examples and their scores."""
        positions = self.order[:count].tolist()
        return [(float(self.scores[p]), e) for p, e in zip(positions, self.corpus.read(positions), strict=True)]

    def write(self, path: str | Path, keep: int | float | None = None) -> int:
        """Write the first of them to a JSONL file, whole or not at all; returns how many.

        `keep` is how many (an int) or which share (a float); None is all. They are written in corpus order, so that
        texts are read in one pass and none is held in memory; `rank`, from 1, says the order of their scores. A line
        has the fields that the corpus was read from: id and text (and prompt), by their names there, and the metadata;
        so that the same options read it. Raises HeadwaterError where `keep` keeps nothing.
        """
        ranked = self.kept(keep)
        ranks = {position: rank for rank, position in enumerate(ranked.tolist(), start=1)}
        with replacing(Path(path)) as part, part.open("w", encoding="utf-8", newline="\n") as out:
            for position, example in self._in_corpus_order(ranked):
                placed = {"score": float(self.scores[position]), "rank": ranks[position]}
                out.write(json.dumps(record_of(example, self.read) | placed, ensure_ascii=False) + "\n")
        return len(ranked)

    def _in_corpus_order(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, Example]]:
        ordered = np.sort(positions).tolist()
        return zip(ordered, self.corpus.read(ordered), strict=True)


def rank(
    scoring: ExactScoring, questions: Sequence[Question] | None, read: ReadOptions, *, options: RankOptions
) -> Ranking:
    """Every training example in the order of its effect on the questions (see `Run.rank`)."""
    corpus = scoring.context.corpus
    if questions is None:
        scores = exact_scores.self_influence(scoring) / learned_tokens(corpus)
    elif not questions:
        raise HeadwaterError("There is no question to rank the examples by.")
    else:
        scores = exact_scores.aggregate(scoring, questions, options.aggregate, query_rank=options.query_rank)
        if options.rank_by == "relative":
            scores = exact_scores.relative(scores, exact_scores.self_influence(scoring))
    return Ranking(corpus, read, scores, options.lowest)


def count_of(keep: int | float, total: int) -> int:
    """How many of `total` are kept: so many where `keep` is an int, such a share, rounded, where it is a float.

    Raises HeadwaterError where that is none, or the share is above 1.
    """
    if isinstance(keep, int):
        if keep < 1:
            raise HeadwaterError(f"--keep {keep} keeps nothing. Give how many (1000), or a share (0.5).")
        return min(keep, total)
    if not 0 < keep <= 1:
        raise HeadwaterError(f"--keep {keep} is no share: give one above 0 and at most 1.0, or how many (1000).")
    return max(1, int(keep * total + 0.5))


def parse_keep(text: str) -> int | float:
    """How many, as `1000`, or a share, as `0.5`: what has a point is a share. Raises HeadwaterError for neither."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d*\.\d*", text) and text != ".":
        return float(text)
    raise HeadwaterError(f"--keep {text}: give how many examples (1000), or which share of them (0.5).")


def record_of(example: Example, read: ReadOptions) -> dict[str, Any]:
    """An example as a record that `read` reads as that example: its id, text and prompt by their fields' names.

    Of a conversation, whose messages cannot be had back from what the model read, it holds that text.
    """
    text = {read.text_field: example.text}
    if read.prompt_field is not None and example.targets is not None:
        learned = example.tokenized.ends[example.targets.index(True) - 1]
        text = {read.prompt_field: example.text[:learned], read.text_field: example.text[learned:]}
    own: Mapping[str, Any] = {read.id_field or "id": example.id, **text}
    return {**own, **{name: value for name, value in example.metadata.items() if name not in own}}


def learned_tokens(corpus: Corpus) -> NDArray[np.int64]:
    """[N] how many tokens of every example carry loss."""
    return np.array([int(e.sequence.targets.sum()) for e in corpus.read(range(len(corpus)))], dtype=np.int64)
