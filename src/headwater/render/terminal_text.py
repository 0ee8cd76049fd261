"""Parts of the terminal's views: heat-mapped text with and without colour, bars, the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.style import Style
from rich.text import Text

from headwater.render.heat import Piece, Snippet
from headwater.render.palette import PALETTES, Theme, colour, text_on

WIDTH = 110
"""Wider lines are hard to read."""
NO_CHARACTERS = "▯"
"""Stands for a strong token that covers no characters of the text."""
BOLD = Style(bold=True)
EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Ink:
    """How this terminal is drawn on: its theme, and whether it has enough colours for shades."""

    theme: Theme
    shades: bool

    def sign(self, value: float) -> Style:
        """The style of a number or bar: blue where the example raised the likelihood, orange where it lowered it."""
        palette = PALETTES[self.theme]
        return Style(color=palette.raises_ink if value >= 0 else palette.lowers_ink) if self.shades else Style()

    def fill(self, share: float) -> Style:
        """The shade of a token, with the text on it."""
        background = colour(share, 1, self.theme)
        return Style(color=text_on(background), bgcolor=background)


def ink_of(console: Console, theme: Theme) -> Ink:
    """Shades need 256 colours or more. With fewer, with NO_COLOR or in a pipe, signs are written as marks."""
    return Ink(theme, console.color_system in ("256", "truecolor") and not console.no_color)


def heat_text(part: Snippet, ink: Ink) -> Text:
    """The text shaded token by token, or with its strong tokens as [+raising+] and [-lowering-]."""
    text = Text(overflow="fold")
    text.append("…" if part.cut_before else "", style="dim")
    if ink.shades:
        for piece in part.pieces:
            text.append(piece.lead)
            text.append(_shown(piece).removeprefix(piece.lead), ink.fill(piece.share) if piece.shaded else None)
    else:
        text.append_text(_marked(part.pieces))
    text.append("…" if part.cut_after else "", style="dim")
    text.rstrip()
    return text


def bar(share: float, half: int, ink: Ink) -> Text:
    """A bar from −1 to 1 on an axis with `half` columns on either side of its zero."""
    eighths = max(1, round(abs(share) * half * 8)) if share else 0
    whole, rest = divmod(eighths, 8)
    if share >= 0:
        right, left = ("█" * whole + EIGHTHS[rest].strip()).ljust(half), " " * half
    else:  # the left half of a cell has fewer steps
        left, right = (("" if not rest else "▕" if rest < 3 else "▐") + "█" * whole).rjust(half), " " * half
    return Text.assemble((left[-half:], ink.sign(-1)), ("┃", "dim"), (right[:half], ink.sign(1)))


def legend(ink: Ink) -> Text:
    """How the tokens are marked."""
    if not ink.shades:
        return Text("[-lowered it-] … [+raised it+]", no_wrap=True)
    steps = range(-8, 9)
    cells = [(" ", Style(bgcolor=colour(step / 8, 1, ink.theme))) for step in steps]
    return Text.assemble(("lowered it ", ink.sign(-1)), *cells, (" raised it", ink.sign(1)), no_wrap=True)


def _shown(piece: Piece) -> str:
    if not piece.text:
        return NO_CHARACTERS if piece.strong else ""
    text = piece.text.replace("\t", "    ")
    return text.replace("\n", "⏎\n") if piece.strong else text


def _marked(pieces: Sequence[Piece]) -> Text:
    """The text with runs of strong tokens of one sign between marks, line by line."""
    text = Text()
    for sign, run in groupby(pieces, lambda piece: math.copysign(piece.strong, piece.share)):
        for line in "".join(map(_shown, run)).splitlines(keepends=True):
            text.append_text(_between_marks(line, sign) if sign else Text(line))
    return text


def _between_marks(line: str, sign: float) -> Text:
    """The line between marks, without the white space at its ends."""
    core = line.strip()
    if not core:
        return Text(line)
    before, _, after = line.partition(core)
    mark, style = ("+", "bold underline") if sign > 0 else ("-", "bold")
    return Text.assemble(before, (f"[{mark}{core}{mark}]", style), after)
