"""`headwater map`: token × token influence of one training example on one completion."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from headwater.attribution.options import Damping
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import (
    HtmlOption,
    MaybePrompt,
    MessagesOption,
    RawOption,
    RunPath,
    SpanOption,
    asked_with,
)
from headwater.cli.progress import say
from headwater.errors import HeadwaterError


@app.command(
    name="map",
    epilog=examples('headwater map runs/stories story-17 "Once upon a time, Lily found a" " shiny key in the garden."'),
)
@with_groups
def token_map(
    run: RunPath,
    example: Annotated[str, typer.Argument(help="Id of a training example, as `ask` shows it.")],
    prompt: MaybePrompt = None,
    completion: Annotated[str | None, typer.Argument(help="Text that it said.", show_default=False)] = None,
    messages: MessagesOption = None,
    raw: RawOption = False,
    span: SpanOption = None,
    damping: Damping = None,
    html: HtmlOption = None,
) -> None:
    """Show token × token influence: which token of one training example pushed which token of COMPLETION."""
    from headwater.runs.run import Run

    given, said = asked_with(prompt, completion, messages)
    if messages is None and said is None:
        raise HeadwaterError("Give a COMPLETION after PROMPT: the text whose tokens are explained.")
    opened = Run.open(run)
    found = opened.token_map(opened.question(given, said, span, raw=raw), example, damping)
    if html is not None:
        say(f"Wrote {found.save_html(html)}")
    Console().print(found)
