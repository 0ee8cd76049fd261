"""`headwater estimate`: what a fit and an index would come to, for a model and corpus that are not at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.base.byte_sizes import in_bytes, parse_bytes
from headwater.base.choices import Dtype
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import BlockWidthOption, FitExamplesOption, LayersOption, TrustOption
from headwater.cli.parts import parts_table
from headwater.cli.progress import say
from headwater.cli.words import in_time

if TYPE_CHECKING:
    from headwater.plan.paper import PaperPlan


@app.command(
    epilog=examples(
        "headwater estimate org/model-7b --examples 10000000 --tokens 512 --workers 8 --memory 80GB --directions 256"
    )
)
def estimate(
    model: Annotated[str, typer.Argument(help="Path or hub name of a model; only its configuration is read.")],
    examples: Annotated[int, typer.Option(help="Examples of the corpus.", min=1)],
    tokens: Annotated[int, typer.Option(help="Tokens of each example.", min=1)],
    fit_examples: FitExamplesOption = None,
    layers: LayersOption = None,
    dtype: Annotated[Dtype, typer.Option(help="What the model would run in.")] = "bf16",
    block_width: BlockWidthOption = None,
    bytes_: Annotated[int, typer.Option("--bytes", help="Bytes of sketch an example.", min=64)] = 8192,
    directions: Annotated[
        int, typer.Option(help="Sketch only so many directions of every layer's inputs and outputs; 0: all.", min=0)
    ] = 0,
    workers: Annotated[int, typer.Option(help="GPUs, or processes, that share the work.", min=1)] = 1,
    memory: Annotated[str | None, typer.Option(help="Memory of each, such as 80GB.")] = None,
    rate: Annotated[
        float, typer.Option(help="Trillion multiplications a second that each reaches in products of matrices.")
    ] = 100.0,
    trust_remote_code: TrustOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print the estimate as JSON.")] = False,
) -> None:
    """Count what a fit and an index would come to, before there is a machine for it.

    Nothing is measured and nothing is loaded but the model's configuration. For a model and corpus that are here,
    `headwater plan` measures.
    """
    from headwater.plan.paper import PaperOptions, plan_on_paper

    options = PaperOptions(
        examples=examples,
        tokens=tokens,
        layers=tuple(layers) if layers else None,
        fit_examples=fit_examples,
        dtype=dtype,
        block_width=block_width,
        bytes=bytes_,
        directions=directions,
        workers=workers,
        memory=None if memory is None else parse_bytes(memory),
        rate=rate * 1e12,
    )
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
    for column in ("multiplications", "time", "memory of each", "disk", "sent"):
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
        f"Counted, not measured: {options.workers} × {options.rate / 1e12:g} trillion multiplications a second. Expect "
        "a factor of two either way."
    )
