"""The faces of an answer: colours, page, terminal. Corpus texts are hostile; none may act on its reader."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from headwater.attribution.answer import Query, QueryToken, TokenInfluence, TokenMap
from headwater.errors import HeadwaterError
from headwater.render.heat import shade, snippet
from headwater.render.html import answer_html, fragment_html, token_map_html
from headwater.render.palette import PALETTES, Theme, channels, colour, contrast, share, text_on
from headwater.render.summary import meaning, probability, signed
from headwater.render.terminal import render_answer
from headwater.render.terminal_map import render_token_map, strongest_columns
from headwater.render.theme import terminal_theme
from headwater.render.visible import one_line, visible
from tests.answers import ANSWER, GOAT, HEN, HOSTILE, QUERY, answer, example, numbers, pieces, tokens, told

THEMES: tuple[Theme, ...] = ("light", "dark")

# -- colours -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
def test_the_strongest_token_has_the_full_colour_and_zero_none(theme: Theme) -> None:
    palette = PALETTES[theme]
    assert colour(3.0, 3.0, theme) == colour(9.0, 3.0, theme) == palette.raises
    assert colour(-3.0, 3.0, theme) == colour(-9.0, 3.0, theme) == palette.lowers
    assert colour(0.0, 3.0, theme) == colour(0.0, 0.0, theme) == colour(math.nan, 3.0, theme) == palette.background


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_colours_go_straight_from_the_background_to_the_full_colour(theme: Theme, sign: int) -> None:
    steps = [channels(colour(sign * step / 64, 1.0, theme)) for step in range(65)]
    for channel in zip(*steps, strict=True):
        assert list(channel) in (sorted(channel), sorted(channel, reverse=True))
    assert len(set(steps)) > 30


@given(numbers, st.floats(1e-6, 100))
def test_opposite_values_are_equally_strong(value: float, scale: float) -> None:
    assert share(-value, scale) == -share(value, scale)
    assert abs(share(value, scale)) <= 1


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read_on_every_colour(theme: Theme) -> None:
    fills = [colour(step / 100, 1.0, theme) for step in range(-100, 101)]
    assert min(contrast(text_on(fill), fill) for fill in fills) >= 4.5
    assert min(contrast(PALETTES[theme].ink, fill) for fill in fills) >= 4.5  # what the pages use
    palette = PALETTES[theme]
    assert min(contrast(ink, palette.background) for ink in (palette.raises_ink, palette.lowers_ink)) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


# -- texts ---------------------------------------------------------------------------------------------------


@given(st.lists(pieces).map("".join))
def test_visible_text_cannot_act(text: str) -> None:
    shown = visible(text)
    acting = [char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert set(acting) <= set("\n\t\u200c\u200d")
    assert visible(shown) == shown
    assert not set(one_line(text)) & set("\n\t\r")
    shown.encode()


def test_visible_text_names_what_it_replaces() -> None:
    assert visible("a\x1b[0m\u202eb\x00\x7f\x9b") == "a␛[0m⟪U+202E⟫b␀␡⟪U+009B⟫"
    assert visible("Zoë said:\n\t“你好” 👨‍👩‍👧") == "Zoë said:\n\t“你好” 👨‍👩‍👧"


@given(st.lists(st.builds(TokenInfluence, pieces, numbers), min_size=1, max_size=60), st.integers(0, 60))
def test_a_snippet_holds_the_strongest_token(tokens: list[TokenInfluence], room: int) -> None:
    everything = shade(tokens)
    part = snippet(everything, room)
    peak = max(abs(piece.share) for piece in everything)
    assert any(abs(piece.share) == peak for piece in part.pieces)
    assert "".join(piece.text for piece in part.pieces) in "".join(piece.text for piece in everything)
    assert part.cut_before or part.pieces[0] is everything[0]
    assert part.cut_after or part.pieces[-1] is everything[-1]
    longest = max(len(piece.text) for piece in everything)
    assert sum(len(piece.text) for piece in part.pieces) <= max(room, longest)


@pytest.mark.parametrize(("before", "shown_before"), [(400, 60), (10, 10), (795, 115), (800, 120)])
def test_a_snippet_is_centred_and_fills_its_room(before: int, shown_before: int) -> None:
    tokens = [TokenInfluence("word ", 0.0)] * 800
    part = snippet(shade([*tokens[:before], TokenInfluence("peak ", -5.0), *tokens[before:]]), 605)
    assert [piece.text for piece in part.pieces].index("peak ") == shown_before
    assert len(part.pieces) == 121


# -- sentences -----------------------------------------------------------------------------------------------


def test_the_meaning_is_said_in_plain_words() -> None:
    said = meaning(ANSWER)
    assert "training on the example made the completion more likely" in said
    assert "Removing the top example, story-00412, from the 3,000 training examples" in said
    assert "change log p by −0.00777 nats (0.77% less likely)" in said


def test_empty_ends_are_said() -> None:
    assert "Nothing in the 3,000 training examples raised or lowered it." in meaning(answer([], []))
    assert "examples lowered it." in meaning(answer(ANSWER.proponents, []))
    alone = meaning(answer([], ANSWER.opponents))
    assert "Nothing in the 3,000 training examples raised it." in alone
    assert "more likely)" in alone
    for empty in (
        answer([], []),
        replace(answer([], []), query=replace(QUERY, span="teapot", generated=True)),
    ):
        assert "Nothing raised it" in printed(empty)
        assert "Nothing lowered it" in answer_html(empty)


def test_relative_ranking_is_explained_and_shown() -> None:
    relative = replace(answer([example(HEN, relative=0.5)], []), rank_by="relative")
    assert "divided by each example's own norm" in meaning(relative)
    assert "relative +0.500" in printed(relative)
    assert "relative +0.500" in answer_html(relative)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (36.94, "+36.9"),
        (-0.0123, "−0.0123"),
        (250.0, "+250"),
        (-12345.6, "−12,346"),
        (1.23e-7, "+1.23e−7"),
    ],
)
def test_numbers_are_short_and_signed(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("loss", "text"),
    [(0.0, "over 99%"), (0.5, "61%"), (4.0, "1.8%"), (10.9, "1 in 54,000"), (900.0, "1 in 10^391")],
)
def test_probabilities_are_readable(loss: float, text: str) -> None:
    assert probability(loss) == text


# -- the page ------------------------------------------------------------------------------------------------

ELEMENTS = re.compile(
    "html|head|meta|title|style|body|main|div|header|p|bdi|span|b|section|h1|h2|article|details|summary|svg|rect"
    "|path|footer|table|thead|tbody|tr|th|td"
)
ATTRIBUTES = re.compile(
    "lang|charset|http-equiv|content|name|class|dir|title|style|data-nats|aria-hidden|aria-label|role|viewbox"
    "|preserveaspectratio|x|y|width|height|d|scope"
)


class Page(HTMLParser):
    """Reads a page back: its elements, its attributes, and the texts of its examples."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.question = ""
        self.styles: list[str] = []
        self.cells = 0
        self._open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.add(tag)
        self.attributes |= set(given)
        self.styles.append(given.get("style") or "")
        self.cells += tag == "td"
        if tag != "meta":
            self._open.append(f"{tag}.{given.get('class') or ''}")
        if self._open[-1] == "bdi.text":
            self.texts.append("")

    def handle_endtag(self, tag):
        assert self._open.pop().partition(".")[0] == tag

    def handle_data(self, data):
        if "bdi.text" in self._open:
            self.texts[-1] += data
        if "bdi.question" in self._open:
            self.question += data

    def require_harmless(self):
        assert not self._open
        assert all(map(ELEMENTS.fullmatch, self.elements))
        assert all(map(ATTRIBUTES.fullmatch, self.attributes))


@settings(max_examples=60)
@given(tokens, tokens, pieces)
def test_a_page_shows_every_text_and_lets_none_act(
    first: list[TokenInfluence], second: list[TokenInfluence], name: str
) -> None:
    query = Query(
        prompt=name,
        completion=name,
        tokens=[QueryToken(name, None, False), QueryToken(name, 2.0, True)],
        loss=2.0,
        span=name,
    )
    hostile = example(first, name, source=name, layers={name: 1.0}, metadata={name: name})
    made = replace(answer([hostile], [example(second)], query), model=name, curvature=name, damping=name)
    source = answer_html(made)
    source.encode()
    page = Page(source)
    page.require_harmless()
    assert page.texts == [visible(made.proponents[0].text), visible(made.opponents[0].text)]
    assert page.question == visible(name) + one_line(name)
    Page(fragment_html(made)).require_harmless()


def test_a_page_needs_nothing_from_elsewhere() -> None:
    source = answer_html(ANSWER)
    assert "default-src 'none'; style-src 'unsafe-inline'" in source
    assert not re.search(r"https?:|url\(|@import|<script|<link", source)


def test_the_strongest_token_of_a_page_is_fully_shaded_and_underlined_by_sign() -> None:
    source = answer_html(ANSWER)
    assert '<span class="t up strong" style="--s:1" title="+20.0">garnets</span>' in source
    assert '<span class="t down strong" style="--s:0.4" title="−8.00">it</span>' in source
    assert '<span class="t" title="0">.</span>' in source
    shared = answer_html(ANSWER, scale="shared")
    assert '<span class="t down strong" style="--s:0.8" title="−16.0">hat</span>' in shared


def test_a_long_text_of_a_page_is_folded_and_whole() -> None:
    long = example([*HEN, *told(*[(" word", 0.001)] * 600)])
    source = answer_html(answer([long], []))
    assert "<details>" in source
    assert Page(source).texts == [long.text]
    assert "<details>" not in answer_html(ANSWER)


def test_a_fragment_styles_only_itself() -> None:
    source = fragment_html(ANSWER)
    assert Page(source).elements.isdisjoint({"html", "head", "body", "meta"})
    style = re.sub(r"@media[^{]*\{(.*?\})\s*\}", r"\1", re.findall(r"<style>(.*?)</style>", source, re.S)[0])
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", style)
    assert len(selectors) > 40
    assert all(".headwater" in part for selector in selectors for part in selector.split(","))
    assert ANSWER._repr_html_() == source


MAP = TokenMap(
    example_id="story-00412",
    query_tokens=[" teapot", "."],
    example_tokens=[token.token for token in HEN],
    values=[[1.0, 0, 0, 20, 0, -8, 0], [8.0, 2, 0, 0, 0, 0, 0]],
)


def test_a_token_map_is_a_table() -> None:
    page = Page(token_map_html(MAP))
    page.require_harmless()
    assert page.cells == 2 * (7 + 1)
    assert page.texts == ["".join(MAP.example_tokens)]
    assert "--s:1" in page.styles
    Page(
        token_map_html(
            TokenMap(
                example_id="<i>",
                query_tokens=HOSTILE,
                example_tokens=HOSTILE,
                values=[[1.0] * len(HOSTILE)] * len(HOSTILE),
            )
        )
    ).require_harmless()


# -- the terminal --------------------------------------------------------------------------------------------


def shown(made: RenderableType, width: int, **options: Any) -> str:
    output = io.StringIO()
    Console(file=output, width=width, _environ={"TERM": "xterm"}, **options).print(made)
    return output.getvalue()


def printed(made: RenderableType, width: int = 100) -> str:
    return shown(made, width)


def in_colour(made: RenderableType, width: int = 100) -> str:
    return shown(made, width, force_terminal=True, color_system="truecolor")


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def bare(text: str) -> str:
    """Without white space and the sign for a line break, which move when a text is wrapped."""
    return re.sub(r"[\s⏎]", "", text)


@settings(max_examples=60)
@given(tokens, pieces)
def test_the_terminal_shows_every_text_and_lets_none_act(tokens: list[TokenInfluence], name: str) -> None:
    made = answer([example(tokens, name, source=name)], [])
    plain = printed(made)
    assert not set(plain) & {"\x1b", "\x07", "\r", "\x00", "\u202e", "\x9b", "\u2066", "\ud800"}
    coloured = without_styles(in_colour(made))
    assert "\x1b" not in coloured
    assert bare(visible(made.proponents[0].text)) in bare(coloured)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = answer([example(HEN * 40, "story-" + "x" * 90, source="/a/long/path" * 20)], ANSWER.opponents)
    for output in (printed(long, width), without_styles(in_colour(long, width))):
        assert max(map(len, output.splitlines())) <= width


def test_the_terminal_gives_the_strongest_token_the_full_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for theme, palette in PALETTES.items():
        monkeypatch.setenv("HEADWATER_THEME", theme)
        output = in_colour(ANSWER)
        for fill, word in ((palette.raises, "garnets"), (palette.lowers, "hat")):
            assert re.search(rf"48;2;{';'.join(map(str, channels(fill)))}m{word}", output)


def test_signs_are_marked_without_colour() -> None:
    assert "[+Vessa+] keeps her [+garnets+] in [-it-]." in printed(ANSWER)
    assert "A goat ate the [-hat-]\n" in printed(ANSWER)
    verse = example(told(("He", 0.1), (" ran", 4), ("\n", 5), ("to", 5), (" me", -5), ("", 4), ("\n", 0)))
    assert "He [+ran⏎+]\n    [+to+] [-me-][+▯+]" in printed(answer([verse], []))
    terminal = {"force_terminal": True, "color_system": "truecolor"}
    assert "[+garnets+]" in without_styles(shown(ANSWER, 100, no_color=True, **terminal))
    assert "[+garnets+]" in without_styles(shown(ANSWER, 100, force_terminal=True, color_system="standard"))


def test_show_limits_both_ends() -> None:
    many = answer(
        [example(HEN, f"up-{rank}") for rank in range(5)],
        [example(GOAT, f"down-{rank}") for rank in range(5)],
    )
    output = printed(render_answer(many, show=2, scale="shared"))
    assert re.findall(r"(?:up|down)-\d", output.partition("Raised")[2]) == [
        "up-0",
        "up-1",
        "down-0",
        "down-1",
    ]


def test_the_theme_comes_from_the_environment() -> None:
    assert terminal_theme({}) == "dark"
    assert terminal_theme({"COLORFGBG": "0;15"}) == "light"
    assert terminal_theme({"COLORFGBG": "0;default;15"}) == "light"
    assert terminal_theme({"COLORFGBG": "15;default;0"}) == "dark"
    assert terminal_theme({"HEADWATER_THEME": "Light", "COLORFGBG": "15;0"}) == "light"
    with pytest.raises(HeadwaterError, match="light or dark"):
        terminal_theme({"HEADWATER_THEME": "blue"})


def test_a_token_map_in_the_terminal_keeps_the_strongest_columns() -> None:
    assert strongest_columns(MAP, 3) == [0, 3, 5]
    output = printed(render_token_map(MAP), width=60)
    assert "the 4 strongest of 7 training tokens" in output
    assert re.search(r"teapot +\+1\.00 +0 +\+20\.0 +−8\.00 +\+13\.0", output)
    assert max(map(len, output.splitlines())) <= 60
    assert "\x1b" in in_colour(render_token_map(MAP))
