"""Tokens with the strength of their shade, and the part of a long text that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headwater.attribution.answer import Answer, ScoredExample, TokenInfluence
from headwater.attribution.options import RankBy
from headwater.render.palette import share
from headwater.render.visible import leading_spaces, visible

ScaleBy = Literal["card", "shared"]
"""Which token gets the full colour: the strongest of each card, or the strongest of the whole answer."""

STRONG = 0.4
"""A token with at least this share of the scale also shows its sign without colour."""
FAINT = 0.04
"""A token below this share of the scale has no shade."""
LINE_BREAK_COST = 40
"""Characters of room that a line break takes."""


@dataclass(frozen=True)
class Piece:
    """One token as it is drawn."""

    text: str
    """Made visible; empty for a token without characters of its own, such as a beginning-of-text token."""
    influence: float
    share: float
    """Influence over the scale, from −1 to 1."""

    @property
    def lead(self) -> str:
        """The spaces that the token begins with, drawn without a shade so that words stand apart."""
        return leading_spaces(self.text)

    @property
    def strong(self) -> bool:
        return abs(self.share) >= STRONG

    @property
    def shaded(self) -> bool:
        return abs(self.share) >= FAINT


@dataclass(frozen=True)
class Snippet:
    """A run of pieces, and whether the text goes on before and after it."""

    pieces: list[Piece]
    cut_before: bool
    cut_after: bool


def strength(example: ScoredExample, rank_by: RankBy) -> float:
    """The number that the example was ranked by."""
    return example.influence if rank_by == "influence" or example.relative is None else example.relative


def axis(answer: Answer) -> float:
    """End of the axis that all bars share: the strongest example of both ends."""
    examples = answer.proponents + answer.opponents
    return max((abs(strength(example, answer.rank_by)) for example in examples), default=0.0)


def largest_influence(tokens: Sequence[TokenInfluence]) -> float:
    """The largest absolute influence of any of the tokens."""
    return max((abs(token.influence) for token in tokens), default=0.0)


def shared_scale(answer: Answer, scale: ScaleBy) -> float | None:
    """The scale of all cards, or None where every card has its own."""
    if scale == "card":
        return None
    examples = answer.proponents + answer.opponents
    return max((largest_influence(example.tokens) for example in examples), default=0.0)


def shade(tokens: Sequence[TokenInfluence], scale: float | None = None) -> list[Piece]:
    """The tokens with their shares of `scale`, or of their own strongest one."""
    full = largest_influence(tokens) if scale is None else scale
    return [Piece(visible(token.token), token.influence, share(token.influence, full)) for token in tokens]


def snippet(pieces: Sequence[Piece], room: int) -> Snippet:
    """About `room` characters around the strongest piece, which is always included; all pieces where they fit."""
    if sum(map(_cost, pieces)) <= room:
        return Snippet(list(pieces), cut_before=False, cut_after=False)
    centre = max(range(len(pieces)), key=lambda place: abs(pieces[place].share))
    before, after = pieces[:centre][::-1], pieces[centre + 1 :]
    spare = room - _cost(pieces[centre])
    start = centre - _fitting(before, max(spare // 2, spare - sum(map(_cost, after))))
    stop = centre + 1 + _fitting(after, max(spare - spare // 2, spare - sum(map(_cost, before))))
    return Snippet(list(pieces[start:stop]), start > 0, stop < len(pieces))


def _fitting(pieces: Sequence[Piece], room: int) -> int:
    """How many of the first `pieces` fit into `room`."""
    for count, piece in enumerate(pieces):
        room -= _cost(piece)
        if room < 0:
            return count
    return len(pieces)


def _cost(piece: Piece) -> int:
    return len(piece.text) + (LINE_BREAK_COST - 1) * piece.text.count("\n")
