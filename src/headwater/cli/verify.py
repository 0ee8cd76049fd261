"""`headwater verify`: compare what an answer predicts with what the model does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import HtmlOption, RunPath
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError
from headwater.verify.options import VerifyOptions

if TYPE_CHECKING:
    from headwater.attribution.answer import Answer


@app.command(
    epilog=examples(
        'headwater ask runs/stories "Once upon a time, Lily found a" " shiny key." --json > key.json',
        "headwater verify runs/stories key.json --kind pbrf --weight 0.1 --html key.html",
    )
)
@with_groups
def verify(
    run: RunPath,
    answer: Annotated[Path, typer.Argument(metavar="ANSWER", help="An answer that `ask --json` printed.")],
    options: VerifyOptions = VerifyOptions(),
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="retrain: recipe of the model's training. Default: train.json beside the model.", show_default=False
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    html: HtmlOption = None,
    svg: Annotated[Path | None, typer.Option(help="Also write only the scatter plot to this file.")] = None,
) -> None:
    """Compare what ANSWER predicts about its examples with what happens to the model.

    A step takes seconds and checks the gradients. A response takes a minute per example and checks the curvature too.
    Retraining measures what really happens; it needs the model's recipe and many trainings, and resumes after an
    interruption.
    """
    from headwater.runs.run import Run
    from headwater.sweep.execution import Execution

    given = _read(answer)
    with progress_report() as report:
        opened = Run.open(run, execution=Execution(report=report))
        found = opened.verify(given, options, recipe=recipe)
    if html is not None:
        say(f"Wrote {found.save_html(html)}")
    if svg is not None:
        say(f"Wrote {found.save_svg(svg)}")
    if json:
        typer.echo(found.to_json())
    else:
        Console().print(found)


def _read(path: Path) -> Answer:
    from headwater.attribution.answer import Answer

    try:
        return Answer.from_json(path.read_bytes())
    except OSError as error:
        raise HeadwaterError(f"The answer {path} cannot be read: {error.strerror}.") from error
