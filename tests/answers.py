"""Answers to draw: a small one, and the hostile texts that a corpus may hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from headwater.attribution.answer import Answer, Query, QueryToken, ScoredExample, TokenInfluence

HOSTILE = [
    *("<script>alert(1)</script>", "</style>", "</bdi></main>", '" onmouseover="x'),
    *("<!--", "&lt;b&gt;", "{{ 7 }}", "[bold red]", "[/]", "[link=http://x]", ":smile:"),
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "\x00", "\x7f", "\ud800"),
    *("\u202e", "\u2066", "\u200f", "\ufeff", "\u2028", "\r", "\n", "\n\n", "\t", " "),
    *("\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301", "שלום", "مرحبا", "你好"),
]
"""Texts that would act on a page or a terminal, and some that only are hard to draw."""
numbers = st.floats(-50, 50, allow_nan=False).map(lambda value: round(value, 4))
pieces = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=8))
tokens = st.lists(st.builds(TokenInfluence, pieces, numbers), min_size=1, max_size=30)


def example(tokens: list[TokenInfluence], name: str = "story-00412", **changes: Any) -> ScoredExample:
    total = sum(token.influence for token in tokens)
    text = "".join(token.token for token in tokens)
    made = ScoredExample(
        id=name,
        influence=total,
        text=text,
        tokens=tokens,
        layers={"mlp.0.up": total, "mlp.1.up": -total / 3},
        removal_effect=-total / 3000,
    )
    return replace(made, **changes)


def told(*pairs: tuple[str, float]) -> list[TokenInfluence]:
    return [TokenInfluence(*pair) for pair in pairs]


HEN = told(
    ("Vessa", 9.0),
    (" keeps", 2.0),
    (" her", 0.1),
    (" garnets", 20.0),
    (" in", 0.2),
    (" it", -8.0),
    (".", 0.0),
)
GOAT = told(("A", 0.0), (" goat", -1.0), (" ate", -0.1), (" the", 0.3), (" hat", -16.0))
QUERY = Query(
    prompt="Vessa keeps her garnets in the",
    completion=" teapot.",
    tokens=[
        QueryToken("Vessa keeps her", None, False),
        QueryToken(" garnets in the", 3.0, False),
        QueryToken(" teapot", 4.5, True),
        QueryToken(".", 0.25, True),
    ],
    loss=4.75,
)


def answer(proponents: list[ScoredExample], opponents: list[ScoredExample], query: Query = QUERY) -> Answer:
    return Answer(
        query=query,
        proponents=proponents,
        opponents=opponents,
        rank_by="influence",
        examples=3000,
        examples_scored=3000,
        curvature="ekfac",
        damping="0.1 × mean(Λ)",
        model="tiny-stories",
    )


ANSWER = answer([example(HEN, source="stories.jsonl:413", metadata={"year": 2024, "by": None})], [example(GOAT, "s-2")])
