"""What an opponent that contains the completion taught instead: the tokens learned at its strongest negative shares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from headwater.attribution.answer import Query, ScoredExample, TokenInfluence

MOST = 3
"""Tokens that are named."""


def learned_at_lowest(tokens: Sequence[TokenInfluence], targets: Sequence[bool]) -> list[str]:
    """Up to MOST distinct tokens, strongest first, that an example learned where its influence is most negative.

    The influence of position t enters mostly through the prediction of token t + 1. So token t + 1 is named, if it
    carries loss: `targets` [T].
    """
    order = sorted(range(len(tokens) - 1), key=lambda t: tokens[t].influence)
    learned = [tokens[t + 1].token for t in order if tokens[t].influence < 0 and targets[t + 1]]
    return list(dict.fromkeys(token for token in learned if token.strip()))[:MOST]


def kept_where_it_states(example: ScoredExample, query: Query) -> ScoredExample:
    """The example with `taught` as an answer shows it: without the tokens asked about.

    It is empty unless the text of the example contains the words asked about.
    """
    if not _contains(example.text, query.span or query.completion):
        return replace(example, taught=[])
    asked = {token.token.strip() for token in query.tokens if token.selected}
    return replace(example, taught=[token for token in example.taught if token.strip() not in asked])


def _contains(text: str, said: str) -> bool:
    words = re.findall(r"\w+", said.casefold())
    phrase = r"\W+".join(map(re.escape, words))
    return bool(words) and re.search(rf"(?<!\w){phrase}(?!\w)", text.casefold()) is not None
