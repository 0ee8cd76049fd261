"""`headwater plan`: estimate memory, disk and time of every stage before the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.base.byte_sizes import in_bytes
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import CorpusOption, ModelOption
from headwater.cli.parts import parts_table
from headwater.cli.progress import progress_report, say
from headwater.cli.words import in_time
from headwater.corpus.options import CorpusOptions
from headwater.errors import HeadwaterError
from headwater.lm.options import Loading
from headwater.plan.options import PlanOptions

if TYPE_CHECKING:
    from headwater.plan.estimates import Plan, StagePlan


@app.command(
    epilog=examples(
        "headwater plan runs/stories",
        "headwater plan --model roneneldan/TinyStories-1M --corpus stories.jsonl --layers all-linear",
    )
)
@with_groups
def plan(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Directory of a run. Without it, give --model and --corpus.")
    ] = None,
    model: ModelOption = None,
    loading: Loading = Loading(),
    corpus: CorpusOption = None,
    reading: CorpusOptions = CorpusOptions(),
    options: PlanOptions = PlanOptions(),
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Estimate memory, disk and time of fit, index, scan and a question, from a probe of some seconds.

    The probe works in a temporary folder, which is deleted.
    """
    from headwater.curvature.registry import kind_of
    from headwater.plan.plan import plan_corpus, plan_run

    kind_of(options.fit.curvature)  # raises before the corpus is read, which can take long
    with progress_report() as report:
        if run is not None and model is None and corpus is None:
            made = plan_run(run, options, report)
        elif run is None and model is not None and corpus is not None:
            made = plan_corpus(model, corpus, reading, options=options, report=report, loading=loading)
        else:
            raise HeadwaterError("Give either a run, or both --model and --corpus.")
    if json:
        typer.echo(made.to_json())
    else:
        _show(made)


def _show(made: Plan) -> None:
    screen = Console()
    screen.print(
        f"{made.model}: {made.curvature} over {made.layers} layers, {made.parameters:,} parameters; "
        f"{made.examples:,} examples, {made.tokens:,} tokens.",
        highlight=False,
        markup=False,
    )
    screen.print(_table(made))
    if len(made.parts) > 1:
        screen.print(parts_table(made.parts))
    screen.print(_explanation(made), highlight=False, markup=False)
    say(f"Next: {made.next_command}")


def _table(made: Plan) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("stage")
    for column in ("time", "memory", "disk", "temporary disk"):
        table.add_column(column, justify="right")
    for stage in made.stages:
        memory = in_bytes(stage.memory) if stage.memory else "–"
        disk = in_bytes(stage.disk) if stage.disk else "–"
        working = f"+ {in_bytes(stage.working)}" if stage.working else "–"
        table.add_row(_name(made, stage), in_time(stage.seconds) if stage.seconds else "–", memory, disk, working)
    table.add_section()
    table.add_row("total without the question", in_time(made.seconds), in_bytes(made.memory), in_bytes(made.disk), "")
    return table


def _name(made: Plan, stage: StagePlan) -> str:
    names = {
        "fit": "fit" if made.fit_examples == made.examples else f"fit on {made.fit_examples:,} examples",
        "index": f"index, {made.sketch_bytes:,} bytes per example",
        "scan": f"scan of {made.queries} queries",
        "question": "one question, with the index",
    }
    return names.get(stage.name, stage.name) + (" (done)" if stage.done else "")


def _explanation(made: Plan) -> str:
    sampled = ""
    if made.records is not None and made.sampled_records is not None and made.sampled_records < made.records:
        sampled = f" {made.sampled_records:,} of {made.records:,} records were tokenised, at even distances."
    memory = "" if made.whole_sketches else " Not all sketches fit in memory."
    return (
        f"Measured on {made.probe_tokens:,} tokens of this corpus on this machine under its present load; typically "
        "within 30 %. Questions without clear top examples take several times longer."
        f"{sampled}{memory}"
    )
