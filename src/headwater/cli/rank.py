"""`headwater rank`: which training examples are worth keeping for what the model should do?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.base.choices import Aggregate, RankBy
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import DampingOption, QueryRankOption, RunPath
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.attribution.question import Question
    from headwater.attribution.ranking import Ranking


@app.command(
    epilog=examples(
        "headwater rank runs/stories --queries dev.jsonl --keep 0.5 -o kept.jsonl",
        "headwater rank runs/stories --queries dev.jsonl --lowest --keep 100 -o inspect.jsonl",
        "headwater rank runs/stories --by self-influence --keep 200 -o suspects.jsonl",
    )
)
@with_groups
def rank(
    run: RunPath,
    queries: Annotated[
        Path | None,
        typer.Option(help='JSONL file of what the model should do: {"id", "prompt", "completion"} a line.'),
    ] = None,
    by: Annotated[
        Literal["self-influence"] | None,
        typer.Option(help="Without --queries: by what an example does to itself, to find odd and wrong ones."),
    ] = None,
    aggregate: Annotated[
        Aggregate,
        typer.Option(help="Score by the mean over the queries, or by the query that an example suits best."),
    ] = "mean",
    rank_by: Annotated[
        RankBy, typer.Option(help="relative divides by each example's own norm √I(z, z), so that long ones do not win.")
    ] = "influence",
    lowest: Annotated[bool, typer.Option("--lowest", help="Begin at the other end: what to inspect or drop.")] = False,
    keep: Annotated[
        str | None,
        typer.Option(help="Write so many (1000), or such a share (0.5). Default: all.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSONL file to write them to, ready for --corpus.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many to show.", min=0)] = 10,
    damping: DampingOption = None,
    query_rank: QueryRankOption = None,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Rank every training example by what it did to all of some queries, and write the best of them as a corpus.

    Scores are exact. Stop it at any time; the same command goes on where it stopped, and another --keep costs no pass.
    """
    from headwater.attribution.query_file import read_queries
    from headwater.attribution.ranking import count_of, parse_keep
    from headwater.runs.run import Run

    if (queries is None) == (by is None):
        raise HeadwaterError("Say what to rank by: either --queries dev.jsonl, or --by self-influence.")
    if by is not None and (aggregate, rank_by, query_rank) != ("mean", "influence", None):
        raise HeadwaterError("--aggregate, --rank-by and --query-rank are for --queries: leave them out with --by.")
    if keep is not None and output is None:
        raise HeadwaterError(f"--keep {keep}: say where the examples go, with -o kept.jsonl.")
    lines = None if queries is None else read_queries(queries)
    share = None if keep is None else parse_keep(keep)
    if share is not None:
        count_of(share, 1)
    opened = Run.open(run)
    questions = None if lines is None else opened.questions(lines)
    with engine.start() as opened.engine, progress_report() as opened.report:
        ranking = opened.rank(
            questions, aggregate=aggregate, rank_by=rank_by, lowest=lowest, damping=damping, query_rank=query_rank
        )
    Console().print(_table(ranking, k))
    say(_meaning(questions, aggregate, rank_by))
    if output is not None:
        say(f"Wrote {output}: {ranking.write(output, share):,} of {len(opened.corpus):,} examples, in corpus order.")
        if ranking.read.messages_field is not None:
            say(
                "The run's examples are conversations: the file has them as the model read them. Take the messages "
                "themselves from your own data, by their ids."
            )


def _table(ranking: Ranking, k: int) -> Table:
    from headwater.render.visible import one_line, shorten

    table = Table("rank", "score", "id", "text", box=None, header_style="dim", pad_edge=False)
    for place, (score, example) in enumerate(ranking.top(k), start=1):
        text = Text(one_line(shorten(example.text, 200)), no_wrap=True, overflow="ellipsis")
        table.add_row(str(place), f"{score:.3g}", Text(one_line(example.id)), text)
    return table


def _meaning(questions: list[Question] | None, aggregate: Aggregate, rank_by: RankBy) -> str:
    if questions is None:
        return (
            "Score: self-influence I(z, z) a learned token. It is high where little else in the corpus teaches what "
            "the text says: what is rare or hard, and what is wrong. Look before you drop."
        )
    of = "mean" if aggregate == "mean" else "highest"
    score = "√I(q, q)" if rank_by == "influence" else "√(I(q, q) I(z, z))"
    return (
        f"Score: {of} over {len(questions):,} queries of I(q, z) / {score}. Positive: training on the example made "
        "them likelier."
    )
