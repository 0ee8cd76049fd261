"""Rankings: all training examples by one score, and the best of them written as a corpus."""

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
from headwater.corpus.options import NUMBERED, ReadOptions
from headwater.corpus.store import Example
from headwater.errors import HeadwaterError


@dataclass(frozen=True, repr=False)
class Ranking(Shown):
    """All examples of a corpus in the order of one score, best first; ties in corpus order."""

    corpus: Corpus
    read: ReadOptions
    """How the corpus was read. Files are written with the same field names."""
    scores: NDArray[Any]
    """[N]"""
    lowest: bool = False
    """Whether the lowest score comes first."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.scores).all():
            raise HeadwaterError(
                "A score is infinite or not a number. If the model overflows, fit the run with --dtype fp32. Otherwise "
                "raise --damping."
            )

    def __repr__(self) -> str:
        low, high = (float(end) for end in (self.scores.min(), self.scores.max()))
        first = "lowest" if self.lowest else "highest"
        return f"Ranking({counted(len(self.scores), 'example')}, {first} score first, from {low:.3g} to {high:.3g})"

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """[N] positions of the examples, best first."""
        return np.argsort(self.scores if self.lowest else -self.scores, kind="stable")

    def kept(self, keep: int | float | None = None) -> NDArray[np.int64]:
        """Positions of the best examples, best first. `keep` is a number (int), a share (float), or None for all."""
        return self.order if keep is None else self.order[: count_of(keep, len(self.order))]

    def top(self, count: int) -> list[tuple[float, Example]]:
        """The best `count` examples with their scores."""
        positions = self.order[:count].tolist()
        return [(float(self.scores[p]), e) for p, e in zip(positions, self.corpus.read(positions), strict=True)]

    def write(self, path: str | Path, keep: int | float | None = None) -> int:
        """Write the best examples to a JSONL file, whole or not at all. Returns their number.

        `keep` is a number (int), a share (float), or None for all. Lines are in corpus order, so texts are read in one
        pass and are not held in memory. Each line has `score`, `rank` (from 1) and the fields that the corpus was read
        from, with their names there: id, text, prompt if there is one, and metadata. So the same options read the file.
        Raises HeadwaterError if `keep` keeps nothing.
        """
        ranked = self.kept(keep)
        ranks = {position: rank for rank, position in enumerate(ranked.tolist(), start=1)}
        with replacing(Path(path)) as part, part.open("w", encoding="utf-8", newline="\n") as out:
            for position, example in self._in_corpus_order(ranked):
                record = record_of(example, self.read)
                record |= {"score": float(self.scores[position]), "rank": ranks[position]}
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
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
        raise HeadwaterError("The list of questions is empty. Give at least one question, or None for self-influence.")
    else:
        scores = exact_scores.aggregate(scoring, questions, options.aggregate, query_rank=options.query_rank)
        if options.rank_by == "relative":
            scores = exact_scores.relative(scores, exact_scores.self_influence(scoring))
    return Ranking(corpus, read, scores, options.lowest)


def count_of(keep: int | float, total: int) -> int:
    """How many of `total` examples are kept: `keep` if it is an int, or the rounded share `keep` if it is a float.

    Raises HeadwaterError for an int below 1, or a share that is not above 0 and at most 1.
    """
    if isinstance(keep, int):
        if keep < 1:
            raise HeadwaterError(f"--keep {keep} keeps nothing. Give a number (1000) or a share (0.5).")
        return min(keep, total)
    if not 0 < keep <= 1:
        raise HeadwaterError(f"--keep {keep} is not a share. Give a share above 0 and at most 1.0, or a number (1000).")
    return max(1, int(keep * total + 0.5))


def parse_keep(text: str) -> int | float:
    """A number such as `1000`, or, with a point, a share such as `0.5`. Raises HeadwaterError for other texts."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d*\.\d*", text) and text != ".":
        return float(text)
    raise HeadwaterError(f"--keep {text}: give a number of examples (1000) or a share of them (0.5).")


def record_of(example: Example, read: ReadOptions) -> dict[str, Any]:
    """The example as a record that `read` reads as the same example, with the field names of `read`.

    The messages of a conversation cannot be recovered from its tokens, so its record has the text that the model read.
    """
    text = {read.text_field: example.text}
    if read.prompt_field is not None and read.messages_field is None and example.targets is not None:
        learned = example.tokenized.ends[example.targets.index(True) - 1]
        text = {read.prompt_field: example.text[:learned], read.text_field: example.text[learned:]}
    id_field = "example_id" if read.id_field == NUMBERED else read.id_field or "id"
    own: Mapping[str, Any] = {id_field: example.id, **text}
    return {**own, **{name: value for name, value in example.metadata.items() if name not in own}}


def learned_tokens(corpus: Corpus) -> NDArray[np.int64]:
    """[N] number of tokens that carry loss in every example."""
    return np.array([int(e.sequence.targets.sum()) for e in corpus.read(range(len(corpus)))], dtype=np.int64)
