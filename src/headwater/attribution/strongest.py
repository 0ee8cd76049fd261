"""The strongest examples at both ends of a ranking, with their tokens, layers and near-duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.answer import ScoredExample, TokenInfluence
from headwater.attribution.context import AttributionContext
from headwater.attribution.duplicates import Family, families
from headwater.attribution.heads import head_shares
from headwater.attribution.preconditioned import PreconditionedQueries
from headwater.attribution.scores import TokenScores
from headwater.attribution.taught import learned_at_lowest
from headwater.corpus.corpus import Corpus
from headwater.corpus.store import Example
from headwater.sweep.sweep import Sweep, fold


@dataclass(frozen=True)
class Ends:
    """The strongest proponents and opponents by corpus position, strongest first, near-duplicates folded."""

    proponents: list[Family]
    opponents: list[Family]

    @property
    def positions(self) -> list[int]:
        return [family.position for family in self.proponents + self.opponents]


def both_ends(scores: Mapping[int, float] | NDArray[Any], k: int, corpus: Corpus | None = None) -> Ends:
    """The examples with the `k` highest positive and the `k` lowest negative `scores`; ties in corpus order.

    `scores` are by corpus position. With a `corpus`, near-duplicates are folded. Examples weaker than the last one
    shown are not searched for near-duplicates.
    """
    if isinstance(scores, Mapping):
        positions = np.array(sorted(scores), dtype=np.int64)
        values = np.array([scores[int(position)] for position in positions], dtype=np.float64)
    else:
        positions, values = np.arange(len(scores)), np.asarray(scores)

    def end(sign: int) -> list[Family]:
        order = np.argsort(-sign * values, kind="stable")
        ranked = (int(positions[row]) for row in order if sign * values[row] > 0)
        if corpus is None:
            return [Family(position) for position in islice(ranked, k)]
        return list(islice(families(_with_texts(corpus, ranked, k)), k))

    return Ends(end(1), end(-1))


def _with_texts(corpus: Corpus, positions: Iterator[int], step: int) -> Iterator[tuple[int, str]]:
    """Positions with their texts, read `step` at a time."""
    while part := list(islice(positions, step)):
        yield from zip(part, (example.text for example in corpus.read(part)), strict=True)


def shares(
    context: AttributionContext, preconditioned: PreconditionedQueries, positions: Sequence[int]
) -> dict[int, Tensor]:
    """Position -> [L, T]: the influence of single examples on one question, by layer and token.

    They are few, so they are always computed in this process, without the engine.
    """
    if not positions:
        return {}
    sweep = Sweep(
        stage="tokens",
        lm=context.lm,
        layers=context.curvature.layers,
        sequences=context.corpus.sequences(positions),
    )
    found = fold(sweep, lambda: TokenScores(preconditioned, by_layer=True)).values
    return {position: share[..., 0] for position, share in zip(positions, found, strict=True)}


def scored(
    context: AttributionContext,
    found: Sequence[Family],
    parts: Mapping[int, Tensor],
    *,
    norms: Mapping[int, float] | None,
    by_head: PreconditionedQueries | None = None,
) -> list[ScoredExample]:
    """The examples of `found` for an answer; `parts` are their `shares`, `norms` their √I(z, z).

    With `by_head`, the question's R_q, attention layers are split by head (`head_shares`).
    """
    positions = [family.position for family in found]
    heads: list[dict[str, list[float]]] = [{} for _ in found]
    if by_head is not None:
        heads = head_shares(context, by_head, context.corpus.sequences(positions))
    ids = context.corpus.ids
    return [
        scored_example(
            example,
            [layer.name for layer in context.curvature.layers],
            parts[family.position],
            total=len(context.corpus),
            norm=None if norms is None else norms[family.position],
            duplicates=[ids[other] for other in family.others],
            heads=by_layer,
        )
        for family, example, by_layer in zip(found, context.corpus.read(positions), heads, strict=True)
    ]


def scored_example(
    example: Example,
    layers: Sequence[str],
    part: Tensor,
    *,
    total: int,
    norm: float | None = None,
    duplicates: Sequence[str] = (),
    heads: dict[str, list[float]] | None = None,
) -> ScoredExample:
    """One example for an answer; `part` [L, T] is its influence by layer and token, `total` the corpus size N."""
    tokens = part.sum(dim=0).tolist()
    influence = float(sum(tokens))
    by_token = [TokenInfluence(*pair) for pair in zip(example.pieces, tokens, strict=True)]
    return ScoredExample(
        id=example.id,
        influence=influence,
        text=example.text,
        tokens=by_token,
        layers=dict(zip(layers, part.sum(dim=1).tolist(), strict=True)),
        removal_effect=-influence / total,
        relative=None if norm is None else influence / norm,
        source=example.source,
        metadata=example.metadata,
        duplicates=list(duplicates),
        heads=heads or {},
        taught=learned_at_lowest(by_token, example.sequence.targets.tolist()),
    )
