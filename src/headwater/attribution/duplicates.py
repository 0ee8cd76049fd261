"""Near-duplicates: examples with almost the same words are shown once, with a count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

WORDS = 5
"""Length of the runs of words that texts are compared by (Broder 1997)."""
ALIKE = 0.8
"""Two texts are near-duplicates if at least this share of their runs is common to both (Jaccard index)."""


@dataclass
class Family:
    """A strongest example and its near-duplicates."""

    position: int
    others: list[int] = field(default_factory=list[int])
    """Positions of the near-duplicates, in order of strength."""


def families(ranked: Iterable[tuple[int, str]]) -> Iterator[Family]:
    """Fold examples (position, text), strongest first, into families.

    A family is yielded with its first example. Later near-duplicates are added to it while iteration goes on, so a
    caller that stops after k families has read only the texts these needed.
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
    """Every run of five words of a text, without case and punctuation; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    if len(words) <= WORDS:
        return frozenset([" ".join(words) or text])
    return frozenset(" ".join(words[k : k + WORDS]) for k in range(len(words) - WORDS + 1))


def _alike(first: frozenset[str], second: frozenset[str]) -> bool:
    common = len(first & second)
    return common >= ALIKE * (len(first) + len(second) - common)
