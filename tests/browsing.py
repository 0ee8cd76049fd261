"""A browser on the page of a small server. It lets nothing out, and whatever goes wrong in the page fails the test."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, Route, expect, sync_playwright

from headwater.attribution.answer import Answer, ScoredExample
from headwater.render.heat import strength
from headwater.render.summary import signed
from headwater.render.visible import one_line, shorten
from headwater.runs.run import Run
from tests.serving import COMPLETION, PROMPT, Live, make_run

BROWSERS = (Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium"))
"""Chromium without windows takes about half the time of the whole browser."""
CHROMIUM = next((path for path in BROWSERS if path.exists()), BROWSERS[0])
NO_CHROMIUM = f"There is no Chromium at {' or '.join(map(str, BROWSERS))}"
ELSEWHERE = re.compile(r"^(?!http://127\.0\.0\.1[:/])")
STATUS = "Failed to load resource"
"""How Chromium begins its own note of a request that was refused or did not arrive."""

STORIES = {
    "<script>alert(1)</script>": "Lily found <script>alert(2)</script> here.",
    "</textarea><b>": "Lily found </textarea></bdi><b>bold</b> keys.",
    '"><img src=x onerror=alert(3)>': 'Lily <img src=x onerror="alert(4)"> found.',
    "\u202eknil\u202c": "Lily \u202edrawkcab\u202c \u200f\u2066a key\u2069 there.",
    "👨‍👩‍👧": "Lily 👨‍👩‍👧 saw a 🦊 e\u0301.",
    "zero\u200bwidth": "Li\u200bly\ufeff fo\u2060und\u00ad a\u200d key.\u2028She.",
    "bell\x07": "Lily\x00 found\x1b[31m a\x7f\x9bkey\x08.\r\n\tShe.",
    "long": "Lily found a shiny key. " * 4300,
}
"""Texts by their ids, both as hostile as a corpus can hold; the last has 100 kB."""
RECORDS = [{"id": id, "text": text, "kind": "hostile", "note": f"<i>{id}</i>"} for id, text in STORIES.items()]
CHIPS = [{"prompt": PROMPT, "completion": COMPLETION}, {"prompt": '</button><script>alert(5)</script>"\u202e'}]


@dataclass(kw_only=True)
class Visit:
    """One person's browser, with nothing kept from any other."""

    page: Page
    address: str
    may_fail: bool = False
    """Whether requests are expected to be refused."""
    outside: list[str] = field(default_factory=list[str])
    """Addresses of other machines that the page asked for."""
    errors: list[str] = field(default_factory=list[str])

    def open(self, view: str = "ask", **state: Any) -> Page:
        """Go to a view by its address."""
        self.page.goto(f"{self.address}/#{view}?{urlencode(state, doseq=True)}")
        return self.page

    def answer(self, **state: Any) -> Page:
        """Go to an answer, and wait for it."""
        self.open("results", **{"prompt": PROMPT, "completion": COMPLETION, **state})
        answered(self.page)
        return self.page

    def drawer(self, example: str, **state: Any) -> Locator:
        """Go to an example of an answer, and wait for its token × token map."""
        self.answer(example=example, **state)
        expect(self.page.locator(".drawer .query .t").first).to_be_visible()
        return self.page.locator(".drawer")

    def watch(self) -> None:
        def away(route: Route) -> None:
            self.outside.append(route.request.url)
            route.abort()

        def heard(kind: str, text: str) -> None:
            if kind == "error" and not (self.may_fail and text.startswith(STATUS)):
                self.errors.append(text)

        def acted(dialog: Dialog) -> None:
            self.errors.append(f"a dialog: {dialog.message}")
            dialog.dismiss()

        self.page.context.route(ELSEWHERE, away)
        self.page.on("console", lambda message: heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", acted)


@dataclass(frozen=True)
class Site:
    """A server over a run, and a browser."""

    run: Run
    """For tests to ask: one that no other thread works with."""
    served: Run
    """The server's own, of the same directory."""
    server: Live
    browser: Browser

    @contextmanager
    def visit(self, address: str | None = None, **options: Any) -> Iterator[Visit]:
        """A fresh context, with the options of Playwright's new_context."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(10_000)
        made = Visit(page=context.new_page(), address=address or self.server.address)
        made.watch()
        try:
            yield made
            assert made.errors == []
            assert made.outside == []
        finally:
            context.close()


@pytest.fixture(scope="session")
def page_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with hostile stories and questions to begin with."""
    run = make_run(tmp_path_factory.mktemp("page"), more=RECORDS)
    (run.path / "examples.jsonl").write_text("\n".join(map(json.dumps, CHIPS)), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Where there is none the test is skipped; under CI it fails. It is closed with the module, for while it is open
    asyncio has a loop running in this thread."""
    if not CHROMIUM.exists():
        pytest.fail(NO_CHROMIUM) if os.environ.get("CI") else pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(chromium: Browser, page_run: Run) -> Iterator[Site]:
    served = Run.open(page_run.path)
    server = Live(served)
    yield Site(page_run, served, server, chromium)
    server.stop()


@pytest.fixture
def visit(site: Site) -> Iterator[Visit]:
    with site.visit() as made:
        yield made


LAST_LINE = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Note which tests were skipped because there is no browser."""
    skipped = [report for report in terminalreporter.getreports("skipped") if NO_CHROMIUM in str(report.longrepr)]
    if skipped:
        files = sorted({report.nodeid.split("::")[0] for report in skipped})
        config.stash[LAST_LINE] = (
            f"{NO_CHROMIUM}: {len(skipped)} tests of {', '.join(files)} were skipped. "
            "Install it with: apt-get install chromium-headless-shell"
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print that as the last line of all."""
    if line := config.stash.get(LAST_LINE, ""):
        print(line)  # noqa: T201


# -- what is read from a page


def where(page: Page) -> str:
    """The address. Playwright's own `page.url` learns of a changed fragment late."""
    return page.evaluate("location.href")


def answered(page: Page) -> None:
    """Wait until the answer to what is asked is there."""
    expect(page.locator("hw-results:not(.busy) > header")).to_be_visible()


def cards(page: Page) -> list[list[tuple[str, str]]]:
    """The id and score of every card, of both columns."""
    script = "all => all.map(card => ['.id', '.score'].map(part => card.querySelector(part).textContent))"
    ends = (page.locator(f".{end} .card").evaluate_all(script) for end in ("raised", "lowered"))
    return [[(id, score) for id, score in end] for end in ends]


def told(answer: Answer) -> list[list[tuple[str, str]]]:
    """What `cards` finds where the page shows this answer."""

    def card(example: ScoredExample) -> tuple[str, str]:
        return shorten(one_line(example.id), 60), signed(strength(example, answer.rank_by))

    return [[card(example) for example in end] for end in (answer.proponents, answer.opponents)]


def shares(tokens: Locator) -> list[float]:
    """How strongly each token is shaded, negative where it is orange; what is too faint for a shade is 0."""
    script = """all => all.map(one => (one.classList.contains("up") ? 1 : one.classList.contains("down") ? -1 : 0)
        * Number(one.style.getPropertyValue("--s")))"""
    return tokens.evaluate_all(script)
