"""The page where it is made hard: by the corpus, by people in a hurry, by a server that goes away, by refusals."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, Route, expect

from headwater.attribution.answer import ScoredExample
from headwater.render.summary import signed
from headwater.render.visible import one_line, visible
from headwater.serve.settings import Settings
from tests.browsing import CHIPS, STORIES, Site, Visit, answered, cards, told
from tests.serving import COMPLETION, PROMPT, Gate, Live, live

HOSTILE = {"where": "kind = 'hostile'", "exact": 1}
LONG = 100_000
"""Characters."""


@pytest.fixture
def gate(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Questions take until it is opened."""
    made = Gate(site.served)
    monkeypatch.setattr(site.served, "ask", made)
    yield made
    made.opened.set()


# -- hostile texts


def drawn(example: ScoredExample) -> str:
    """A text as the page draws it, token by token."""
    return "".join(visible(token.token) for token in example.tokens)


ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
KEPT = set("\n\t\u200c\u200d")


def harm(page: Page) -> set[str]:
    """Elements that a hostile text made of itself, and characters anywhere in sight that act, such as bidi marks."""
    made = page.locator("main, dialog").locator("script, img, i, u, [onerror], bdi b, bdi textarea")
    texts: list[str] = page.evaluate("""() => {
        const names = ["title", "aria-label", "placeholder"];
        const all = [...document.querySelectorAll("body *")];
        const told = all.flatMap((one) => names.map((name) => one.getAttribute(name) ?? ""));
        return [document.title, document.body.textContent, ...told];
    }""")
    return {*made.all_inner_texts(), *(one for one in "".join(texts) if unicodedata.category(one) in ACTING)} - KEPT


def test_hostile_examples_are_shown_as_text(site: Site, visit: Visit) -> None:
    answer = site.run.ask(PROMPT, COMPLETION, where=HOSTILE["where"], exact=True)
    found = answer.proponents + answer.opponents
    assert {example.id for example in found} == STORIES.keys()
    page = visit.answer(**HOSTILE)
    assert cards(page) == told(answer)
    assert page.locator(".card .text").all_text_contents() == [drawn(example) for example in found]
    assert harm(page) == set()
    for example in found:
        drawer = visit.drawer(example.id, **HOSTILE)
        assert drawer.locator("h2").text_content() == one_line(example.id)
        assert drawer.locator(".whole").text_content() == drawn(example)
        assert one_line(str(example.metadata["note"])) in drawer.locator("dd").all_text_contents()
        assert harm(page) == set()


def test_a_hostile_question_is_shown_as_text(visit: Visit) -> None:
    page = visit.open()
    chip = page.locator(".chip").nth(1)
    assert chip.text_content() == one_line(CHIPS[1]["prompt"])
    chip.click()
    expect(page.get_by_label("Prompt")).to_have_value(CHIPS[1]["prompt"])
    for text in list(STORIES.values())[:-1]:
        asked = {"prompt": "Mia", "completion": f" {text}", "contrast": text, "text": text, "where": HOSTILE["where"]}
        visit.open("ask", **asked)
        expect(page.locator(".asked .contrast")).to_contain_text(one_line(text))
        assert "".join(page.locator(".tok .said").all_text_contents()) == f" {visible(text)}"
        visit.open("results", **asked)
        answered(page)
        assert visible(page.locator("hw-question").inner_text()) == page.locator("hw-question").inner_text()
        visit.open("what-if", **asked)
        expect(page.locator("hw-what-if .scores")).to_be_visible()
        assert harm(page) == set()


def test_texts_of_any_length_are_answered_or_refused_in_words(site: Site, visit: Visit) -> None:
    visit.may_fail = True
    text = ("Lily found a shiny key. " * 5000)[:LONG]
    page = visit.open(completion=COMPLETION)
    page.get_by_label("Prompt").fill(text)
    expect(page.get_by_role("alert")).to_contain_text("tokens")
    visit.open("what-if", prompt=PROMPT, completion=COMPLETION)
    box = page.get_by_label("Training text", exact=True)
    box.fill(text)
    answer = site.run.ask_against(site.run.question(PROMPT, COMPLETION), [text], k=1)
    (example,) = answer.proponents + answer.opponents
    expect(page.locator("hw-what-if .scores .score")).to_have_text(signed(example.influence))
    box.fill(text + "!")
    expect(page.get_by_role("alert")).to_contain_text("at most 100000")
    box.fill("x" * (1 << 20))
    expect(page.get_by_role("alert")).to_contain_text("too long")


# -- several at once, and impatience


def test_two_at_once_get_their_own_answers(site: Site) -> None:
    completions = (COMPLETION, " lost his red hat.")
    answers = [told(site.run.ask(PROMPT, completion)) for completion in completions]
    with ExitStack() as stack:
        visits = [stack.enter_context(site.visit()) for _ in completions]
        for visit, completion in zip(visits, completions, strict=True):
            visit.open("results", prompt=PROMPT, completion=completion)
        for visit in visits:
            answered(visit.page)
        assert [cards(visit.page) for visit in visits] == answers


def test_a_question_tells_how_far_it_is_until_it_is_cancelled(site: Site, visit: Visit, gate: Gate) -> None:
    page = visit.open("results", prompt=PROMPT, completion=" walked up the hill.")
    expect(page.locator(".counts")).to_contain_text("of 1,000,000")
    expect(page.locator(".stage")).to_contain_text("batches")
    with site.visit() as other:
        other.open("results", prompt=PROMPT, completion=" went home.")
        expect(other.page.locator(".stage")).to_contain_text(re.compile(r"Waiting for its turn \d ahead"))
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("hw-results")).to_contain_text("Cancelled.")
        expect(other.page.locator(".counts")).to_contain_text("of 1,000,000")  # the first has made way
        gate.opened.set()
        answered(other.page)
    page.get_by_role("button", name="Ask again").click()
    answered(page)


def test_a_question_that_someone_else_cancelled_can_be_asked_again(visit: Visit, gate: Gate) -> None:
    page = visit.page
    with page.expect_request("**/events") as followed:
        visit.open("results", prompt=PROMPT, completion=" saw a fox.")
    with urlopen(Request(followed.value.url.removesuffix("/events"), method="DELETE")):
        expect(page.get_by_role("alert")).to_contain_text("The question was cancelled")
    gate.opened.set()
    page.get_by_role("button", name="Try again").click()
    answered(page)


@pytest.mark.parametrize("end", [Live.stop, Live.kill])
def test_a_server_that_goes_away_can_be_asked_again_when_it_is_back(
    site: Site, gate: Gate, end: Callable[[Live], None]
) -> None:
    server = Live(site.served)
    with site.visit(server.address) as visit:
        visit.may_fail = True
        page = visit.open("results", prompt=PROMPT, completion=COMPLETION)
        results = page.locator("hw-results")
        expect(results.locator(".counts")).to_contain_text("of 1,000,000")
        end(server)
        expect(results.get_by_role("alert")).to_contain_text(re.compile("The server (does not answer|stopped)"))
        again = results.get_by_role("button", name="Try again")
        again.click()
        expect(results.get_by_role("alert")).to_contain_text("The server does not answer")
        gate.opened.set()
        back = Live(site.served, port=server.port)
        try:
            again.click()
            answered(page)
            assert cards(page) == told(site.run.ask(PROMPT, COMPLETION))
        finally:
            back.stop()


def test_a_page_opened_while_the_server_loads_waits_for_it(visit: Visit) -> None:
    refusals = iter([True])

    def refuse(route: Route) -> None:
        if next(refusals, None):
            route.fulfill(status=503, json={"title": "Service Unavailable", "detail": "The run is loading."})
        else:
            route.continue_()

    visit.may_fail = True
    visit.page.route("**/v1/run", refuse)
    page = visit.open()
    expect(page.locator("main")).to_contain_text("The server is loading its model")
    expect(page.get_by_label("Prompt")).to_be_visible()


# -- nothing to show, and refusals


def test_without_a_question_the_way_to_one_is_shown(visit: Visit) -> None:
    page = visit.open("results")
    expect(page.locator("main")).to_contain_text("There is no question yet.")
    page.get_by_role("link", name="Ask one.").click()
    expect(page.get_by_label("Prompt")).to_be_visible()
    visit.open("what-if")
    expect(page.locator("main")).to_contain_text("There is no question yet")
    visit.open(prompt=PROMPT)
    expect(page.locator("main")).to_contain_text("Then the words to explain are chosen here.")


def test_an_answer_with_little_to_tell_says_so(site: Site, visit: Visit) -> None:
    page = visit.answer()
    expect(page.locator(".notice")).to_contain_text("Nothing stands out.")
    visit.may_fail = True
    visit.open("results", prompt=PROMPT, completion=COMPLETION, contains="zebra")
    expect(page.get_by_role("alert")).to_contain_text("containing “zebra”: none of the")


def test_a_bad_condition_is_refused_in_words(site: Site, visit: Visit) -> None:
    visit.may_fail = True
    page = visit.answer()
    page.locator("summary", has_text="SQL condition").click()
    page.get_by_role("textbox", name="SQL condition").fill("colour = 'red'")
    page.get_by_role("button", name="Filter").click()
    trouble = page.get_by_role("alert")
    expect(trouble).to_contain_text("colour")
    expect(trouble).not_to_contain_text("Error(")
    trouble.get_by_role("button", name="Clear the filters").click()
    answered(page)
    assert cards(page) == told(site.run.ask(PROMPT, COMPLETION))


def test_an_example_that_is_not_there(visit: Visit) -> None:
    visit.may_fail = True
    page = visit.open("results", prompt=PROMPT, completion=COMPLETION, example="nobody <b>")
    expect(page.locator(".drawer").get_by_role("alert")).to_contain_text("nobody <b>")
    page.keyboard.press("Escape")
    expect(page.locator(".drawer")).to_be_hidden()
    answered(page)


def test_a_server_with_a_token_asks_for_it_once(site: Site) -> None:
    with live(site.served, Settings(token="open-sesame")) as address, site.visit(address) as visit:
        visit.may_fail = True
        page = visit.open("results", prompt=PROMPT, completion=COMPLETION)
        token = page.get_by_label("Token")
        token.fill("wrong")
        token.press("Enter")
        expect(token).to_have_value("")  # that of another try
        token.fill("open-sesame")
        token.press("Enter")
        answered(page)
        page.reload()
        answered(page)
        assert "open-sesame" not in page.url


def test_nothing_is_asked_of_anyone_else(visit: Visit) -> None:
    """Every visit checks it; here all views are seen in one."""
    asked = {"prompt": PROMPT, "completion": COMPLETION, "text": "Lily found a key."}
    page = visit.page
    for view in ("ask", "results", "what-if", "method"):
        visit.open(view, **asked)
        expect(page.locator(f"hw-{view}, hw-ask").first).to_be_visible()
    origins = page.evaluate("performance.getEntriesByType('resource').map(one => new URL(one.name).origin)")
    assert set(origins) == {visit.address}
    assert visit.outside == []
    assert page.context.cookies() == []
