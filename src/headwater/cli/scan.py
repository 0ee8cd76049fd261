"""`headwater scan`: exact scores of the whole corpus for a file of queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.attribution.options import ScanOptions
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import given, with_groups
from headwater.cli.options import RunPath
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError
from headwater.training.options import CheckpointScanOptions


@app.command(
    epilog=examples(
        "headwater scan runs/stories queries.jsonl -o scores.parquet",
        "headwater scan runs/stories queries.jsonl --checkpoints models/stories/checkpoints --method source",
    )
)
@with_groups
def scan(
    context: typer.Context,
    run: RunPath,
    queries: Annotated[
        Path,
        typer.Argument(
            help='JSONL file of queries, one {"id", "prompt", "completion"} per line, with an optional "span".'
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")] = Path("scores.parquet"),
    options: ScanOptions = ScanOptions(),
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Score at checkpoints of the training: a folder of model folders step-<n> or checkpoint-<n>, or "
            "revisions on the hub (org/model@step1000,org/model@step2000).",
            show_default=False,
        ),
    ] = None,
    looking_back: CheckpointScanOptions = CheckpointScanOptions(),
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Score every training example exactly on every query, in one pass, streamed to a Parquet file.

    The file has one row per example: its id, and one float32 column per query, named by the query's id. Stop it at any
    time; the same command resumes.

    With --checkpoints, it scores at each checkpoint of the training: one column '<query id>@<step>' per checkpoint
    beside the sum, which shows when in training an example acted.
    """
    from headwater.attribution.query_file import read_queries
    from headwater.attribution.scan import check_query_ids
    from headwater.runs.run import Run

    if checkpoints is None and given(context, "method"):
        method = looking_back.method
        raise HeadwaterError(f"--method {method} scores at checkpoints of the training. Give them with --checkpoints.")
    if checkpoints is not None and options.tokens:
        raise HeadwaterError("--tokens does not work with --checkpoints, which scores whole examples. Leave it out.")
    lines = read_queries(queries)
    check_query_ids([line.id for line in lines])
    with progress_report() as report, engine.start(report) as execution:
        opened = Run.open(run, execution=execution)
        questions = opened.questions(lines)
        if checkpoints is None:
            opened.scan(questions, output, options)
        else:
            opened.scan_checkpoints(questions, output, checkpoints, options=looking_back)
    say(
        f"Wrote {output}: {len(opened.corpus):,} examples × {len(lines):,} queries. Positive scores made the "
        "completion more likely.",
    )
