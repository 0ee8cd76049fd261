"""Near-duplicates: folded into the strongest of them, and nothing else is."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from headwater.attribution.duplicates import families, near_duplicates, shingles

HEN = "Once upon a time there was a small red hen who lived in a blue house by the sea and loved to sing all day long."


def alike(first: str, second: str) -> bool:
    return near_duplicates(shingles(first), shingles(second))


def test_another_name_or_another_mark_is_a_near_duplicate_and_another_story_is_not() -> None:
    assert alike(HEN, HEN.upper().replace(",", " !"))
    assert alike(HEN, HEN.replace("long", "through"))
    assert not alike(HEN, HEN.replace("hen", "fox").replace("house", "boat").replace("sing", "sail"))
    assert not alike(HEN, "Tom lost his hat.")
    assert not alike("one two", "one three")
    assert alike("One, two!", "one two")


def test_the_strongest_keeps_its_place_and_the_reader_stops_as_soon_as_it_has_enough() -> None:
    read: list[int] = []

    def ranked() -> list[tuple[int, str]]:
        texts = [HEN, "Tom lost his hat.", HEN + " Bye!", "A fox slept.", HEN, "The moon rose.", "Rain fell."]
        return list(enumerate(texts))

    def noting() -> object:
        for position, text in ranked():
            read.append(position)
            yield position, text

    found = list(islice(families(noting()), 4))  # pyright: ignore[reportArgumentType]
    assert [(family.position, family.others) for family in found] == [(0, [2, 4]), (1, []), (3, []), (5, [])]
    assert read == [0, 1, 2, 3, 4, 5]


@given(st.lists(st.sampled_from([HEN, HEN + " Bye!", "Tom lost his hat.", "A fox slept.", "…", ""]), max_size=20))
def test_every_example_is_in_exactly_one_family(texts: list[str]) -> None:
    found = list(families(enumerate(texts)))
    everyone = [position for family in found for position in (family.position, *family.others)]
    assert sorted(everyone) == list(range(len(texts)))
    assert all(alike(texts[f.position], texts[other]) for f in found for other in f.others)
