"""Token × token influence of one example on one question."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from headwater.attribution.answer import TokenMap
from headwater.attribution.context import AttributionContext
from headwater.attribution.preconditioned import PreconditionedQueries, loss_gradients
from headwater.attribution.question import Question
from headwater.attribution.scores import TokenScores
from headwater.corpus.store import Example
from headwater.sweep.sweep import Sweep, fold


def token_map(
    context: AttributionContext, question: Question, example: Example, *, layers: Sequence[str] | None = None
) -> TokenMap:
    """The influence of every token of `example` on every selected token of the question.

    The loss of each selected token is a question of its own. So the sum over selected tokens is the token influence of
    the example, and the total is its influence. `layers` are globs of the layers that count. Raises HeadwaterError if
    one matches no tracked layer.
    """
    tracked = context.curvature.layers
    counted_layers = {layer.name for layer in context.layers(layers)}
    sequences = [token for part, _ in question.parts for token in part.token_sequences()]
    by_token = PreconditionedQueries(loss_gradients(context.lm, tracked, sequences, curvature=context.curvature))
    sweep = Sweep(stage="token map", lm=context.lm, layers=tracked, sequences=[example.sequence])
    (shares,) = fold(sweep, lambda: TokenScores(by_token, by_layer=True)).values
    signs = [sign for part, sign in question.parts for _ in part.token_sequences()]
    values = shares[[layer.name in counted_layers for layer in tracked]].sum(0) * torch.tensor(signs)
    return TokenMap(
        example_id=example.id,
        query_tokens=[piece for part, _ in question.parts for piece in part.selected_pieces],
        example_tokens=example.pieces,
        values=values.t().tolist(),
        contrast_tokens=signs.count(-1),
    )
