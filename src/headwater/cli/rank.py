"""`headwater rank`: rank training examples by their effect on queries, and write the best ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from headwater.attribution.options import RankOptions
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import given, with_groups
from headwater.cli.options import RunPath
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.attribution.question import Question


@app.command(
    epilog=examples(
        "headwater rank runs/stories --queries dev.jsonl --keep 0.5 -o kept.jsonl",
        "headwater rank runs/stories --queries dev.jsonl --lowest --keep 100 -o inspect.jsonl",
        "headwater rank runs/stories --by self-influence --keep 200 -o suspects.jsonl",
    )
)
@with_groups
def rank(
    context: typer.Context,
    run: RunPath,
    queries: Annotated[
        Path | None,
        typer.Option(help='JSONL file of what the model should do, one {"id", "prompt", "completion"} per line.'),
    ] = None,
    by: Annotated[
        Literal["self-influence"] | None,
        typer.Option(help="Without --queries: rank by each example's effect on itself, to find odd and wrong ones."),
    ] = None,
    options: RankOptions = RankOptions(),
    keep: Annotated[
        str | None,
        typer.Option(help="Number (1000) or share (0.5) of examples to write. Default: all.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSONL file to write the examples to, ready for --corpus.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of examples to show.", min=0)] = 10,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Rank every training example by its effect on a set of queries, and write the best ones as a corpus.

    Scores are exact. Stop it at any time; the same command resumes, and another --keep needs no further pass.
    """
    from headwater.attribution.query_file import read_queries
    from headwater.attribution.ranking import count_of, parse_keep
    from headwater.render.ranking import render_ranking
    from headwater.runs.run import Run

    if (queries is None) == (by is None):
        raise HeadwaterError("Give one way to rank: either --queries dev.jsonl or --by self-influence.")
    if by is not None and given(context, "aggregate", "rank_by", "query_rank"):
        raise HeadwaterError("--aggregate, --rank-by and --query-rank belong to --queries: leave them out with --by.")
    if keep is not None and output is None:
        raise HeadwaterError(f"--keep {keep} needs an output file: add -o kept.jsonl.")
    lines = None if queries is None else read_queries(queries)
    share = None if keep is None else parse_keep(keep)
    if share is not None:
        count_of(share, 1)
    with progress_report() as report, engine.start(report) as execution:
        opened = Run.open(run, execution=execution)
        questions = None if lines is None else opened.questions(lines)
        ranking = opened.rank(questions, options)
    Console().print(render_ranking(ranking, k))
    say(_meaning(questions, options))
    if output is not None:
        say(f"Wrote {output}: {ranking.write(output, share):,} of {len(opened.corpus):,} examples, in corpus order.")
        if ranking.read.messages_field is not None:
            say(
                "The examples are conversations, and the file has them as the text that the model read. Look their "
                "messages up in your own data by id."
            )


def _meaning(questions: list[Question] | None, options: RankOptions) -> str:
    if questions is None:
        return (
            "Score: self-influence I(z, z) per learned token. It is high for rare, hard or wrong texts. Inspect them "
            "before you drop them."
        )
    aggregate = "mean" if options.aggregate == "mean" else "maximum"
    score = "√I(q, q)" if options.rank_by == "influence" else "√(I(q, q) I(z, z))"
    return (
        f"Score: {aggregate} over {len(questions):,} queries of I(q, z) / {score}. Positive: training on the example "
        "made them more likely."
    )
