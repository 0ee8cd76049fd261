"""The page, as one uses it: ask, choose words, read the answer, look into an example, share it, keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, Page, expect

from headwater.attribution.answer import Answer
from headwater.attribution.options import Sampling
from headwater.render.heat import FAINT
from headwater.render.palette import share
from headwater.render.summary import made_with, meaning, signed
from headwater.render.visible import visible
from tests.browsing import Site, Visit, answered, cards, shares, told, where
from tests.serving import COMPLETION, PROMPT

ASKED: dict[str, Any] = {"prompt": PROMPT, "completion": COMPLETION}


@pytest.fixture(scope="module")
def answer(site: Site) -> Answer:
    """To the whole of COMPLETION."""
    return site.run.ask(PROMPT, COMPLETION)


def drag(page: Page, start: Locator, stop: Locator) -> None:
    """With the mouse, from the middle of one element to that of another."""
    for place, action in ((start, page.mouse.down), (stop, page.mouse.up)):
        box = place.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3, steps=4)
        action()


def state(page: Page) -> dict[str, list[str]]:
    """What the address tells of."""
    return parse_qs(where(page).partition("?")[2])


def span(page: Page) -> tuple[int, int]:
    start, stop = state(page)["span"][0].split("-")
    return int(start), int(stop)


# -- asking


def test_from_a_prompt_to_the_examples_that_made_the_model_say_it(site: Site, visit: Visit) -> None:
    completion = site.run.question(PROMPT, sampling=Sampling(12, 0.8, 5)).completion
    page = visit.open()
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_text("How it is written").click()
    for label, value in {"Tokens": "12", "Temperature (0: the likeliest)": "0.8", "Seed": "5"}.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("What it said")).to_have_value(completion)
    tokens = page.locator(".tok")
    drag(page, tokens.nth(1), tokens.nth(3))
    expect(page.locator("hw-question .readout")).to_contain_text("3 tokens")
    start, stop = span(page)
    assert visible(completion[start:stop]) == "".join(tokens.locator(".said").all_text_contents()[1:4])
    page.get_by_role("button", name="Explain").click()
    answered(page)
    assert cards(page) == told(site.run.ask(PROMPT, completion, span=(start, stop)))


def test_words_are_chosen_by_dragging_either_way_and_by_presets(visit: Visit) -> None:
    completion = " found a key. Then she ran! Tom saw."
    page = visit.open(prompt=PROMPT, completion=completion)
    tokens, chosen = page.locator(".tok"), page.locator('.tok[aria-selected="true"]')
    expect(tokens.first).to_be_visible()
    assert chosen.count() == tokens.count()
    drag(page, tokens.filter(has_text="!"), tokens.filter(has_text="r"))
    assert completion[slice(*span(page))].strip() == "ran!"
    page.get_by_role("button", name="Sentence").click()
    assert completion[slice(*span(page))] == " Then she ran!"
    nats = [float(each or 0) for each in chosen.evaluate_all("all => all.map(one => one.dataset.nats)")]
    page.get_by_role("button", name="Token").click()
    expect(chosen).to_have_count(1)
    assert float(chosen.get_attribute("data-nats") or 0) == max(nats)
    page.get_by_role("button", name="Whole").click()
    assert chosen.count() == tokens.count()
    assert "span" not in state(page)


def test_a_missing_space_is_pointed_out_and_put_in(visit: Visit) -> None:
    page = visit.open(prompt="Tom saw", completion="a fox")
    page.get_by_role("button", name="Put one in").click()
    expect(page.get_by_label("What it said")).to_have_value(" a fox")


def test_an_example_question_can_be_taken(visit: Visit) -> None:
    page = visit.open()
    page.locator(".chip").first.click()
    expect(page.get_by_label("Prompt")).to_have_value(PROMPT)
    expect(page.get_by_label("What it said")).to_have_value(COMPLETION)


# -- the answer


def test_an_address_shows_the_answer_of_the_run(site: Site, visit: Visit) -> None:
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"span": "7-16"}, {"span": (7, 16)}),
        ({"contrast": " lost a hat."}, {"contrast": " lost a hat."}),
        ({"rank": "relative"}, {"rank_by": "relative"}),
        ({"k": 5, "exact": 1}, {"k": 5, "exact": True}),
        ({"contains": "moon", "where": "kind = 'story'"}, {"contains": "moon", "where": "kind = 'story'"}),
        ({"layer": ["*.0.*", "*.1.mlp.c_fc"]}, {"layers": ("*.0.*", "*.1.mlp.c_fc")}),
        ({"damping": "0.5*mean", "exact": 1}, {"damping": "0.5*mean", "exact": True}),
    ]
    for written, asked in pairs:
        page = visit.answer(**written)
        assert cards(page) == told(site.run.ask(PROMPT, COMPLETION, **asked)), written


def test_an_answer_says_what_it_means_and_how_it_was_made(visit: Visit, answer: Answer) -> None:
    page = visit.answer()
    expect(page.locator(".meaning")).to_have_text(meaning(answer))
    expect(page.locator("hw-results > footer")).to_contain_text(made_with(answer))


def test_why_this_rather_than_that(site: Site, visit: Visit) -> None:
    page = visit.open(**ASKED)
    page.get_by_text("Why this rather than that?").click()
    page.get_by_label("Rather than").fill(" lost a hat.")
    expect(page.locator(".asked .contrast")).to_contain_text("lost a hat.")
    page.get_by_role("button", name="Explain").click()
    answered(page)
    expect(page.get_by_role("heading", name="Favoured it")).to_be_visible()
    expect(page.get_by_role("heading", name="Favoured the other")).to_be_visible()
    assert cards(page) == told(site.run.ask(PROMPT, COMPLETION, contrast=" lost a hat."))


def test_only_chosen_layers_count(site: Site, visit: Visit, answer: Answer) -> None:
    page = visit.answer()
    names = site.run.ask(PROMPT, COMPLETION, k=1).proponents[0].layers
    cells = page.locator(".strip .cell")
    assert cells.count() == len(names)
    name = list(names)[-1]
    cells.and_(page.get_by_label(name)).click()
    answered(page)
    assert state(page)["layer"] == [name]
    assert cards(page) == told(site.run.ask(PROMPT, COMPLETION, layers=(name,)))
    page.get_by_role("button", name="Count all").click()
    answered(page)
    assert cards(page) == told(answer)


def test_only_examples_that_the_filters_let_through(site: Site, visit: Visit) -> None:
    page = visit.answer()
    page.get_by_label("with the words").fill("moon")
    page.get_by_role("button", name="Filter").click()
    answered(page)
    assert cards(page) == told(site.run.ask(PROMPT, COMPLETION, contains="moon"))
    page.get_by_role("button", name="Clear").click()
    answered(page)
    page.get_by_role("combobox", name="Column").select_option("kind")
    page.get_by_label("Value").fill("hostile")
    page.get_by_role("button", name="Filter").click()
    answered(page)
    assert state(page)["where"] == ["kind = 'hostile'"]
    assert cards(page) == told(site.run.ask(PROMPT, COMPLETION, where="kind = 'hostile'"))


def test_ranking_and_number_of_examples_are_asked_anew(site: Site, visit: Visit) -> None:
    page = visit.answer()
    page.get_by_role("button", name="Relative").click()
    answered(page)
    page.get_by_role("combobox", name="Show").select_option("5")
    answered(page)
    assert cards(page) == told(site.run.ask(PROMPT, COMPLETION, rank_by="relative", k=5))


def test_how_an_answer_is_drawn(visit: Visit, answer: Answer) -> None:
    page = visit.answer()
    shown = [page.locator(".card").nth(n).locator(".t") for n in range(len(answer.proponents + answer.opponents))]
    assert [max(map(abs, shares(tokens))) for tokens in shown].count(1) == 1
    page.get_by_role("button", name="Each its own").click()
    assert [max(map(abs, shares(tokens))) for tokens in shown].count(1) == len(shown)
    first = answer.proponents[0]
    peak = max(abs(token.influence) for token in first.tokens)
    assert shares(shown[0]) == pytest.approx(shaded([token.influence for token in first.tokens], peak), rel=5e-3)
    page.get_by_role("button", name="Numbers").click()
    written = [signed(token.influence) for token in first.tokens if abs(token.influence) / peak >= FAINT]
    assert shown[0].and_(page.locator("[data-number]")).evaluate_all("all => all.map(t => t.dataset.number)") == written
    expect(page.locator(".glyph")).to_have_count(0)
    page.get_by_role("button", name="Whitespace").click()
    expect(page.locator(".card .glyph").first).to_have_text("·")
    assert {"own", "numbers", "glyphs"} <= state(page).keys()


def shaded(influences: list[float], peak: float) -> list[float]:
    """How `shares` finds tokens of these influences."""
    return [part if abs(part) >= FAINT else 0.0 for part in (share(value, peak) for value in influences)]


# -- one example


def test_the_drawer_adds_up_and_shows_which_token_pushed_which(site: Site, visit: Visit, answer: Answer) -> None:
    example = answer.proponents[0]
    page = visit.answer()
    page.locator(".raised .id").first.click()
    drawer = page.locator(".drawer")
    asked, text = drawer.locator(".query .t"), drawer.locator(".whole .t")
    expect(asked.first).to_be_visible()
    expect(drawer.locator(".badge")).to_have_text("✓ sum of tokens = score")
    expect(drawer.locator(".facts .score")).to_have_text(signed(example.influence))
    found = site.run.token_map(site.run.question(PROMPT, COMPLETION), example.id)
    whole = shares(text)

    row = found.values[3]
    asked.nth(3).hover()
    expect(drawer.locator(".readout")).to_contain_text(signed(sum(row)))
    assert shares(text) == pytest.approx(shaded(row, max(map(abs, row))), rel=5e-3)
    column = [row[5] for row in found.values]
    text.nth(5).hover()
    expect(drawer.locator(".readout")).to_contain_text(signed(sum(column)))
    assert shares(asked) == pytest.approx(shaded(column, max(map(abs, column))), rel=5e-3)

    text.nth(5).click()
    pinned = shares(asked)
    asked.nth(1).hover()
    assert shares(asked) == pinned
    expect(text.nth(5)).to_have_attribute("aria-pressed", "true")
    drawer.get_by_role("button", name="Unpin").click()
    page.mouse.move(5, 5)
    assert shares(text) == whole


def test_stepping_from_peak_to_peak_and_from_example_to_example(visit: Visit, answer: Answer) -> None:
    drawer = visit.drawer(answer.proponents[0].id)
    parts = [abs(part) for part in shares(drawer.locator(".whole .t"))]
    order = sorted(range(len(parts)), key=lambda place: -parts[place])
    peak = drawer.locator(".whole .peak")
    for step in (0, 1):
        drawer.get_by_role("button", name="Next peak").click()
        expect(peak).to_have_attribute("data-place", str(order[step]))
    drawer.get_by_role("button", name="◀").click()
    expect(peak).to_have_attribute("data-place", str(order[0]))
    expect(drawer).to_contain_text("1 of 8, strongest first")
    drawer.get_by_role("button", name="The next one").click()
    expect(drawer.locator("h2")).to_have_text(visible(answer.proponents[1].id))
    drawer.get_by_role("button", name="The one before").click()
    expect(drawer.locator("h2")).to_have_text(visible(answer.proponents[0].id))


def test_a_link_shows_the_same_answer_and_example_to_someone_else(site: Site, visit: Visit, answer: Answer) -> None:
    page = visit.answer(span="7-16", contrast=" lost a hat.", k=5, own=1)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == where(page)
    shown = cards(page)
    page.locator(".lowered .id").first.click()
    expect(page.locator(".drawer .query .t").first).to_be_visible()
    with site.visit() as other:
        other.page.goto(where(page))
        expect(other.page.locator(".drawer .query .t").first).to_be_visible()
        assert cards(other.page) == shown
        assert shares(other.page.locator(".drawer .t")) == shares(page.locator(".drawer .t"))


def test_back_leads_to_what_was_before(visit: Visit) -> None:
    page = visit.open(**ASKED)
    page.get_by_role("button", name="Explain").click()
    answered(page)
    page.locator(".raised .id").first.click()
    expect(page.locator(".drawer")).to_be_visible()
    page.go_back()
    expect(page.locator(".drawer")).to_be_hidden()
    expect(page.locator(".card").first).to_be_visible()
    page.go_back()
    expect(page.get_by_label("What it said")).to_have_value(COMPLETION)


def test_an_answer_is_kept_in_any_format(site: Site, visit: Visit, answer: Answer) -> None:
    page = visit.answer()

    def kept(name: str) -> Path:
        page.get_by_text("Export").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        page.get_by_text("Export").click()
        assert download.value.suggested_filename.startswith("headwater-answer.")
        return download.value.path()

    assert Answer.from_json(kept("JSON").read_bytes()) == answer
    assert kept("CSV").read_bytes().decode() == answer.to_csv()
    assert pq.read_table(kept("Parquet")).equals(answer.to_table())
    html = kept("Page (HTML)").read_text(encoding="utf-8")
    with site.visit() as other:
        other.page.set_content(html)
        expect(other.page.get_by_text(answer.proponents[0].id).first).to_be_visible()
        expect(other.page.locator("script")).to_have_count(0)


# -- what if


def test_what_if_follows_the_text(site: Site, visit: Visit, answer: Answer) -> None:
    def score(text: str) -> str:
        found = site.run.ask_against(site.run.question(PROMPT, COMPLETION), [text], k=1)
        return signed((found.proponents + found.opponents)[0].influence)

    example = answer.proponents[0]
    texts = [example.text, "Lily found a shiny key.", "Tom lost his red hat."]
    expected = [score(text) for text in texts]
    drawer = visit.drawer(example.id)
    drawer.get_by_role("link", name="what if?").click()
    page = visit.page
    box, shown = page.get_by_label("Training text", exact=True), page.locator("hw-what-if .scores .score")
    expect(box).to_have_value(example.text)
    expect(shown).to_have_text(expected[:1])
    box.fill(texts[1])
    expect(shown).to_have_text([expected[1], expected[0]])
    page.get_by_role("button", name="compare with this one").click()
    box.fill(texts[2])
    expect(shown).to_have_text([expected[2], expected[1]])
    assert state(page)["text"] == [texts[2]]
    box.fill("")
    expect(page.locator(".result")).to_contain_text("will be shown here")
