"""Leaks: training examples that contain a passage of the evaluation texts word for word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

PASSAGE_WORDS = 13
"""Minimum number of consecutive words that a leak shares, without case and punctuation (Brown et al. 2020, appendix C).

A shorter query is searched for as a whole."""
MIN_QUERY_WORDS = 8
"""Queries with fewer words are not searched for: they match by chance (Brown et al. 2020, appendix C)."""


@dataclass(frozen=True)
class Leak:
    """A passage that a training example shares with a query."""

    id: str
    """Id of the example."""
    query: str
    """Id of the query."""
    words: int
    """Number of words in the longest passage that they share."""
    passage: str
    """That passage, in lower case and without punctuation."""


class Passages:
    """Index of the queries by every run of consecutive words."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts` maps the id of each query to its text."""
        self.too_short: list[str] = []
        """Ids of the queries with fewer than MIN_QUERY_WORDS words, which are not searched for."""
        self._queries: dict[int, dict[str, set[str]]] = {}
        for id, text in texts.items():
            words = words_of(text)
            if len(words) < MIN_QUERY_WORDS:
                self.too_short.append(id)
                continue
            length = min(PASSAGE_WORDS, len(words))
            by_run = self._queries.setdefault(length, {})
            for run in _runs(words, length):
                by_run.setdefault(run, set()).add(id)

    def leaks(self, examples: Iterable[tuple[str, str]]) -> Iterator[Leak]:
        """The leaks of examples (id, text), in their order: one for each example and query that share a passage."""
        for id, text in examples:
            words = words_of(text)
            for query, (start, stop) in sorted(self._longest(words).items()):
                yield Leak(id, query, stop - start, " ".join(words[start:stop]))

    def _longest(self, words: list[str]) -> dict[str, tuple[int, int]]:
        """Query id -> start and stop, in `words`, of the longest passage that they share."""
        longest: dict[str, tuple[int, int]] = {}
        for length, by_run in self._queries.items():
            starts: dict[str, int] = {}
            for position, run in enumerate(_runs(words, length)):
                shared = by_run.get(run, frozenset[str]())
                starts = {query: starts.get(query, position) for query in shared}
                for query, start in starts.items():
                    before = longest.get(query, (0, 0))
                    if position + length - start > before[1] - before[0]:
                        longest[query] = (start, position + length)
        return longest


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.findall(r"\w+", text.lower())


def _runs(words: list[str], length: int) -> Iterator[str]:
    return (" ".join(words[k : k + length]) for k in range(len(words) - length + 1))
