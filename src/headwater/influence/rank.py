"""From the scores of the whole corpus to the strongest examples at both ends, with their tokens and layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.store import Corpus
from headwater.influence.attribution import ScoredExample, TokenInfluence
from headwater.influence.scores import Gradients, TokenScores
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep, fold


@dataclass(frozen=True)
class Ends:
    """Corpus positions of the strongest examples, strongest first."""

    proponents: list[int]
    opponents: list[int]


def both_ends(scores: NDArray[Any], k: int) -> Ends:
    """The `k` highest positive and the `k` lowest negative of `scores` [N]; ties in corpus order."""
    falling = np.argsort(-scores, kind="stable")[:k]
    rising = np.argsort(scores, kind="stable")[:k]
    return Ends([int(i) for i in falling if scores[i] > 0], [int(i) for i in rising if scores[i] < 0])


@dataclass(frozen=True)
class Detail:
    """What is needed to look into single examples for one query."""

    lm: LanguageModel
    layers: Sequence[TrackedLayer]
    corpus: Corpus
    preconditioned: Gradients
    """R_q of one query, layer -> [1, O, I]."""


def detail(context: Detail, positions: Sequence[int], norms: NDArray[Any] | None) -> list[ScoredExample]:
    """The examples at `positions` with the influence of every token and layer; `norms` [N] is √I(z, z)."""
    if not positions:
        return []
    sequences = context.corpus.sequences(positions)
    sweep = Sweep("tokens", context.lm, context.layers, sequences)
    by_example = fold(sweep, lambda: TokenScores(context.preconditioned, by_layer=True)).values
    total = len(context.corpus)
    names = [layer.name for layer in context.layers]
    found: list[ScoredExample] = []
    for row, (position, example) in enumerate(zip(positions, context.corpus.read(positions), strict=True)):
        by_layer = by_example[row][..., 0]
        shares = by_layer.sum(dim=0).tolist()
        influence = float(sum(shares))
        found.append(
            ScoredExample(
                id=example.id,
                influence=influence,
                text=example.text,
                tokens=[TokenInfluence(*pair) for pair in zip(example.pieces, shares, strict=True)],
                layers=dict(zip(names, by_layer.sum(dim=1).tolist(), strict=True)),
                removal_effect=-influence / total,
                relative=None if norms is None else influence / float(norms[position]),
                source=example.source,
                metadata=example.metadata,
            )
        )
    return found
