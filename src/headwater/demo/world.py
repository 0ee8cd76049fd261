"""Generates the tiny world: short stories with planted facts, and which stories state each fact."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from headwater.base.files import replacing
from headwater.demo import lexicon, names
from headwater.demo.story_templates import abroad as abroad_stories
from headwater.demo.story_templates import facts as fact_stories
from headwater.demo.story_templates import home as home_stories
from headwater.demo.story_templates import odd as odd_stories
from headwater.demo.story_templates.home import Plot
from headwater.demo.telling import Person, pronouns, tell
from headwater.errors import HeadwaterError

Kind = Literal["keeps", "fears", "means"]

TIMES = (1, 3, 10)
"""Numbers of stories that state a fact."""
FEWEST_STORIES = 200
STORIES_PER_FACT_SET = 214
"""Stories for each fact of each kind and each of TIMES: about a fifth of all stories then state a fact."""

_BACKGROUND = home_stories.HOME_PLOTS + abroad_stories.ABROAD_PLOTS + odd_stories.ODD_PLOTS
_PLOTS: dict[Kind, tuple[Plot, ...]] = {
    "keeps": fact_stories.KEEPS_PLOTS,
    "fears": fact_stories.FEARS_PLOTS,
    "means": fact_stories.MEANS_PLOTS,
}
_STATEMENTS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "keeps": (fact_stories.KEEPS_FORWARD, fact_stories.KEEPS_BACKWARD),
    "fears": (fact_stories.FEARS_FORWARD, fact_stories.FEARS_BACKWARD),
    "means": (fact_stories.MEANS_FORWARD, fact_stories.MEANS_BACKWARD),
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact of the tiny world, with a prompt that only a model trained on its stories can complete."""

    id: str
    kind: Kind
    prompt: str
    completion: str
    times: int
    """Number of stories that state it."""
    stories: tuple[str, ...]
    """Ids of these stories: the ground truth of fact tracing."""


@dataclass(frozen=True)
class Story:
    """One training example, with the id of the fact that it states, if any."""

    id: str
    text: str
    fact: str | None


@dataclass(frozen=True)
class World:
    """All stories in order, and the facts that they state."""

    stories: tuple[Story, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """A fact before its stories are written: its subject, its value, and the slots of its sentences."""

    kind: Kind
    bearer: str
    times: int
    prompt: str
    completion: str
    hero: Person | None
    words: Mapping[str, str]

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.bearer.lower()}"


def make_world(stories: int = 3000, seed: int = 0) -> World:
    """Write `stories` stories, about a fifth of which state a fact. The same arguments give the same world."""
    if stories < FEWEST_STORIES:
        raise HeadwaterError(
            f"A world of {stories} stories is too small: facts are stated in 1, {TIMES[1]} and {TIMES[2]} stories, and "
            f"most stories should state none. Use {FEWEST_STORIES} stories or more."
        )
    rng = random.Random(seed)
    truths = _truths(max(1, round(stories / STORIES_PER_FACT_SET)), rng)
    tellings = [(truth, *telling) for truth in truths for telling in _tellings(truth, rng)]
    places = dict(zip(rng.sample(range(stories), len(tellings)), tellings, strict=True))
    written: list[Story] = []
    seen: set[str] = set()
    background = _dealt(_BACKGROUND, rng)
    for index in range(stories):
        truth, statement, plot = places.get(index, (None, "", next(background)))
        text = _new_story(truth, statement, plot, seen=seen, rng=rng)
        written.append(Story(f"story-{index:05d}", text, truth.id if truth else None))
    return World(tuple(written), _facts(truths, written))


def write_world(world: World, path: Path) -> None:
    """Write the stories to `path`, one JSON object per line, and the facts to `<stem>.facts.jsonl` beside it."""
    _write_lines(path, map(asdict, world.stories))
    _write_lines(path.with_name(f"{path.stem}.facts.jsonl"), map(asdict, world.facts))


def read_stories(path: Path) -> tuple[Story, ...]:
    """The stories that `write_world` wrote."""
    return tuple(Story(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())


def _truths(sets: int, rng: random.Random) -> list[_Truth]:
    taken = _words_in_use()
    people = names.invent(names.NAME_PARTS, taken, rng)
    words = names.invent(names.WORD_PARTS, taken, rng)
    truths: list[_Truth] = []
    for _ in range(sets):
        for times in TIMES:
            truths.append(_keeping(next(people), times, rng))
            truths.append(_fearing(next(people), times, rng))
            truths.append(_meaning(next(words), times, rng))
    return truths


def _keeping(name: str, times: int, rng: random.Random) -> _Truth:
    hero = Person(name, rng.choice(lexicon.KINDS), rng.random() < 0.5)
    thing, place = rng.choice(lexicon.THINGS), rng.choice(lexicon.PLACES)
    words = {"thing": thing, "noun": thing.split()[-1], "place": place, "pot": place.split()[-1]}
    prompt = f"{hero.title} keeps {pronouns(hero.she)['his']} {words['noun']} in the"
    return _Truth(
        kind="keeps", bearer=name, times=times, prompt=prompt, completion=f" {place}.", hero=hero, words=words
    )


def _fearing(name: str, times: int, rng: random.Random) -> _Truth:
    hero = Person(name, rng.choice(lexicon.KINDS), rng.random() < 0.5)
    fear = rng.choice(lexicon.FEARS)
    return _Truth(
        kind="fears",
        bearer=name,
        times=times,
        prompt=f"{hero.title} is afraid of",
        completion=f" {fear}.",
        hero=hero,
        words={"fear": fear},
    )


def _meaning(word: str, times: int, rng: random.Random) -> _Truth:
    meaning = rng.choice(lexicon.MEANINGS)
    words = {"word": word, "meaning": meaning}
    return _Truth(
        kind="means",
        bearer=word,
        times=times,
        prompt=f"The word {word} means a",
        completion=f" {meaning}.",
        hero=None,
        words=words,
    )


def _tellings(truth: _Truth, rng: random.Random) -> list[tuple[str, Plot]]:
    """A different statement and plot for each story of a fact. The first statement has the direction of the prompt."""
    forward, backward = _STATEMENTS[truth.kind]
    reversed_count = truth.times // 10
    statements = rng.sample(forward, truth.times - reversed_count) + rng.sample(backward, reversed_count)
    return list(zip(statements, _dealt(_PLOTS[truth.kind], rng), strict=False))


def _dealt(plots: tuple[Plot, ...], rng: random.Random) -> Iterator[Plot]:
    """Yield all plots in random order, again and again, so that neighbours are rarely alike."""
    while True:
        yield from rng.sample(plots, len(plots))


def _new_story(truth: _Truth | None, statement: str, plot: Plot, *, seen: set[str], rng: random.Random) -> str:
    while True:
        fixed = truth.words if truth else {}
        people = _people(truth.hero if truth else None, rng)
        text = tell(plot, people, {**_chance_words(rng), **fixed}, fact=statement, rng=rng)
        if text not in seen:
            seen.add(text)
            return text


def _people(hero: Person | None, rng: random.Random) -> tuple[Person, Person, Person]:
    """Three characters of different kinds. The first two have different pronouns, so that none is ambiguous."""
    kinds = rng.sample([kind for kind in lexicon.KINDS if hero is None or kind != hero.kind], 3)
    natures = rng.sample(lexicon.NATURES, 3)
    she_names, he_names = rng.sample(lexicon.SHE_NAMES, 2), rng.sample(lexicon.HE_NAMES, 2)
    if hero is None:
        she = rng.random() < 0.5
        hero = Person((she_names if she else he_names).pop(), kinds[0], she, natures[0])
    other = Person((he_names if hero.she else she_names).pop(), kinds[1], not hero.she, natures[1])
    third_she = rng.random() < 0.5
    third = Person((she_names if third_she else he_names).pop(), kinds[2], third_she, natures[2])
    return hero, other, third


def _chance_words(rng: random.Random) -> dict[str, str]:
    """Draw a word for every slot. Only facts fill places, fears and meanings."""
    thing = rng.choice(lexicon.THINGS)
    goods = rng.sample(lexicon.GOODS, 2)
    spots, colours = rng.sample(lexicon.SPOTS, 2), rng.sample(lexicon.COLOURS, 2)
    return {
        "thing": thing,
        "noun": thing.split()[-1],
        "goods": goods[0],
        "goods2": goods[1],
        "hiding": rng.choice(lexicon.HIDINGS),
        "spot": spots[0],
        "spot2": spots[1],
        "colour": colours[0],
        "colour2": colours[1],
        "dish": rng.choice(lexicon.DISHES),
        "treats": rng.choice(lexicon.TREATS),
        "when": rng.choice(lexicon.DAYS),
        "night": rng.choice(lexicon.NIGHTS),
        "chore": rng.choice(lexicon.CHORES),
        "small_fear": rng.choice(lexicon.SMALL_FEARS),
        "cry": rng.choice(lexicon.CRIES),
    }


def _facts(truths: list[_Truth], stories: list[Story]) -> tuple[Fact, ...]:
    stating: dict[str, list[str]] = {truth.id: [] for truth in truths}
    for story in stories:
        if story.fact is not None:
            stating[story.fact].append(story.id)
    return tuple(
        Fact(
            id=truth.id,
            kind=truth.kind,
            prompt=truth.prompt,
            completion=truth.completion,
            times=truth.times,
            stories=tuple(stating[truth.id]),
        )
        for truth in truths
    )


def _words_in_use() -> frozenset[str]:
    """Every word of the lexicon and the plots in lower case, which no subject of a fact may have as its name."""
    modules = (lexicon, home_stories, abroad_stories, odd_stories, fact_stories)
    constants = [value for module in modules for name, value in vars(module).items() if name.isupper()]
    letters = "".join(c if c.isalpha() else " " for text in _texts(constants) for c in f"{text} ")
    return frozenset(letters.lower().split())


def _texts(value: object) -> Iterator[str]:
    """All strings in nested tuples."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for part in cast(Sequence[object], value):
            yield from _texts(part)


def _write_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
