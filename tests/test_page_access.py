"""The page for everyone: by keyboard, in the dark, on a phone, read aloud; and with the words and colours of Python."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import DEFAULT_OPTIONS, Axe
from playwright.sync_api import Page, expect

from headwater.attribution.answer import TokenInfluence
from headwater.render.heat import largest_influence, shade, snippet
from headwater.render.palette import PALETTES, Palette, Theme, channels, contrast, css_channels
from headwater.render.summary import probability, signed
from headwater.render.visible import one_line, shorten, visible
from tests.answers import HOSTILE
from tests.browsing import Site, Visit, answered, where
from tests.serving import COMPLETION, ODD_ID, PROMPT

ASKED: dict[str, Any] = {"prompt": PROMPT, "completion": COMPLETION}
TEXT = "Lily found a shiny key."
UNSETTLED: dict[str, Any] = {"verify": "pbrf", "check-k": 2, "check-subset": 8, "check-iterations": 1}
"""A verification whose table is as wide as it can be."""
THEMES: tuple[Theme, ...] = ("light", "dark")


def every_view(visit: Visit) -> Iterator[str]:
    """Go to every view and state in turn."""
    page = visit.page
    visit.open(**ASKED, contrast=" lost a hat.")
    expect(page.locator(".asked .contrast")).to_be_visible()
    yield "asking"
    visit.answer(numbers=1, glyphs=1)
    yield "an answer"
    visit.answer(**UNSETTLED)
    expect(page.locator("hw-verify .mark").first).to_be_visible()
    yield "a verification"
    visit.drawer(ODD_ID)
    page.locator(".drawer .whole .t").nth(2).click()
    yield "an example"
    visit.open("what-if", **ASKED, text=TEXT)
    expect(page.locator("hw-what-if .scores")).to_be_visible()
    yield "what if"
    visit.open("method", **ASKED)
    expect(page.get_by_role("heading", name="How to read this")).to_be_visible()
    yield "the method"
    visit.may_fail = True
    visit.open("results", **ASKED, where="colour = 'red'")
    expect(page.get_by_role("alert")).to_be_visible()
    yield "an error"


# -- by keyboard


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is there; on every stop on the way it can be seen."""
    for _ in range(60):
        page.keyboard.press("Tab")
        seen, there = page.evaluate(
            """selector => {
                const at = document.activeElement;
                const marked = at.querySelector(".caret") ?? at;
                return [getComputedStyle(marked).outlineStyle !== "none", at.matches(selector)];
            }""",
            selector,
        )
        assert seen, "the focus cannot be seen"
        if there:
            return
    raise AssertionError(f"Tab never leads to {selector}")


def focus(page: Page) -> str | None:
    return page.evaluate("document.activeElement.dataset.key ?? document.activeElement.id")


def test_everything_can_be_done_with_the_keyboard(visit: Visit) -> None:
    page, press = visit.open(), visit.page.keyboard.press
    expect(page.locator(".chip").first).to_be_visible()
    tab_to(page, ".skip")
    press("Enter")
    assert focus(page) == "main"
    tab_to(page, "#box-prompt")
    page.keyboard.type(PROMPT)
    tab_to(page, "#box-completion")
    page.keyboard.type(COMPLETION)
    expect(page.locator(".tok").first).to_be_visible()
    tab_to(page, ".tokens")
    for key in ("Home", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        press(key)
    expect(page.locator('.tok[aria-selected="true"]')).to_have_count(3)
    press("Enter")
    answered(page)
    tab_to(page, ".raised .id")
    press("Enter")
    drawer = page.locator(".drawer")
    expect(drawer.locator(".query .t")).to_have_count(3)
    assert focus(page) == "drawer-title"
    tab_to(page, ".query .t")
    press("ArrowRight")
    press("Enter")
    expect(drawer.locator(".pinned")).to_have_attribute("data-place", "1")
    tab_to(page, '[data-key="peak"]')
    press("Enter")
    expect(drawer.locator(".peak")).to_have_count(1)
    press("Escape")
    expect(drawer).to_be_hidden()
    expect(page.locator(".raised .id").first).to_be_focused()


@pytest.mark.parametrize("key", ["relative", "own", "numbers", "k", "filter"])
def test_the_focus_stays_where_something_was_changed(visit: Visit, key: str) -> None:
    page = visit.answer()
    control = page.locator(f'[data-key="{key}"]')
    control.focus()
    page.keyboard.press("ArrowUp" if key == "k" else "Enter")
    answered(page)
    expect(control).to_be_focused()


# -- dark, narrow, read aloud


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_is_the_systems_until_it_is_chosen(site: Site) -> None:
    light, dark = "rgb(245, 244, 241)", "rgb(15, 17, 20)"
    with site.visit(color_scheme="dark") as visit:
        page = visit.open()
        assert background(page) == dark
        page.get_by_role("button", name="Theme: system").click()
        assert background(page) == light
        page.reload()
        assert background(page) == light
        page.get_by_role("button", name="Theme: light").click()
        page.emulate_media(color_scheme="light")
        assert background(page) == dark
        page.get_by_role("button", name="Theme: dark").click()
        assert background(page) == light


def test_every_view_fits_on_a_phone(site: Site) -> None:
    with site.visit(viewport={"width": 390, "height": 844}, has_touch=True) as visit:
        for view in every_view(visit):
            width = visit.page.evaluate("""() => Math.max(document.documentElement.scrollWidth,
                ...[...document.querySelectorAll("dialog[open]")].map((one) => one.scrollWidth))""")
            assert width <= 390, view
        page = visit.answer()
        raised, lowered = page.locator("section.raised"), page.locator("section.lowered")
        expect(lowered).to_be_hidden()
        page.get_by_role("button", name="Lowered it").tap()
        expect(raised).to_be_hidden()
        expect(lowered).to_be_visible()
        page.get_by_text("All examples, layers and filters").tap()
        expect(page.get_by_label("with the words")).to_be_visible()


def grave(page: Page, options: dict[str, Any]) -> list[str]:
    """What axe finds that shuts someone out, and where."""
    found = Axe().run(page, options=DEFAULT_OPTIONS | options).response["violations"]
    serious = (one for one in found if one["impact"] in ("serious", "critical"))
    return [f"{one['id']}: {node['target']}" for one in serious for node in one["nodes"]]


def test_no_view_shuts_anyone_out(visit: Visit) -> None:
    for view in every_view(visit):
        visit.page.emulate_media(color_scheme="light")
        assert grave(visit.page, {}) == [], view
        visit.page.emulate_media(color_scheme="dark")
        assert grave(visit.page, {"runOnly": ["color-contrast"]}) == [], f"{view}, in the dark"


# -- the same words and colours as Python


def said(page: Page, module: str, function: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
    """What a function of the page's modules returns, call by call; JSON can carry halves of characters."""
    script = """async ([address, name, calls]) => {
        const act = (await import(address))[name];
        return JSON.stringify(JSON.parse(calls).map((given) => act(...given)));
    }"""
    address = f"{where(page).partition('#')[0]}{module}.js"
    return json.loads(page.evaluate(script, [address, function, json.dumps(calls)]))


def test_numbers_are_written_as_python_writes_them(visit: Visit) -> None:
    chance = random.Random(0)
    values = [0.0, 1e-4, 999.4, 999.6, 1000.0, 123456.7, 999999.4, 1e6, 1.234e-5, 9.995e-5, 99.95, 5e-324, 1e300]
    values += [chance.choice((-1, 1)) * 10 ** chance.uniform(-12, 12) for _ in range(2000)]
    losses = [0.0, 0.005, 0.01, 2.3, 6.9, 6.91, 35.9, 36.1, 800.0, *(chance.uniform(0, 50) for _ in range(2000))]
    page = visit.open()
    assert said(page, "words", "signed", [[value] for value in values]) == list(map(signed, values))
    assert said(page, "words", "probability", [[loss] for loss in losses]) == list(map(probability, losses))


def test_texts_are_made_visible_as_python_does_it(visit: Visit) -> None:
    everything = (chr(code) for code in [*range(0x30000), *range(0xE0000, 0xE1000)])
    texts = [*HOSTILE, "x".join(one for one in everything if unicodedata.category(one) != "Cn")]
    page = visit.open()
    assert said(page, "words", "visible", [[text] for text in texts]) == list(map(visible, texts))
    assert said(page, "words", "oneLine", [[text] for text in texts]) == list(map(one_line, texts))
    cuts = [("".join(HOSTILE[-3:]) + "🦊🦊🦊", length) for length in range(20)]
    assert said(page, "words", "shorten", cuts) == [shorten(*cut) for cut in cuts]


def test_texts_are_shaded_and_cut_as_python_does_it(visit: Visit) -> None:
    chance = random.Random(1)
    page = visit.open()
    shades: list[Any] = []
    cuts: list[Any] = []
    expected: list[Any] = []
    for _ in range(40):
        count = chance.randint(1, 60)
        tokens = [TokenInfluence(chance.choice([*HOSTILE, " word"]), chance.gauss(0, 3)) for _ in range(count)]
        scale = chance.choice([largest_influence(tokens), 2.0, 0.0])
        pieces = shade(tokens, scale)
        drawn = [{"text": piece.text, "influence": piece.influence, "share": piece.share} for piece in pieces]
        room = chance.randint(0, 300)
        cut = snippet(pieces, room)
        shades.append(([{"token": token.token, "influence": token.influence} for token in tokens], scale))
        cuts.append((drawn, room))
        expected.append((drawn, cut))
    shaded, snippets = said(page, "heat", "shade", shades), said(page, "heat", "snippet", cuts)
    for got, part, (drawn, cut) in zip(shaded, snippets, expected, strict=True):
        assert [{name: piece[name] for name in drawn[0]} for piece in got] == drawn
        assert [piece["text"] for piece in part["pieces"]] == [piece.text for piece in cut.pieces]
        assert (part["before"], part["after"]) == (cut.cut_before, cut.cut_after)


def colours(page: Page) -> dict[str, str]:
    """The page's palette, as style.css names it."""
    names = ["card", "ink", "up", "down", "up-ink", "down-ink", "page", "quiet", "wash"]
    script = "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`))"
    return dict(zip(names, page.evaluate(script, names), strict=True))


def named(palette: Palette) -> dict[str, str]:
    return {
        "card": palette.background,
        "ink": palette.ink,
        "up": css_channels(palette.raises),
        "down": css_channels(palette.lowers),
        "up-ink": palette.raises_ink,
        "down-ink": palette.lowers_ink,
    }


@pytest.mark.parametrize("theme", THEMES)
def test_the_page_has_the_colours_of_every_face(visit: Visit, theme: Theme) -> None:
    page, palette = visit.open(), PALETTES[theme]
    page.emulate_media(color_scheme=theme)
    shown = colours(page)
    assert named(palette).items() <= shown.items()
    page.emulate_media(color_scheme="dark" if theme == "light" else "light")
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    assert colours(page) == shown, "chosen, a theme has the colours of the system's"
    grounds = (shown["page"], shown["card"], shown["wash"])
    inks = (palette.ink, shown["quiet"], palette.raises_ink, palette.lowers_ink)
    assert min(contrast(ink, ground) for ink in inks for ground in grounds) >= 4.5
    assert min(contrast(palette.ink, fill) for fill in (palette.raises, palette.lowers)) >= 4.5


# Machado, Oliveira & Fernandes 2009, table 1, severity 1.0; for linear RGB.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("theme", THEMES)
def test_blue_and_orange_are_told_apart_with_every_kind_of_colour_blindness(theme: Theme, kind: str) -> None:
    palette = PALETTES[theme]
    for blue, orange in ((palette.raises, palette.lowers), (palette.raises_ink, palette.lowers_ink)):
        one, other = (lab(times(BLINDNESS[kind], linear(colour))) for colour in (blue, orange))
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 >= 20


def linear(colour: str) -> list[float]:
    parts = (channel / 255 for channel in channels(colour))
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(rgb: list[float]) -> list[float]:
    """Linear RGB, as far as a screen can show it, in CIE L*a*b* under D65."""
    xyz = times(XYZ, [min(1.0, max(0.0, part)) for part in rgb])
    parts = (value / white for value, white in zip(xyz, WHITE, strict=True))
    x, y, z = (part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116 for part in parts)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]
