"""`headwater estimate`: analytic cost of a fit and an index, without a local model or corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.base.byte_sizes import in_bytes
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.parts import parts_table
from headwater.cli.progress import say
from headwater.cli.words import in_time
from headwater.lm.options import TrustRemoteCode
from headwater.plan.options import PaperOptions

if TYPE_CHECKING:
    from headwater.plan.paper import PaperPlan


@app.command(
    epilog=examples(
        "headwater estimate org/model-7b --examples 10000000 --tokens 512 --workers 8 --memory 80GB --directions 256"
    )
)
@with_groups
def estimate(
    model: Annotated[str, typer.Argument(help="Path or hub name of a model, of which only the configuration is read.")],
    options: PaperOptions,
    trust_remote_code: TrustRemoteCode = False,
    json: Annotated[bool, typer.Option("--json", help="Print the estimate as JSON.")] = False,
) -> None:
    """Count the work, memory and disk of a fit and an index, before there is a machine for it.

    Nothing is measured, and only the model's configuration is loaded. For a model and corpus on this machine, use
    `headwater plan`, which measures.
    """
    from headwater.plan.paper import plan_on_paper

    made = plan_on_paper(model, options, trust_remote_code=trust_remote_code)
    if json:
        typer.echo(made.to_json())
    else:
        _show(made)


def _show(made: PaperPlan) -> None:
    screen, options = Console(), made.options
    screen.print(
        f"{made.model}: {made.weights / 1e9:.3g} billion weights in {options.dtype}; {made.layers} layers tracked, "
        f"{made.parameters:,} parameters; {options.examples:,} examples of {options.tokens:,} tokens.",
        highlight=False,
        markup=False,
    )
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("stage")
    for column in ("multiplications", "time", "memory per worker", "disk", "network"):
        table.add_column(column, justify="right")
    for stage in made.stages:
        table.add_row(
            stage.name,
            f"{stage.multiplications:.2g}",
            in_time(stage.seconds),
            in_bytes(stage.memory),
            in_bytes(stage.disk),
            in_bytes(stage.sent),
        )
    screen.print(table)
    screen.print(parts_table(made.parts))
    say(
        f"Counted, not measured, with {options.workers} × {options.rate / 1e12:g} trillion multiplications per second. "
        "Expect a factor of two in both directions."
    )
