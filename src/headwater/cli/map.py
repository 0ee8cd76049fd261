"""`headwater map`: token × token influence of one training example on one completion."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from headwater.attribution.options import Damping
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import HtmlOption, PromptArgument, RunPath, SpanOption
from headwater.cli.progress import say


@app.command(
    name="map",
    epilog=examples('headwater map runs/stories story-17 "Once upon a time, Lily found a" " shiny key in the garden."'),
)
@with_groups
def token_map(
    run: RunPath,
    example: Annotated[str, typer.Argument(help="Id of a training example, as `ask` shows it.")],
    prompt: PromptArgument,
    completion: Annotated[str, typer.Argument(help="Text that it said.")],
    span: SpanOption = None,
    damping: Damping = None,
    html: HtmlOption = None,
) -> None:
    """Show token × token influence: which token of one training example pushed which token of COMPLETION."""
    from headwater.runs.run import Run

    opened = Run.open(run)
    found = opened.token_map(opened.question(prompt, completion, span), example, damping)
    if html is not None:
        say(f"Wrote {found.save_html(html)}")
    Console().print(found)
