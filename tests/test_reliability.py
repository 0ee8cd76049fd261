"""Sizes of predicted effects are stated only as far as a linear prediction reaches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.attribution.answer import Answer, Query, QueryToken
from headwater.attribution.reliability import LINEAR, linear_reach
from headwater.render.cards import cards
from headwater.render.summary import meaning, size
from headwater.runs.run import Run
from tests.answers import answer, example, told
from tests.serving import COMPLETION, PROMPT, make_run


def query(*losses: float) -> Query:
    tokens = [QueryToken("a", None, False), *(QueryToken("b", loss, True) for loss in losses)]
    return Query(prompt="a", completion="b" * len(losses), tokens=tokens, loss=sum(losses))


def test_the_reach_is_a_part_of_what_the_words_can_lose_to_first_order() -> None:
    assert linear_reach([query(math.log(2), 50.0)]) == pytest.approx(LINEAR * 1.5)
    assert linear_reach([query(1e-6)]) < 1e-6, "a completion that is certain has nothing to lose"
    assert linear_reach([query(50.0), query(50.0)]) == pytest.approx(LINEAR * 2)


def shown(effect: float) -> Answer:
    one = replace(example(told(("a", 1.0))), removal_effect=effect)
    return replace(answer([one], []), reach=0.3)


@pytest.mark.parametrize("effect", [-919.0, -0.31, 0.31])
def test_beyond_it_the_sign_is_told_and_no_size(effect: float) -> None:
    found = shown(effect)
    said = meaning(found)
    assert f"predicted to {'lower' if effect < 0 else 'raise'} log p by more than a linear prediction can tell" in said
    assert "--damping" in said
    for text in (said, size(found, found.proponents[0]), cards(found, "shared")[0][0].size):
        assert "919" not in text
        assert "likely)" not in text


def test_within_it_and_in_older_answers_the_size_is_stated() -> None:
    assert "change log p by −0.290 nats (25% less likely)" in meaning(shown(-0.29))
    assert "−919 nats" in meaning(replace(shown(-919.0), reach=None))


def test_an_answer_knows_its_reach(tmp_path: Path) -> None:
    run: Run = make_run(tmp_path, index=False)
    found = run.ask(PROMPT, COMPLETION, k=1, contrast=" lost a red hat.")
    assert found.contrast is not None
    assert found.reach == pytest.approx(linear_reach([found.query, found.contrast]))
    assert Answer.from_json(found.to_json()).reach == found.reach
