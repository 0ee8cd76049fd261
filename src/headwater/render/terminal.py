"""An answer, and one of its examples, in the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.style import Style
from rich.text import Text

from headwater.attribution.answer import Answer, Query, ScoredExample
from headwater.render.heat import ScaleBy, axis, shade, shared_scale, snippet, strength
from headwater.render.palette import Theme, share
from headwater.render.summary import alike, in_prompt, instead, made_with, meaning, signed, subject, surprisal
from headwater.render.terminal_text import BOLD, WIDTH, Ink, bar, heat_text, ink_of, legend
from headwater.render.theme import terminal_theme
from headwater.render.visible import one_line, shorten, shorten_left, visible

TERMINAL_SNIPPET = 600
"""Characters that are shown of a longer text, around its strongest token."""
PROMPT = 600
"""Characters that are shown of the end of a longer prompt."""
TOKENS = 16
"""Selected tokens whose surprisal is listed."""
EXAMPLE_BAR = 10
"""Columns of a bar to either side of its zero."""
INDENT = 4
LAYERS = 3
"""Layers that the view of one example names."""


def render_answer(answer: Answer, *, show: int | None = None, scale: ScaleBy = "card") -> RenderableType:
    """The answer for a rich console: the question, what the numbers mean, and the examples, heat-mapped.

    `show` limits the examples at each end. `scale` says whose strongest token gets the full colour. The theme
    comes from the environment (see terminal_theme). Without colour strong tokens are marked [+so+] or [-so-].
    """
    return _AnswerView(answer, show, scale, terminal_theme(os.environ))


def render_example(example: ScoredExample) -> RenderableType:
    """One example of an answer for a rich console: its influence, its text, heat-mapped, and its strongest layers."""
    return _ExampleView(example, terminal_theme(os.environ))


@dataclass(frozen=True)
class _AnswerView:
    answer: Answer
    show: int | None
    scale: ScaleBy
    theme: Theme

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = min(options.max_width, WIDTH)
        ink = ink_of(console, self.theme)
        for part in (*self._head(ink), *self._cards(ink, width), *self._foot()):
            yield Constrain(part, width)

    def _head(self, ink: Ink) -> Iterator[RenderableType]:
        query = self.answer.query
        yield _question(query)
        if self.answer.contrast is not None:
            yield Text.assemble(("rather than", "dim"), visible(self.answer.contrast.completion))
        yield Text()
        yield _surprisal(query)
        yield Text()
        yield Text(meaning(self.answer))
        yield Text()
        yield _shading_note(ink, self.scale)

    def _cards(self, ink: Ink, width: int) -> Iterator[RenderableType]:
        answer = self.answer
        for word, examples, sign in (("Raised", answer.proponents, 1), ("Lowered", answer.opponents, -1)):
            yield Text()
            yield _heading(f"{word} its likelihood", ink.sign(sign) + BOLD, width)
            if not examples:
                yield Text(f"    Nothing {word.lower()} it.", style="dim")
            for rank, example in enumerate(examples[: self.show], start=1):
                yield Text()
                yield self._card_line(rank, example, ink, width=width)
                yield _Indented(self._card_text(example, ink))
                if example.heads:
                    yield _Indented(_strongest_heads(example))
                if instead(example):
                    yield _Indented(Text(instead(example), style="dim"))

    def _card_line(self, rank: int, example: ScoredExample, ink: Ink, *, width: int) -> Text:
        value = strength(example, self.answer.rank_by)
        line = Text(f"{rank:>3} ", no_wrap=True, overflow="ellipsis")
        line.append(f"{signed(example.influence):<9}", ink.sign(value) + BOLD)
        if example.relative is not None:
            line.append(f"relative {signed(example.relative):<8}", ink.sign(value))
        line.append_text(bar(share(value, axis(self.answer)), EXAMPLE_BAR, ink))
        line.append("  " + shorten(one_line(example.id), max(12, width - line.cell_len - 2)), "bold")
        if alike(example) and width - line.cell_len >= 12:
            line.append("  " + alike(example))
        room = width - line.cell_len - 2
        if example.source and room >= 12:
            line.append("  " + shorten_left(one_line(example.source), room), "dim")
        return line

    def _card_text(self, example: ScoredExample, ink: Ink) -> Text:
        pieces = shade(example.tokens, shared_scale(self.answer, self.scale))
        return heat_text(snippet(pieces, TERMINAL_SNIPPET), ink)

    def _foot(self) -> Iterator[RenderableType]:
        yield Text()
        yield Text(made_with(self.answer), style="dim")


@dataclass(frozen=True)
class _ExampleView:
    example: ScoredExample
    theme: Theme

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = min(options.max_width, WIDTH)
        for part in self._parts(ink_of(console, self.theme), width):
            yield Constrain(part, width)

    def _parts(self, ink: Ink, width: int) -> Iterator[RenderableType]:
        example = self.example
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{signed(example.influence):<9}", ink.sign(example.influence) + BOLD)
        if example.relative is not None:
            line.append(f"relative {signed(example.relative):<8}", ink.sign(example.relative))
        line.append(one_line(example.id), "bold")
        for words in filter(None, (alike(example), one_line(example.source))):
            line.append(f"  {words}", "dim")
        yield line
        yield _Indented(heat_text(snippet(shade(example.tokens), TERMINAL_SNIPPET), ink))
        strongest = sorted(example.layers.items(), key=lambda layer: -abs(layer[1]))[:LAYERS]
        parts = ", ".join(f"{one_line(name)} {signed(value)}" for name, value in strongest)
        yield _Indented(Text(f"removal {signed(example.removal_effect)} nats · strongest layers: {parts}", style="dim"))
        if example.heads:
            yield _Indented(_strongest_heads(example))


def _strongest_heads(example: ScoredExample) -> Text:
    heads = [(name, number, value) for name, parts in example.heads.items() for number, value in enumerate(parts)]
    strongest = sorted(heads, key=lambda head: -abs(head[2]))[:LAYERS]
    words = ", ".join(f"{one_line(name)} #{number} {signed(value)}" for name, number, value in strongest)
    return Text(f"strongest heads: {words}", style="dim")


@dataclass(frozen=True)
class _Indented:
    """A text below its card's line. rich's Padding would leave spaces at the ends of lines."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for line in self.text.wrap(console, options.max_width - INDENT):
            yield Text.assemble(" " * INDENT, line)


def _question(query: Query) -> Text:
    prompt = "".join(token.token for token, before in in_prompt(query) if before)
    text = Text(shorten_left(visible(prompt), PROMPT), style="dim", overflow="fold")
    question = Text(overflow="fold").append_text(text)
    for token, before in in_prompt(query):
        if not before:
            question.append(visible(token.token), "bold underline" if token.selected else "bold")
    return question


def _surprisal(query: Query) -> Text:
    """The loss of the question, and of its selected tokens where there are several."""
    words = subject(query)
    text = Text.assemble(("Surprisal", "bold"), f" of {words}: {surprisal(query.loss)}")
    selected = [token for token in query.tokens if token.selected and token.loss is not None]
    if len(selected) > 1:
        text.append("\nby token ", "dim")
        for token in selected[:TOKENS]:
            text.append(one_line(token.token.strip() or token.token), "underline")
            text.append(f" {token.loss:.2f}   ")
        text.append("…" if len(selected) > TOKENS else "", "dim")
    return text


def _shading_note(ink: Ink, scale: ScaleBy) -> Text:
    where = "each text" if scale == "card" else "all texts"
    note = "full colour: strongest in" if ink.shades else "marks the strong tokens of"
    return Text.assemble(legend(ink), (f"   {note} {where}", "dim"))


def _heading(title: str, style: Style, width: int) -> Text:
    return Text.assemble((title, style), (" " + "─" * max(0, width - len(title) - 1), "dim"), no_wrap=True)
