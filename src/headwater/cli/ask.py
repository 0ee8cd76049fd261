"""`headwater ask`: the training examples that made the model say a completion."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from headwater.attribution.options import AskOptions, Sampling
from headwater.cli import app
from headwater.cli.engine import EngineOptions
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
from headwater.cli.progress import progress_report, say


@app.command(
    epilog=examples(
        'headwater ask runs/stories "Once upon a time, Lily found a" " shiny key in the garden." --span "shiny key"',
        'headwater ask runs/stories "Once upon a time" --contains "silver key" --where "tokens < 200"',
        'headwater ask runs/stories "Once upon a time" --exact --engine ray --workers 8',
        'headwater ask runs/chat "What is the capital of France?"',
        "headwater ask runs/chat --messages chat.json",
    )
)
@with_groups
def ask(
    run: RunPath,
    prompt: MaybePrompt = None,
    completion: Annotated[
        str | None, typer.Argument(help="Text that it said. Default: the model's own continuation.")
    ] = None,
    messages: MessagesOption = None,
    raw: RawOption = False,
    span: SpanOption = None,
    contrast: Annotated[
        str | None, typer.Option(help="Another completion: explain why the model says the one rather than the other.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="File of other texts to score (- for standard input): the effect of adding them to the corpus."
        ),
    ] = None,
    options: AskOptions = AskOptions(),
    sampling: Sampling = Sampling(),
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON (docs/answer.schema.json).")] = False,
    html: HtmlOption = None,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Rank the training examples that pushed COMPLETION up and down after PROMPT, with responsible tokens shaded."""
    from headwater.runs.run import Run

    given, said = asked_with(prompt, completion, messages)
    with progress_report() as report, engine.start(report) as execution:
        opened = Run.open(run, execution=execution)
        question = opened.question(given, said, span, sampling=sampling, contrast=contrast, raw=raw)
        if against is None:
            answer = opened.ask(question, options=options)
        else:
            answer = opened.ask_against(question, against, options)
    if html is not None:
        say(f"Wrote {answer.save_html(html)}")
    if json:
        typer.echo(answer.to_json())
    else:
        Console().print(answer)
