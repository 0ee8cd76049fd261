"""Leaks: training examples that hold a passage of the texts that a model is to be judged by, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

WORDS = 13
"""A leak is a run of so many words in common, without case and marks (Brown et al. 2020, appendix C)."""
FEWEST = 8
"""A shorter text is looked for as a whole; with fewer words than these it is found by chance (as there)."""


@dataclass(frozen=True)
class Leak:
    """A passage that a training example shares with a query."""

    id: str
    """Of the example."""
    query: str
    """Id of the query."""
    words: int
    """How long the longest passage is that they share."""
    passage: str
    """That passage, in small letters and without marks."""


class Passages:
    """The texts of queries, by every run of their words."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts` are those of the queries, by their ids."""
        self.too_short: list[str] = []
        """Ids of the queries of fewer than FEWEST words, which are not looked for."""
        self._queries: dict[int, dict[str, set[str]]] = {}
        for id, text in texts.items():
            words = words_of(text)
            if len(words) < FEWEST:
                self.too_short.append(id)
                continue
            length = min(WORDS, len(words))
            by_run = self._queries.setdefault(length, {})
            for run in _runs(words, length):
                by_run.setdefault(run, set()).add(id)

    def leaks(self, examples: Iterable[tuple[str, str]]) -> Iterator[Leak]:
        """What examples (id, text) share with the queries, as they come: one leak for each example and query."""
        for id, text in examples:
            words = words_of(text)
            for query, (start, stop) in sorted(self._longest(words).items()):
                yield Leak(id, query, stop - start, " ".join(words[start:stop]))

    def _longest(self, words: list[str]) -> dict[str, tuple[int, int]]:
        """Query -> where in the `words` the longest passage starts and stops that they share."""
        longest: dict[str, tuple[int, int]] = {}
        for length, by_run in self._queries.items():
            begun: dict[str, int] = {}
            for place, run in enumerate(_runs(words, length)):
                shared = by_run.get(run, frozenset[str]())
                begun = {query: begun.get(query, place) for query in shared}
                for query, start in begun.items():
                    before = longest.get(query, (0, 0))
                    if place + length - start > before[1] - before[0]:
                        longest[query] = (start, place + length)
        return longest


def words_of(text: str) -> list[str]:
    """Its words, without case and marks."""
    return re.findall(r"\w+", text.lower())


def _runs(words: list[str], length: int) -> Iterator[str]:
    return (" ".join(words[k : k + length]) for k in range(len(words) - length + 1))
