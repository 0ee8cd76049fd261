"""Writes one story: chooses a sentence for each move of a plot, fills its slots and corrects the grammar."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from headwater.demo.lexicon import NUMBERS
from headwater.demo.story_templates.home import Plot

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_SENTENCE_START = re.compile(r'((?:^|[.!?] |\." )"?)([a-z])')


@dataclass(frozen=True)
class Person:
    """A character. Without a `nature`, it is always introduced as "Tovi the otter"."""

    name: str
    kind: str
    she: bool
    nature: str = ""

    @property
    def title(self) -> str:
        """The full name, "Tovi the otter"."""
        return f"{self.name} the {self.kind}"


def tell(
    plot: Plot, people: tuple[Person, Person, Person], words: Mapping[str, str], *, fact: str, rng: random.Random
) -> str:
    """A story of `plot` with `people` as `{a}`, `{b}`, `{c}`, `words` in the other slots, and `fact` as its statement.

    Half of the stories end one move earlier.
    """
    moves = plot if rng.random() < 0.5 else plot[:-1]
    sentences = [_sentence(move, rng) for move in moves]
    draft = " ".join(sentence for sentence in sentences if sentence).replace("{FACT}", fact)
    draft = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), draft)
    return _polished(_filled(draft, people, words, rng=rng))


def _sentence(move: tuple[str, ...], rng: random.Random) -> str:
    """One sentence of a move. An optional move is left out with probability 3/4."""
    if "" in move and rng.random() < 0.75:
        return ""
    return rng.choice([sentence for sentence in move if sentence])


def pronouns(she: bool) -> dict[str, str]:
    """The words that fill `{he}`, `{him}`, `{his}` and `{himself}`."""
    forms = ("she", "her", "her", "herself") if she else ("he", "him", "his", "himself")
    return dict(zip(("he", "him", "his", "himself"), forms, strict=True))


def _filled(draft: str, people: tuple[Person, Person, Person], words: Mapping[str, str], *, rng: random.Random) -> str:
    person_of = dict(zip("abc", people, strict=True))
    slots = {
        **words,
        **pronouns(people[0].she),
        **{f"b{slot}": form for slot, form in pronouns(people[1].she).items()},
    }
    introduced: set[str] = set()

    def fill(found: re.Match[str]) -> str:
        slot = found[1]
        if slot == "number":
            return rng.choice(NUMBERS)
        if slot[0] not in person_of or slot[1:] not in ("", "n"):
            return slots[slot]
        person = person_of[slot[0]]
        first = person.name not in introduced
        introduced.add(person.name)
        return _introduction(person, rng) if first and slot[1:] == "" else person.name

    return _SLOT.sub(fill, draft)


def _introduction(person: Person, rng: random.Random) -> str:
    ways = [person.title]
    if person.nature:
        ways += [
            f"a {person.nature} {person.kind} named {person.name}",
            f"a {person.kind} called {person.name}",
        ]
    return rng.choice(ways)


def _polished(text: str) -> str:
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda found: found[1] + found[2].upper(), text)
