"""Verifying an answer on the page: the numbers of Run.verify, where they lead, and how one gets out of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from headwater.attribution.answer import Answer
from headwater.base.progress import Step
from headwater.render.scatter_parts import GROUP_NAMES, axis_limit, numbers
from headwater.render.summary import signed
from headwater.render.verification import checked_with, headline, verdict
from headwater.render.visible import one_line, shorten
from headwater.runs.run import Run
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Check, Verification
from tests.browsing import STORIES, Site, Visit, answered, where
from tests.serving import COMPLETION, PROMPT, Gate
from tests.test_page_access import focus, said, tab_to
from tests.test_page_hard import HOSTILE, harm

RESPONSES: dict[str, Any] = {
    "verify": "pbrf",
    "check-k": 1,
    "check-random": 2,
    "check-subset": 9,
    "check-iterations": 1,
}


def rows(page: Page) -> list[list[str]]:
    """The table of a verification, cell by cell."""
    expect(page.locator("hw-verify table")).to_be_visible()
    script = "all => all.map(row => [...row.cells].slice(0, 4).map(cell => cell.textContent))"
    return page.locator("hw-verify tbody tr").evaluate_all(script)


def told(found: Verification) -> list[list[str]]:
    """What `rows` finds where the page shows this verification."""
    return [
        [shorten(one_line(check.id), 60), GROUP_NAMES[check.group], signed(check.predicted), signed(check.measured)]
        for check in found.checks
    ]


def figures(page: Page) -> list[str]:
    return page.locator("hw-verify .figures dd").all_text_contents()


def written(found: Verification) -> list[str]:
    three = (found.slope, found.correlation, found.spearman)
    return ["none" if one is None else f"{one:.3f}".replace("-", "−") for one in three]


def test_an_answer_is_verified_and_its_marks_lead_to_the_examples(site: Site, visit: Visit) -> None:
    found = site.run.verify(site.run.ask(PROMPT, COMPLETION), k=3, random=4)
    page = visit.answer()
    page.get_by_text("Verify: does the model do what this predicts?").click()
    panel = page.locator("hw-verify")
    panel.get_by_label("Of each end").fill("3")
    panel.get_by_label("At random").fill("4")
    panel.get_by_role("button", name="Verify").click()
    assert rows(page) == told(found)
    assert figures(page) == written(found)
    expect(panel).to_contain_text(f"{headline(found)} {verdict(found)}")
    expect(panel).to_contain_text(checked_with(found))
    assert "verify=step&check-k=3&check-random=4" in where(page)

    def mark(n: int) -> Locator:
        return panel.locator(f'[data-key="mark-{n}"]')

    names = [f"{one_line(check.id)}, {GROUP_NAMES[check.group]}: {numbers(check)}" for check in found.checks]
    for n, name in enumerate(names):
        expect(mark(n)).to_have_attribute("aria-label", name)
    lowered = next(n for n, check in enumerate(found.checks) if check.group == "opponent")
    mark(lowered).hover()
    expect(panel.locator(".readout")).to_have_text(names[lowered].replace(", lowered it:", " (lowered it):"))
    mark(lowered).click()
    assert focus(page) == "card-lowered-1"
    expect(page.locator(":focus")).to_have_text(one_line(found.checks[lowered].id))
    expect(page.locator(":focus")).to_be_in_viewport()
    mark(len(names) - 1).dispatch_event("click")  # one at random, which may lie under others and has no card
    expect(page.locator(".drawer h2")).to_have_text(one_line(found.checks[-1].id))
    page.keyboard.press("Escape")
    assert rows(page) == told(found)

    with site.visit() as other:
        other.page.goto(where(page))
        assert rows(other.page) == told(found)
    page.get_by_role("button", name="Relative").click()  # another answer, which has not been verified
    answered(page)
    expect(panel.locator("table")).to_have_count(0)
    assert "verify" not in where(page)


def test_responses_of_a_contrast_are_verified_by_their_address(site: Site, visit: Visit) -> None:
    answer = site.run.ask(PROMPT, COMPLETION, contrast=" lost a hat.")
    options = VerifyOptions(kind="pbrf", k=1, random=2, subset=9, iterations=1)
    found = site.run.verify(answer, options)
    page = visit.answer(contrast=" lost a hat.", **RESPONSES)
    assert rows(page) == told(found)
    assert figures(page) == written(found)
    panel = page.locator("hw-verify")
    expect(panel.get_by_role("radio", name="Removing each")).to_be_checked()
    expect(panel.locator("svg")).to_contain_text(["", "predicted change of the log odds, nats"])
    expect(panel.locator(".mark.unsettled")).to_have_count(sum(not check.converged for check in found.checks))


def test_a_verification_is_asked_for_and_read_with_the_keyboard(site: Site, visit: Visit) -> None:
    found = site.run.verify(site.run.ask(PROMPT, COMPLETION), k=2, random=1)
    page, press, last = visit.answer(), visit.page.keyboard.press, len(found.checks) - 1
    page.locator('[data-key="verify"]').focus()
    press("Enter")
    tab_to(page, '[data-key="verify-step"]')
    press("ArrowDown")
    expect(page.get_by_role("radio", name="Removing each")).to_be_checked()
    press("ArrowUp")
    for name, value in (("verify-k", "2"), ("verify-random", "1")):
        tab_to(page, f'[data-key="{name}"]')
        page.keyboard.type(value)
    press("Enter")
    assert rows(page) == told(found)
    tab_to(page, ".mark")
    for key, n in (("ArrowRight", 1), ("End", last), ("ArrowLeft", last - 1), ("Home", 0)):
        press(key)
        assert focus(page) == f"mark-{n}"
        expect(page.locator("hw-verify .readout")).to_contain_text(numbers(found.checks[n]))
    press("Enter")
    assert focus(page) == "card-raised-1"
    tab_to(page, '[data-key="check-0"]')
    press("Enter")
    expect(page.locator(".drawer")).to_be_visible()
    press("Escape")
    expect(page.locator('[data-key="check-0"]')).to_be_focused()


def test_on_a_phone_a_mark_leads_to_the_column_that_was_out_of_sight(site: Site) -> None:
    with site.visit(viewport={"width": 390, "height": 844}, has_touch=True) as visit:
        page = visit.answer(verify="step", **{"check-k": 1, "check-random": 1})
        expect(page.locator("section.lowered")).to_be_hidden()
        page.locator(".mark.opponent").tap()
        expect(page.locator("section.lowered .card").first).to_be_in_viewport()
        assert focus(page) == "card-lowered-1"


def test_hostile_examples_are_verified_as_text(visit: Visit) -> None:
    page = visit.answer(verify="step", **{"check-k": 8, "check-random": 0}, **HOSTILE)
    assert {id for id, *_ in rows(page)} == {shorten(one_line(id), 60) for id in STORIES}
    marks = page.locator("hw-verify .mark")
    for n in range(marks.count()):
        marks.nth(n).focus()
        expect(page.locator("hw-verify .readout")).to_contain_text("predicted")
        assert harm(page) == set()


class Endless:
    """Stands in for `Run.verify`: reports progress, and never finds anything."""

    def __init__(self) -> None:
        self.entered, self.stopped = threading.Event(), threading.Event()

    def __get__(self, run: Run, owner: type[Run]) -> Callable[[Answer, VerifyOptions], Verification]:
        return partial(self.verify, run)

    def verify(self, run: Run, answer: Answer, options: VerifyOptions) -> Verification:
        start = time.monotonic()
        self.entered.set()
        try:
            while time.monotonic() < start + 20:
                run.execution.report(
                    Step(stage="responses", done=min(50, int(10 * (time.monotonic() - start))), total=100, tokens=0)
                )
                time.sleep(0.02)
        finally:
            self.stopped.set()
        raise AssertionError("nobody cancelled it")


def test_a_verification_tells_how_long_it_takes_until_it_is_cancelled(
    site: Site, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Endless()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "verify", endless)
        page = visit.answer(**RESPONSES)
        panel = page.locator("hw-verify")
        expect(panel.locator(".stage")).to_contain_text("Taking each example out")
        expect(panel.locator(".counts")).to_contain_text(" of 100 · ")
        expect(panel.locator(".counts")).to_contain_text(" s, about ")
        panel.get_by_role("button", name="Cancel").click()
        expect(panel).to_contain_text("Cancelled.")
        assert endless.stopped.wait(10)
    assert "verify" not in where(page)
    expect(panel.get_by_role("button", name="Verify")).to_be_focused()
    panel.get_by_role("button", name="Verify").click()
    assert len(rows(page)) == 4


@pytest.mark.parametrize("leave", ["another question", "another page", "back"])
def test_what_nobody_waits_for_is_stopped(
    site: Site, visit: Visit, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    page, endless = visit.answer(), Endless()
    monkeypatch.setattr(Run, "verify", endless)
    page.get_by_text("Verify: does").click()
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("hw-verify .counts")).to_contain_text("of 100")
    if leave == "another question":
        page.get_by_role("button", name="Relative").click()
        answered(page)
    elif leave == "another page":
        page.goto("about:blank")
    else:
        page.go_back()
    assert endless.stopped.wait(10)


def test_an_answer_that_comes_while_another_view_is_shown_can_be_verified(
    site: Site, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(site.served)
    monkeypatch.setattr(site.served, "ask", gate)
    page = visit.open("results", prompt=PROMPT, completion=" saw an otter.", verify="step")
    expect(page.locator(".counts")).to_contain_text("of 1,000,000")
    page.get_by_role("link", name="Method").click()
    with page.expect_response("**/v1/verifications*"):
        gate.opened.set()
    page.go_back()
    assert len(rows(page)) == 15


def test_what_may_not_be_asked_is_refused_in_words(visit: Visit) -> None:
    visit.may_fail = True
    page = visit.answer(verify="pbrf", **{"check-k": 20})
    alert = page.locator("hw-verify").get_by_role("alert")
    expect(alert).to_contain_text("45 responses (2 k + random) take too long")
    page.get_by_label("Of each end").fill("1")
    page.get_by_label("At random").fill("0")
    page.get_by_role("radio", name="A small step").check()
    page.get_by_role("button", name="Verify").click()
    assert len(rows(page)) == 2
    expect(alert).to_have_count(0)


def test_numbers_and_axes_are_those_of_the_other_faces(visit: Visit) -> None:
    chance, page = random.Random(2), visit.open()
    sizes = [0.0, 1e-7, 0.098, 0.1, 0.99, 1.47, 7.9, 9.9, *(10 ** chance.uniform(-9, 3) for _ in range(300))]
    checks = [
        Check(
            id="z",
            group="random",
            predicted=chance.choice((-1, 1)) * size,
            measured=size / 3,
            converged=chance.random() < 0.5,
            iterations=3,
            remaining=chance.random(),
        )
        for size in sizes
    ]
    assert said(page, "parts/scatter", "numbers", [[asdict(check)] for check in checks]) == list(map(numbers, checks))
    limits = said(page, "parts/scatter", "axisLimit", [[[asdict(check)]] for check in checks])
    assert limits == pytest.approx([axis_limit([check]) for check in checks])
