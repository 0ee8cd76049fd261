"""What needs no model: how many words an example shares with a query."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext

LONGEST = 3
"""Words in a row that count as shared."""


def bm25(texts: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
    """[N, Q] Okapi BM25 (Robertson and Zaragoza 2009), k₁ = 1.5, b = 0.75, of lower-case words.

    Raises HeadwaterError where bm25s is not installed.
    """
    try:
        import bm25s  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise HeadwaterError(
            'BM25 needs the package bm25s. Install it with: pip install "headwater[evaluate]"'
        ) from error
    retriever: Any = bm25s.BM25(method="lucene")
    retriever.index([words(text) for text in texts], show_progress=False)
    scores = np.zeros((len(texts), len(queries)))
    for q, query in enumerate(queries):
        known = [word for word in words(query) if word in retriever.vocab_dict]
        if known:
            scores[:, q] = retriever.get_scores(known)
    return scores


def overlap(texts: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
    """[N, Q] the share of a query's distinct words, pairs and triples of words that the text has too."""
    asked = [runs(query) for query in queries]
    return np.array([[len(there & few) / max(1, len(few)) for few in asked] for there in map(runs, texts)])


def words(text: str) -> list[str]:
    """The words of a text in small letters."""
    return re.findall(r"\w+", text.lower())


def runs(text: str) -> set[tuple[str, ...]]:
    """The distinct runs of one to LONGEST words."""
    found = words(text)
    return {tuple(found[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(found) - n + 1)}


def score_bm25(context: EvaluationContext) -> NDArray[np.float64]:
    return bm25(context.texts, [query.prompt + query.completion for query in context.queries])


def score_overlap(context: EvaluationContext) -> NDArray[np.float64]:
    return overlap(context.texts, [query.prompt + query.completion for query in context.queries])
