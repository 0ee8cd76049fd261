"""`headwater scan`: exact scores of the whole corpus for many queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.base.choices import CheckpointMethod
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import (
    DampingOption,
    QueryRankOption,
    RunPath,
)
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError


@app.command(
    epilog=examples(
        "headwater scan runs/stories queries.jsonl -o scores.parquet",
        "headwater scan runs/stories queries.jsonl --checkpoints models/stories/checkpoints --method source",
    )
)
@with_groups
def scan(
    run: RunPath,
    queries: Annotated[
        Path,
        typer.Argument(help='JSONL file of queries: {"id", "prompt", "completion"} a line, "span" if wanted.'),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")] = Path("scores.parquet"),
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also write a column '<query id>.tokens' of per-token scores.")
    ] = False,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Look back at the training: a folder of model folders step-<n> or checkpoint-<n>, or revisions on the "
            "hub (org/model@step1000,org/model@step2000).",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        CheckpointMethod | None,
        typer.Option(
            help="How checkpoints are added up: gradient products by the learning rate (tracin), along Adam's steps "
            "(adam), by each one's own EK-FAC (ekfac), or as unrolled training (source). Default: tracin.",
            show_default=False,
        ),
    ] = None,
    damping: DampingOption = None,
    query_rank: QueryRankOption = None,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Score every training example exactly on every query, in one pass, streamed to a Parquet file.

    One row an example: its id, and one float32 column a query, named by the query's id. Stop it at any time; the same
    command goes on where it stopped.

    With --checkpoints: what every example did at each checkpoint of the training, a column '<query id>@<step>' for
    each beside the sum, so that one sees when in training an example acted.
    """
    from headwater.attribution.query_file import read_queries
    from headwater.attribution.scan import check_query_ids
    from headwater.runs.run import Run

    if checkpoints is None and method is not None:
        raise HeadwaterError(f"--method {method} looks back at a training: name its checkpoints with --checkpoints.")
    if checkpoints is not None and tokens:
        raise HeadwaterError("--tokens: with --checkpoints there are scores of whole examples only.")
    lines = read_queries(queries)
    check_query_ids([line.id for line in lines])
    opened = Run.open(run)
    questions = opened.questions(lines)
    with engine.start() as opened.engine, progress_report() as opened.report:
        if checkpoints is None:
            opened.scan(questions, output, tokens=tokens, damping=damping, query_rank=query_rank)
        else:
            opened.scan_checkpoints(
                questions, output, checkpoints, method=method or "tracin", damping=damping, query_rank=query_rank
            )
    say(
        f"Wrote {output}: {len(opened.corpus):,} examples × {len(lines):,} queries. Positive scores made the "
        "completion more likely.",
    )
