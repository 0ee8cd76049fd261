"""Token × token: which of an example's tokens pushed which of the query's."""

from __future__ import annotations

from collections.abc import Collection

import torch

from headwater.attribution.answer import TokenMapAnswer
from headwater.attribution.ask import AttributionContext
from headwater.attribution.question import Question, preconditioned
from headwater.attribution.scores import TokenScores
from headwater.corpus.store import Example
from headwater.sweep.sweep import Sweep, fold


def token_map(
    scene: AttributionContext, question: Question, example: Example, *, layers: Collection[str]
) -> TokenMapAnswer:
    """The influence of every token of `example` on every selected token of the question, through these layers.

    A token's loss is a question of its own, so that the map adds up to the scores of both.
    """
    tracked = scene.curvature.layers
    sequences = [token for part, _ in question.parts for token in part.token_sequences()]
    by_token = preconditioned(scene.lm, scene.curvature, sequences)
    sweep = Sweep(stage="token map", lm=scene.lm, layers=tracked, sequences=[example.sequence])
    (shares,) = fold(sweep, lambda: TokenScores(by_token, by_layer=True)).values
    signs = [sign for part, sign in question.parts for _ in part.token_sequences()]
    values = shares[[layer.name in layers for layer in tracked]].sum(0) * torch.tensor(signs)
    return TokenMapAnswer(
        example_id=example.id,
        query_tokens=[piece for part, _ in question.parts for piece in part.selected_pieces],
        example_tokens=example.pieces,
        values=values.t().tolist(),
        contrast_tokens=signs.count(-1),
    )
