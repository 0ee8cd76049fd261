"""`headwater ask`: which training examples made the model say that?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from headwater.cli import app
from headwater.cli.options import DampingOption, HtmlOption, PromptArgument, RunPath, SeedOption, SpanOption
from headwater.cli.progress import progress_report, say
from headwater.influence.attribution import RankBy
from headwater.influence.question import Sampling
from headwater.run import Run


@app.command()
def ask(
    run: RunPath,
    prompt: PromptArgument,
    completion: Annotated[
        str | None, typer.Argument(help="What it said. Left out, the model continues the prompt itself.")
    ] = None,
    span: SpanOption = None,
    k: Annotated[int, typer.Option("-k", help="How many examples to show at each end.", min=1)] = 10,
    rank_by: Annotated[
        RankBy, typer.Option(help="relative divides by each example's own norm √I(z, z).")
    ] = "influence",
    damping: DampingOption = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest continuation, when the model writes it.", min=1)] = 24,
    temperature: Annotated[float, typer.Option(help="0 continues greedily; above it, samples.", min=0.0)] = 0.0,
    seed: SeedOption = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON (docs/answer.schema.json).")] = False,
    html: HtmlOption = None,
) -> None:
    """Rank the training examples that pushed COMPLETION up and down after PROMPT, with the responsible tokens shaded.

    [dim]headwater ask runs/stories "Once upon a time, Lily found a" " shiny key in the garden." --span "shiny key"[/]
    """
    opened = Run.open(run)
    question = opened.question(prompt, completion, span, Sampling(max_new_tokens, temperature, seed))
    with progress_report() as report:
        opened.report = report
        answer = opened.ask(question, k=k, rank_by=rank_by, damping=damping)
    if html is not None:
        say(f"Wrote {answer.save_html(html)}")
    if json:
        typer.echo(answer.to_json())
    else:
        Console().print(answer)
