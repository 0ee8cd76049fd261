"""Near-duplicates: examples of almost the same words, shown once with a count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

WORDS = 5
"""Texts are compared by their runs of so many words (Broder 1997)."""
ALIKE = 0.8
"""Two texts are near-duplicates where at least this share of their runs is common to both (Jaccard)."""


@dataclass
class Family:
    """A strongest example and its near-duplicates."""

    position: int
    others: list[int] = field(default_factory=list[int])
    """Positions of the near-duplicates, in the order they came."""


def families(ranked: Iterable[tuple[int, str]]) -> Iterator[Family]:
    """Fold examples (position, text), strongest first, as they come.

    Each family is yielded when its first example is met; later near-duplicates are added to it while iteration goes
    on, so that whoever stops after k families has read no more than these needed.
    """
    heads: list[tuple[frozenset[str], Family]] = []
    for position, text in ranked:
        runs = runs_of_words(text)
        family = next((family for seen, family in heads if _alike(seen, runs)), None)
        if family is not None:
            family.others.append(position)
            continue
        family = Family(position)
        heads.append((runs, family))
        yield family


def near_duplicates(first: str, second: str) -> bool:
    """Whether two texts are near-duplicates of each other."""
    return _alike(runs_of_words(first), runs_of_words(second))


@lru_cache(maxsize=4096)
def runs_of_words(text: str) -> frozenset[str]:
    """Every run of five words of a text, without case and marks; of a shorter text all its words as one."""
    words = re.findall(r"\w+", text.lower())
    if len(words) <= WORDS:
        return frozenset([" ".join(words) or text])
    return frozenset(" ".join(words[k : k + WORDS]) for k in range(len(words) - WORDS + 1))


def _alike(first: frozenset[str], second: frozenset[str]) -> bool:
    common = len(first & second)
    return common >= ALIKE * (len(first) + len(second) - common)
