"""From an answer back to its question and its examples, refusing those of another model or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.answer import Answer, Query, ScoredExample
from headwater.attribution.context import AttributionContext
from headwater.attribution.question import Question, describe, make_question
from headwater.corpus.corpus import Corpus
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel
from headwater.verify.verification import ExampleGroup

LOSS_TOLERANCE = 0.01
"""Nats, and part of the surprisal, that two machines may differ by for the same model and query."""


def question_of(lm: LanguageModel, answer: Answer) -> Question:
    """The answer's question, the very tokens that it selected, its contrast included.

    Raises HeadwaterError where this model reads the query as other tokens, or finds it otherwise surprising: then the
    answer is another model's.
    """
    question = _asked(lm, answer.query)
    return question if answer.contrast is None else replace(question, contrast=_asked(lm, answer.contrast, "contrast"))


def _asked(lm: LanguageModel, query: Query, id: str = "query") -> Question:
    made = make_question(lm, query.prompt, query.completion, id=id)
    if made.pieces != [token.token for token in query.tokens]:
        raise HeadwaterError(
            f"The answer cut its {id} into other tokens than {lm.name} does: it is another model's. Ask this run again."
        )
    selected = tuple(token.selected for token in query.tokens)
    question = replace(made, selected=selected, span=query.span, generated=query.generated)
    found = describe(lm, question).loss
    if abs(found - query.loss) > LOSS_TOLERANCE * (1 + abs(query.loss)):
        raise HeadwaterError(
            f"The answer's {id} has a surprisal of {query.loss:.4f} nats in the answer and of {found:.4f} for "
            f"{lm.name}: the answer is another model's. Ask this run again."
        )
    return question


def require_same_settings(context: AttributionContext, answer: Answer) -> None:
    """Raises HeadwaterError where the answer's predictions are not those of this run's curvature and corpus."""
    if answer.added:
        raise HeadwaterError(
            "The answer is about texts that are not in the corpus. Only training examples can be verified."
        )
    kind = answer.curvature.split(" + ")[0]
    if kind != context.curvature.kind:
        raise HeadwaterError(
            f"The answer was made with curvature {kind}, and the run now has {context.curvature.kind}. Ask it again."
        )


def chosen_examples(
    corpus: Corpus, answer: Answer, k: int, *, random: int, seed: int
) -> list[tuple[int, ExampleGroup]]:
    """Corpus positions of the `k` strongest of the answer at each end, and of `random` others, from a seed.

    Raises HeadwaterError where the run has no example of that id, or another text under it.
    """
    chosen: list[tuple[int, ExampleGroup]] = [
        (position_of(corpus, example), group) for group, end in strongest(answer, k).items() for example in end
    ]
    rest = not_shown(corpus, answer)
    drawn = np.random.default_rng([seed, 1]).choice(rest, min(random, len(rest)), replace=False) if len(rest) else rest
    others: list[tuple[int, ExampleGroup]] = [(int(position), "random") for position in drawn]
    return chosen + others


def strongest(answer: Answer, k: int) -> dict[ExampleGroup, list[ScoredExample]]:
    """The `k` strongest of the answer at each end."""
    return {"proponent": answer.proponents[:k], "opponent": answer.opponents[:k]}


def not_shown(corpus: Corpus, answer: Answer) -> NDArray[np.int64]:
    """Positions of the examples that the answer does not show, near-duplicates counted as shown."""
    shown = {
        corpus.position.get(id)
        for example in answer.proponents + answer.opponents
        for id in (example.id, *example.duplicates)
    }
    return np.array([position for position in range(len(corpus)) if position not in shown], dtype=np.int64)


def position_of(corpus: Corpus, example: ScoredExample) -> int:
    """Where an example that the answer shows is. Raises HeadwaterError where it, or its text, is not there."""
    position = place_of(corpus, example.id)
    if corpus[position].text != example.text:
        raise HeadwaterError(
            f"Example {example.id!r} has another text in this run than in the answer, which is another run's."
        )
    return position


def place_of(corpus: Corpus, id: str) -> int:
    """Where the example of that id is. Raises HeadwaterError where there is none."""
    position = corpus.position.get(id)
    if position is None:
        raise HeadwaterError(f"This run has no example {id!r}, which the answer shows: the answer is another run's.")
    return position


def reference_positions(total: int, subset: int | None, seed: int) -> Sequence[int]:
    """Positions of the examples that stand for the corpus: a seeded choice of `subset`, or all of them."""
    if subset is None or subset >= total:
        return range(total)
    return np.sort(np.random.default_rng([seed, 0]).choice(total, subset, replace=False)).tolist()
