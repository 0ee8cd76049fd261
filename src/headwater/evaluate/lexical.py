"""Lexical baselines, which compare the words of examples and queries: BM25 and n-gram overlap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext

LONGEST = 3
"""Maximum n of the n-grams."""


def bm25(texts: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
    """[N, Q] Okapi BM25 (Robertson and Zaragoza 2009) of lower-case words, with k₁ = 1.5 and b = 0.75.

    Raises HeadwaterError if bm25s is not installed.
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
    """[N, Q] share of a query's distinct word n-grams (n ≤ 3) that also occur in the text."""
    wanted = [ngrams(query) for query in queries]
    return np.array([[len(own & query) / max(1, len(query)) for query in wanted] for own in map(ngrams, texts)])


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"\w+", text.lower())


def ngrams(text: str) -> set[tuple[str, ...]]:
    """The distinct n-grams of one to LONGEST words."""
    found = words(text)
    return {tuple(found[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(found) - n + 1)}


def score_bm25(context: EvaluationContext) -> NDArray[np.float64]:
    return bm25(context.texts, [query.prompt + query.completion for query in context.queries])


def score_overlap(context: EvaluationContext) -> NDArray[np.float64]:
    return overlap(context.texts, [query.prompt + query.completion for query in context.queries])
