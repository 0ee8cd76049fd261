"""`headwater plan`: memory, disk and time of every stage, before the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.choices import LongTexts
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import (
    BlockWidthOption,
    CurvatureOption,
    DirectionsOption,
    LayersOption,
    MemoryOption,
)
from headwater.cli.parts import parts_table
from headwater.cli.progress import progress_report, say
from headwater.cli.words import in_time
from headwater.errors import HeadwaterError
from headwater.sizes import in_bytes, parse_bytes

if TYPE_CHECKING:
    from headwater.plan.estimates import Plan, StagePlan


@app.command(
    epilog=examples(
        "headwater plan runs/stories",
        "headwater plan --model roneneldan/TinyStories-1M --corpus stories.jsonl --layers all-linear",
    )
)
def plan(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Directory of a run; or give --model and --corpus.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Path or hub name of a causal language model.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Training text, as for fit.")] = None,
    curvature: CurvatureOption = "ekfac",
    layers: LayersOption = None,
    fit_examples: Annotated[int | None, typer.Option(help="Fit the curvature on this many examples.")] = None,
    bytes_: Annotated[
        int | None, typer.Option("--bytes", help="Bytes of sketch an example in the index.", show_default="8192")
    ] = None,
    directions: DirectionsOption = None,
    memory: MemoryOption = None,
    block_width: BlockWidthOption = None,
    queries: Annotated[int, typer.Option(help="Queries of the scan.", min=1)] = 8,
    max_tokens: Annotated[int | None, typer.Option(help="Longest example in tokens, with --corpus.")] = None,
    long: Annotated[LongTexts, typer.Option(help="What becomes of longer texts, with --corpus.")] = "truncate",
    text_field: Annotated[str, typer.Option(help="Field that holds the text, with --corpus.")] = "text",
    limit: Annotated[int | None, typer.Option(help="Read at most this many examples, with --corpus.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Estimate memory, disk and time of fit, index, scan and a question, from a probe of some seconds.

    Nothing is left behind: the probe works in a temporary folder.
    """
    from headwater.corpus.read import ReadOptions
    from headwater.curvature.kind import kind_of
    from headwater.plan.plan import PlanOptions, plan_corpus, plan_run
    from headwater.run import CorpusOptions, FitOptions

    kind_of(curvature)
    most = None if memory is None else parse_bytes(memory)
    globs = tuple(layers) if layers else None
    fits = FitOptions(curvature, globs, fit_examples, block_width=block_width, memory=most)
    options = PlanOptions(fits, bytes_, queries, directions)
    reading = CorpusOptions(ReadOptions(text_field, limit=limit), max_tokens, long)
    with progress_report() as report:
        if run is not None and model is None and corpus is None:
            made = plan_run(run, options, report)
        elif run is None and model is not None and corpus is not None:
            made = plan_corpus(model, corpus, reading, options, report, trust_remote_code=trust_remote_code)
        else:
            raise HeadwaterError("Name a run to plan for, or give both --model and --corpus.")
    if json:
        typer.echo(made.to_json())
    else:
        _show(made)


def _show(made: Plan) -> None:
    screen = Console()
    screen.print(
        f"{made.model}: {made.curvature} over {made.layers} layers, {made.parameters:,} parameters; "
        f"{made.examples:,} examples, {made.tokens:,} tokens.",
        highlight=False, markup=False,
    )  # fmt: skip
    screen.print(_table(made))
    if len(made.parts) > 1:
        screen.print(parts_table(made.parts))
    screen.print(_explanation(made), highlight=False, markup=False)
    say(f"Next: {made.next_command}")


def _table(made: Plan) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("stage")
    for column in ("time", "memory", "disk", "disk while it runs"):
        table.add_column(column, justify="right")
    for stage in made.stages:
        memory = in_bytes(stage.memory) if stage.memory else "–"
        disk = in_bytes(stage.disk) if stage.disk else "–"
        working = f"+ {in_bytes(stage.working)}" if stage.working else "–"
        table.add_row(_name(made, stage), in_time(stage.seconds) if stage.seconds else "–", memory, disk, working)
    table.add_section()
    table.add_row("all but the question", in_time(made.seconds), in_bytes(made.memory), in_bytes(made.disk), "")
    return table


def _name(made: Plan, stage: StagePlan) -> str:
    names = {
        "fit": "fit" if made.fit_examples == made.examples else f"fit on {made.fit_examples:,} examples",
        "index": f"index, {made.sketch_bytes:,} bytes an example",
        "scan": f"scan of {made.queries} queries",
        "question": "one question, by the index",
    }
    return names.get(stage.name, stage.name) + (" (done)" if stage.done else "")


def _explanation(made: Plan) -> str:
    sampled = ""
    if made.records is not None and made.sampled_records is not None and made.sampled_records < made.records:
        sampled = f" Of {made.records:,} records {made.sampled_records:,} were tokenised, evenly spread."
    held = "" if made.whole_sketches else " There is not memory enough to keep all sketches in it."
    return (
        f"Measured on {made.probe_tokens:,} tokens of this corpus on this machine, as busy as it is now; typically "
        "within 30 %. A question to which no examples stand out takes several times as long as the one shown."
        f"{sampled}{held}"
    )
