"""Near-duplicates: examples with almost the same words are folded into one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

SHINGLE_WORDS = 5
"""Length in words of the shingles by which texts are compared (Broder 1997)."""
MIN_JACCARD = 0.8
"""Two texts are near-duplicates if the Jaccard index of their shingles is at least this."""


@dataclass
class Family:
    """An example and the weaker examples that are its near-duplicates."""

    position: int
    others: list[int] = field(default_factory=list[int])
    """Positions of the near-duplicates, in order of strength."""


def families(ranked: Iterable[tuple[int, str]]) -> Iterator[Family]:
    """Fold examples (position, text), strongest first, into families.

    A family is yielded at its first example. Near-duplicates that follow are added to it while the iteration
    continues. So a caller that stops after k families has read only the texts that these needed.
    """
    heads: list[tuple[frozenset[str], Family]] = []
    for position, text in ranked:
        runs = shingles(text)
        family = next((family for earlier, family in heads if near_duplicates(earlier, runs)), None)
        if family is not None:
            family.others.append(position)
            continue
        family = Family(position)
        heads.append((runs, family))
        yield family


@lru_cache(maxsize=4096)
def shingles(text: str) -> frozenset[str]:
    """Every five consecutive words of a text, without case and punctuation; a shorter text is one shingle."""
    words = re.findall(r"\w+", text.lower())
    if len(words) <= SHINGLE_WORDS:
        return frozenset([" ".join(words) or text])
    return frozenset(" ".join(words[k : k + SHINGLE_WORDS]) for k in range(len(words) - SHINGLE_WORDS + 1))


def near_duplicates(first: frozenset[str], second: frozenset[str]) -> bool:
    """Whether two texts with these shingles are near-duplicates."""
    common = len(first & second)
    return common >= MIN_JACCARD * (len(first) + len(second) - common)
