"""`headwater contamination`: find training examples that contain evaluation texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.base.progress import Report, Step
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import RunPath
from headwater.cli.progress import progress_report, say

if TYPE_CHECKING:
    from headwater.runs.run import Run


EXAMPLES = examples("headwater contamination runs/stories dev.jsonl -o shared.jsonl")


@app.command(epilog=EXAMPLES)
def contamination(
    run: RunPath,
    queries: Annotated[
        Path, typer.Argument(help='JSONL file of evaluation texts, one {"id", "prompt", "completion"} per line.')
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="JSONL file to write, with id, query, words and passage per line."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of matches to show, the longest first.", min=0)] = 10,
) -> None:
    """Find training examples that share 13 words in a row, or more, with a query: evaluation text that leaked.

    A query of 8 to 12 words is searched for as a whole. Case and punctuation do not count.
    """
    from headwater.attribution.contamination import MIN_QUERY_WORDS, PASSAGE_WORDS, Passages
    from headwater.attribution.query_file import read_queries
    from headwater.base.files import write_text
    from headwater.runs.run import Run

    passages = Passages({line.id: line.text for line in read_queries(queries)})
    opened = Run.open(run)
    with progress_report() as report:
        found = list(passages.leaks(_examples(opened, report)))
    for leak in sorted(found, key=lambda leak: -leak.words)[:k]:
        typer.echo(f"{leak.id}  {leak.query}  {leak.words} words: {leak.passage}")
    examples, leaked = len({leak.id for leak in found}), len({leak.query for leak in found})
    say(
        f"{examples:,} of {len(opened.corpus):,} training examples share at least {PASSAGE_WORDS} words in a row with "
        f"{leaked:,} queries."
    )
    if passages.too_short:
        say(
            f"{len(passages.too_short):,} queries of fewer than {MIN_QUERY_WORDS} words were not searched for: they "
            "match by chance."
        )
    if output is not None:
        say(f"Wrote {write_text(output, ''.join(json.dumps(asdict(leak)) + chr(10) for leak in found))}.")


# The command's name in the first release. It stays for one more release.
app.command("leaks", hidden=True, epilog=EXAMPLES)(contamination)


def _examples(run: Run, report: Report) -> Iterator[tuple[str, str]]:
    total = len(run.corpus)
    for done, example in enumerate(run.corpus.read(range(total)), start=1):
        yield example.id, example.text
        if done % 100 == 0 or done == total:
            report(Step(stage="reading", done=done, total=total, tokens=0))
