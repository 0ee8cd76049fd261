"""`headwater verify`: does the model do what an answer predicts?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from rich.console import Console

from headwater.base.choices import REFERENCE_EXAMPLES, RESPONSE_ITERATIONS, CheckKind
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import HtmlOption, RunPath, SeedOption
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.attribution.answer import Answer
    from headwater.verify.options import VerifyOptions


@dataclass(frozen=True, kw_only=True)
class CheckFlags:
    """What is checked of an answer, and how."""

    panel: ClassVar = "Check"
    kind: Annotated[
        CheckKind,
        typer.Option(
            help="A small step on each example, the weights' response to taking it out, or training again without the "
            "k strongest of an end together."
        ),
    ] = "step"
    k: Annotated[int, typer.Option("-k", help="Of the answer's examples, so many at each end.", min=0)] = 5
    random: Annotated[
        int, typer.Option(help="Also so many examples that it does not show; retrain: so many sets of k.", min=0)
    ] = 5
    weight: Annotated[
        float, typer.Option(help="pbrf: the part of the example that is taken out.", min=-1.0, max=1.0)
    ] = 1.0
    subset: Annotated[int, typer.Option(help="pbrf: examples that are held fast; 0 is all of them.", min=0)] = (
        REFERENCE_EXAMPLES
    )
    iterations: Annotated[int, typer.Option(help="pbrf: of finding a response, at most.", min=1)] = RESPONSE_ITERATIONS
    seeds: Annotated[int, typer.Option(help="retrain: trainings of every set.", min=1)] = 3
    jobs: Annotated[
        int | None, typer.Option(help="retrain: trainings at a time. Default: one a core.", show_default=False, min=1)
    ] = None
    seed: SeedOption = 0

    def options(self) -> VerifyOptions:
        from headwater.verify.options import VerifyOptions

        return VerifyOptions(
            kind=self.kind,
            k=self.k,
            random=self.random,
            weight=self.weight,
            subset=self.subset or None,
            iterations=self.iterations,
            seeds=self.seeds,
            jobs=self.jobs or os.cpu_count() or 1,
            seed=self.seed,
        )


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
    checked: CheckFlags = CheckFlags(),
    recipe: Annotated[
        Path | None,
        typer.Option(help="retrain: how the model was trained. Default: train.json beside it.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    html: HtmlOption = None,
    svg: Annotated[Path | None, typer.Option(help="Also write the scatter plot alone.")] = None,
) -> None:
    """Compare what ANSWER predicts about its examples with what happens to the model.

    A step takes seconds and checks the gradients; a response takes a minute an example and checks the curvature too;
    retraining takes as many trainings as it says, needs the model's recipe, and is what really happens. It goes on
    where it was stopped.
    """
    from headwater.runs.run import Run

    given = _read(answer)
    opened = Run.open(run)
    with progress_report() as report:
        opened.report = report
        found = opened.verify(given, checked.options(), recipe=recipe)
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
