"""Answers and token maps as HTML that opens from disk: no script, nothing loaded, every text escaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from headwater.attribution.answer import Answer, TokenMap
from headwater.render.cards import cards, question
from headwater.render.grid import grid
from headwater.render.heat import ScaleBy
from headwater.render.palette import PALETTES, css_channels
from headwater.render.summary import alike, instead, made_with, meaning, probability, signed, subject, surprisal
from headwater.render.visible import one_line, shorten


def in_pixels(css: str) -> Markup:
    """Lengths in rem as pixels: the page around a fragment decides how large a rem is."""
    return Markup(re.sub(r"(\d*\.?\d+)rem\b", lambda found: f"{16 * float(found[1]):g}px", css))  # noqa: S704


FILTERS: dict[str, Callable[..., str]] = {
    "alike": alike,
    "instead": instead,
    "signed": signed,
    "probability": probability,
    "one_line": one_line,
    "css_channels": css_channels,
    "in_pixels": in_pixels,
}


def answer_html(answer: Answer, scale: ScaleBy = "card") -> str:
    """One self-contained page. `scale` says whose strongest token gets the full colour."""
    return _render("page.html", **_answer(answer, scale))


def fragment_html(answer: Answer, scale: ScaleBy = "card") -> str:
    """The same inside a <div> with its own styles, for a notebook."""
    return _render("fragment.html", **_answer(answer, scale))


def token_map_html(token_map: TokenMap) -> str:
    """A self-contained page with the map as a heat table: query tokens down, training tokens across."""
    return _render("token_map.html", grid=grid(token_map))


def token_map_cell(token_map: TokenMap) -> str:
    """The page of a token map in a frame, for a notebook."""
    # Pixels for headings and labels, for the example's text in lines of some 100 characters, and for the rows.
    lines = 1 + len("".join(token_map.example_tokens)) // 100
    height = min(340 + 27 * lines + 33 * len(token_map.query_tokens), 800)
    page = escape(token_map_html(token_map))
    return f'<iframe srcdoc="{page}" style="width: 100%; height: {height}px; border: 0"></iframe>'


def _answer(answer: Answer, scale: ScaleBy) -> dict[str, Any]:
    raised, lowered = cards(answer, scale)
    query = answer.query
    return {
        "title": shorten(one_line(query.prompt + query.completion), 80),
        "question": question(query),
        "subject": subject(query),
        "contrast": None if answer.contrast is None else answer.contrast.completion.strip(),
        "surprisal": surprisal(query.loss),
        "meaning": meaning(answer),
        "scale": scale,
        "columns": [("raised", raised), ("lowered", lowered)],
        "made_with": made_with(answer),
        "added": answer.added,
    }


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values, palettes=PALETTES)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("headwater.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, function in FILTERS.items():
        environment.filters[name] = function  # pyright: ignore[reportUnknownMemberType]
    return environment
