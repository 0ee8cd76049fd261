"""An opponent that contains the words asked about: what it taught instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.attribution.answer import Answer, Query, QueryToken, ScoredExample, TokenInfluence
from headwater.attribution.taught import kept_where_it_states, learned_at_lowest
from headwater.render.summary import instead
from headwater.runs.run import Run
from tests.models import tiny_lm

SHARES = {"Berlin": -5.0, " is": -3.0, " Berlin": -4.0, " the": 2.0, " end": -9.0}
BERLIN = [TokenInfluence(token, share) for token, share in SHARES.items()]
ALL = [False, True, True, True, True]


def question(completion: str) -> Query:
    return Query(prompt="In", completion=completion, tokens=[QueryToken(completion, 1.0, True)], loss=1.0)


def opponent(text: str, taught: list[str]) -> ScoredExample:
    return ScoredExample(id="a", influence=-1.0, text=text, tokens=[], layers={}, removal_effect=0.1, taught=taught)


def test_the_tokens_after_the_most_negative_shares_are_named_strongest_first() -> None:
    assert learned_at_lowest(BERLIN, ALL) == [" is", " the", " Berlin"]


def test_a_token_without_loss_was_not_taught() -> None:
    assert learned_at_lowest(BERLIN, [False, False, True, True, True]) == [" the", " Berlin"]


@pytest.mark.parametrize(
    ("text", "completion", "named"),
    [
        ("Berlin is here", " Berlin", [" is"]),
        ("the BERLIN wall", " berlin.", [" is", " Berlin"]),
        ("Berliner is here", " Berlin", []),
        ("it is here", " Berlin", []),
        ("it is here", " !", []),
    ],
)
def test_only_a_text_with_the_words_asked_about_says_what_it_taught(
    text: str, completion: str, named: list[str]
) -> None:
    assert kept_where_it_states(opponent(text, [" is", " Berlin"]), question(completion)).taught == named


def test_one_line_says_it() -> None:
    line = "Contains the words asked about. Its strongest negative shares come where it teaches “is”, “the”."
    assert instead(opponent("", [" is", " the"])) == line
    assert instead(opponent("", [])) == ""


def test_an_answer_names_them_in_terminal_page_and_json(tmp_path: Path) -> None:
    texts = ["red fox ran home", "the fox saw a red hen", "a hen ate corn", "fox and hen", "my red hat is a fox"]
    texts.append("he is a fox")
    run = Run.create(tmp_path / "run", tiny_lm(), texts)
    run.fit()
    answer = run.ask("The hen saw", " fox")
    stating = [one for one in answer.opponents if "fox" in one.text.split()]
    assert stating, "or nothing is tested"
    assert all(one.taught for one in stating)
    assert not any(one.taught for one in answer.proponents)
    assert not any(one.taught for one in answer.opponents if "fox" not in one.text.split())
    line = instead(stating[0])
    assert "Contains the words asked about." in str(answer)
    assert line in (answer._repr_html_() or "")
    assert Answer.from_json(answer.to_json()) == answer
