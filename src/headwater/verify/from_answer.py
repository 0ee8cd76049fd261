"""The question and the examples of an answer, found again in the run; an answer of another model or run is refused."""

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
"""Allowed difference of a query's surprisal between two machines, in nats and as a share of the surprisal."""


def answered_question(lm: LanguageModel, answer: Answer) -> Question:
    """The answer's question with the same selected tokens and the same contrast.

    Raises HeadwaterError if this model tokenises the query differently or gives it another surprisal: the answer then
    comes from another model.
    """
    question = _question(lm, answer.query)
    if answer.contrast is None:
        return question
    return replace(question, contrast=_question(lm, answer.contrast, "contrast"))


def _question(lm: LanguageModel, query: Query, id: str = "query") -> Question:
    made = make_question(lm, query.prompt, query.completion, id=id, token_ids=query.token_ids)
    if made.pieces != [token.token for token in query.tokens]:
        raise HeadwaterError(
            f"The answer comes from another model: its {id} has other tokens than {lm.name} gives it. "
            "Ask this run again: headwater ask RUN PROMPT COMPLETION --json"
        )
    selected = tuple(token.selected for token in query.tokens)
    messages = None if query.messages is None else tuple(query.messages)
    question = replace(made, selected=selected, span=query.span, generated=query.generated, messages=messages)
    found = describe(lm, question).loss
    if abs(found - query.loss) > LOSS_TOLERANCE * (1 + abs(query.loss)):
        raise HeadwaterError(
            f"The answer comes from another model: its {id} has a surprisal of {query.loss:.4f} nats in the answer and "
            f"of {found:.4f} nats for {lm.name}. Ask this run again: headwater ask RUN PROMPT COMPLETION --json"
        )
    return question


def require_same_settings(context: AttributionContext, answer: Answer) -> None:
    """Raises HeadwaterError if the answer is not about this run's corpus, or was made with another curvature kind."""
    if answer.added:
        raise HeadwaterError(
            "The answer is about texts that are not in the corpus (--against). Only training examples can be verified."
        )
    kind = answer.curvature.split(" + ")[0]
    if kind != context.curvature.kind:
        raise HeadwaterError(
            f"The answer was made with the curvature {kind}; the run now has {context.curvature.kind}. Ask this run "
            "again: headwater ask RUN PROMPT COMPLETION --json"
        )


def examples_to_check(
    corpus: Corpus, answer: Answer, k: int, *, random: int, seed: int
) -> list[tuple[int, ExampleGroup]]:
    """Corpus positions of the answer's `k` top examples at each end, and of `random` others drawn by `seed`.

    Raises HeadwaterError if the run has no example of an id, or another text under it.
    """
    top: list[tuple[int, ExampleGroup]] = [
        (shown_position(corpus, example), group) for group, end in top_examples(answer, k).items() for example in end
    ]
    rest = positions_not_shown(corpus, answer)
    drawn = np.random.default_rng([seed, 1]).choice(rest, min(random, len(rest)), replace=False) if len(rest) else rest
    others: list[tuple[int, ExampleGroup]] = [(int(position), "random") for position in drawn]
    return top + others


def top_examples(answer: Answer, k: int) -> dict[ExampleGroup, list[ScoredExample]]:
    """The `k` strongest examples of the answer at each end."""
    return {"proponent": answer.proponents[:k], "opponent": answer.opponents[:k]}


def positions_not_shown(corpus: Corpus, answer: Answer) -> NDArray[np.int64]:
    """Positions of the examples that the answer does not show. Folded near-duplicates count as shown."""
    shown = {
        corpus.position.get(id)
        for example in answer.proponents + answer.opponents
        for id in (example.id, *example.duplicates)
    }
    return np.array([position for position in range(len(corpus)) if position not in shown], dtype=np.int64)


def shown_position(corpus: Corpus, example: ScoredExample) -> int:
    """Corpus position of an example that the answer shows.

    Raises HeadwaterError if the corpus has no such id, or another text under it.
    """
    position = position_by_id(corpus, example.id)
    if corpus[position].text != example.text:
        raise HeadwaterError(
            f"The answer comes from another run: example {example.id!r} has another text here. "
            "Ask this run again: headwater ask RUN PROMPT COMPLETION --json"
        )
    return position


def position_by_id(corpus: Corpus, id: str) -> int:
    """Corpus position of the example with that id. Raises HeadwaterError if there is none."""
    position = corpus.position.get(id)
    if position is None:
        raise HeadwaterError(
            f"The answer comes from another run: it shows example {id!r}, which this run does not have. "
            "Ask this run again: headwater ask RUN PROMPT COMPLETION --json"
        )
    return position


def reference_positions(total: int, subset: int | None, seed: int) -> Sequence[int]:
    """Positions of the reference set: `subset` examples drawn by `seed`, or all examples."""
    if subset is None or subset >= total:
        return range(total)
    return np.sort(np.random.default_rng([seed, 0]).choice(total, subset, replace=False)).tolist()
