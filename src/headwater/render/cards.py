"""What the HTML templates draw: the question's tokens and one card per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.attribution.answer import Answer, Query, ScoredExample
from headwater.render.heat import Piece, ScaleBy, Snippet, axis, shade, shared_scale, snippet, strength
from headwater.render.palette import share
from headwater.render.summary import in_prompt, size
from headwater.render.visible import leading_spaces, one_line, visible

LONG = 1200
"""Characters beyond which a text is shown as a snippet, and the whole on request."""
PAGE_SNIPPET = 700
"""Characters of a snippet."""


@dataclass(frozen=True, kw_only=True)
class QuestionToken:
    """One token of the question."""

    lead: str
    """The spaces it begins with, which are not underlined."""
    word: str
    loss: float | None
    in_prompt: bool
    selected: bool


@dataclass(frozen=True)
class LayerBar:
    """One bar of the layers' sparkline."""

    name: str
    influence: float
    share: float
    """Influence over that of the example's strongest layer, from −1 to 1."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One example."""

    rank: int
    example: ScoredExample
    size: str
    """Its predicted effect in words."""
    bar: float
    """On the axis that all cards share, from −1 to 1."""
    pieces: list[Piece]
    snippet: Snippet | None
    """Where the text is long."""
    layers: list[LayerBar]
    metadata: list[tuple[str, str]]
    """The example's metadata, made visible."""

    @property
    def strongest_layer(self) -> LayerBar:
        return max(self.layers, key=lambda layer: abs(layer.share))


def question(query: Query) -> list[QuestionToken]:
    """The tokens of the question, in order."""
    asked: list[QuestionToken] = []
    for token, before in in_prompt(query):
        text = one_line(token.token) if token.selected else visible(token.token)
        lead = leading_spaces(text)
        asked.append(
            QuestionToken(lead=lead, word=text[len(lead) :], loss=token.loss, in_prompt=before, selected=token.selected)
        )
    return asked


def cards(answer: Answer, scale: ScaleBy) -> tuple[list[Card], list[Card]]:
    """The cards of the examples that raised the likelihood, and of those that lowered it."""
    end, full = axis(answer), shared_scale(answer, scale)

    def made(examples: Sequence[ScoredExample]) -> list[Card]:
        bars = [share(strength(example, answer.rank_by), end) for example in examples]
        ranked = enumerate(zip(examples, bars, strict=True), start=1)
        return [_card(rank, example, bar, scale=full, effect=size(answer, example)) for rank, (example, bar) in ranked]

    return made(answer.proponents), made(answer.opponents)


def _card(rank: int, example: ScoredExample, bar: float, *, scale: float | None, effect: str) -> Card:
    pieces = shade(example.tokens, scale)
    long = sum(len(piece.text) for piece in pieces) > LONG
    peak = max(map(abs, example.layers.values()), default=0.0)
    return Card(
        rank=rank,
        example=example,
        size=effect,
        bar=bar,
        pieces=pieces,
        snippet=snippet(pieces, PAGE_SNIPPET) if long else None,
        layers=[LayerBar(one_line(name), value, share(value, peak)) for name, value in example.layers.items()],
        metadata=[
            (one_line(key), one_line(str(value))) for key, value in example.metadata.items() if value is not None
        ],
    )
