"""The tiny world states each fact as often as it says, nowhere else, and reads well; its model can be trained."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headwater.cli import app
from headwater.corpus.read import read_records
from headwater.demo import build
from headwater.demo.tiny_lm import train_tiny_lm
from headwater.demo.world import TIMES, Fact, World, make_world
from headwater.errors import HeadwaterError
from headwater.lm.load import load_model


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3000, seed=0)


def bearer(fact: Fact) -> str:
    """Whom or what the fact is about: an invented name or word."""
    return fact.id.split("-", 1)[1]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_the_same_numbers_make_the_same_world_and_another_seed_another() -> None:
    assert make_world(200, seed=3) == make_world(200, seed=3)
    assert make_world(200, seed=3) != make_world(200, seed=4)


def test_each_fact_is_stated_in_as_many_stories_as_it_says_and_named_in_no_other(world: World) -> None:
    mentions: dict[str, set[str]] = {}
    for story in world.stories:
        for word in set(words(story.text)):
            mentions.setdefault(word, set()).add(story.id)
    text_of = {story.id: story.text for story in world.stories}
    for fact in world.facts:
        assert len(fact.stories) == fact.times
        assert mentions[bearer(fact)] == set(fact.stories)
        value = fact.completion.strip(" .").lower()
        assert all(value in text_of[id].lower() for id in fact.stories)
    assert {fact.times for fact in world.facts} == set(TIMES)
    assert {fact.kind for fact in world.facts} == {"keeps", "fears", "means"}


def test_a_story_names_the_fact_it_states(world: World) -> None:
    stated = {(story.fact, story.id) for story in world.stories if story.fact}
    assert stated == {(fact.id, id) for fact in world.facts for id in fact.stories}


def test_a_fact_is_told_in_different_words_each_time(world: World) -> None:
    text_of = {story.id: story.text for story in world.stories}
    for fact in world.facts:
        value = fact.completion.strip(" .").lower()
        statements = [
            tuple(s for s in re.split(r"(?<=[.?!]) ", text_of[id]) if value in s.lower()) for id in fact.stories
        ]
        assert len(set(statements)) == fact.times


def test_stories_are_all_different_and_no_opening_is_common(world: World) -> None:
    texts = [story.text for story in world.stories]
    assert len(set(texts)) == len(texts)
    openings = Counter(" ".join(text.split()[:4]) for text in texts)
    assert openings.most_common(1)[0][1] < 0.05 * len(texts)


def test_every_story_is_clean_english(world: World) -> None:
    for story in world.stories:
        assert not re.search(r"[{}\[\]|]|  |\ba [aeiou]|\ban (?!hour)[^aeiou\W]", story.text), story.text
        assert re.match(r'"?[A-Z]', story.text), story.text
        assert re.search(r'[.!?]"?$', story.text), story.text


def test_a_world_too_small_for_its_facts_is_refused() -> None:
    with pytest.raises(HeadwaterError, match="Use 200 stories or more"):
        make_world(199)


def test_the_command_writes_stories_and_the_facts_beside_them(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["world", "--stories", "200", "-o", str(tmp_path / "world.jsonl")])
    assert result.exit_code == 0, result.output
    records = list(read_records(tmp_path / "world.jsonl"))
    assert [record.text for record in records] == [story.text for story in make_world(200).stories]
    facts = [json.loads(line) for line in (tmp_path / "world.facts.jsonl").read_text("utf-8").splitlines()]
    assert [fact["id"] for fact in facts] == [fact.id for fact in make_world(200).facts]


def test_training_lowers_the_loss_and_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    stories = [story.text for story in make_world(200).stories]
    losses: list[float] = []
    train_tiny_lm(stories, tmp_path / "one", epochs=3, on_step=lambda step, total, loss: losses.append(loss))
    train_tiny_lm(stories, tmp_path / "two", epochs=3)
    assert losses[-1] < 0.85 * losses[0]
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    assert sum(p.numel() for p in load_model(str(tmp_path / "one")).model.parameters()) < 2_000_000


def test_the_demo_answers_and_the_second_time_computes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Demo", partial(build.Demo, epochs=1))
    arguments = ["demo", str(tmp_path / "demo"), "--stories", "200", "--no-serve"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    monkeypatch.delattr(build, "train_tiny_lm")
    monkeypatch.setattr("headwater.attribution.ask.fold", None)
    monkeypatch.setattr("headwater.curvature.fit.fold", None)
    second = CliRunner().invoke(app, arguments)
    assert second.exit_code == 0, second.output
    assert second.stdout == first.stdout
    assert first.stdout.count("Checked against the world") == 3


def test_a_demo_never_mixes_two_worlds(tmp_path: Path) -> None:
    build.build_world(build.Demo(tmp_path, stories=200, seed=0))
    with pytest.raises(HeadwaterError, match="has a demo with another size"):
        build.build_world(build.Demo(tmp_path, stories=200, seed=1))
