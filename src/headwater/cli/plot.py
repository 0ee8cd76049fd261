"""`headwater plot`: pictures of a run, an answer, a verification or an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.attribution.options import Damping
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import MaybePrompt, PromptArgument, RunPath, SeedOption, SpanOption
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.attribution.question import Question
    from headwater.render.plots import Picture
    from headwater.runs.run import Run

plot = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples('headwater plot layers runs/stories "Once upon a time, Lily found a" " shiny key."'),
    help="Draw a picture of a run, an answer, a verification or an evaluation, and say what it shows.",
)
app.add_typer(plot, name="plot")

OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Picture to write: .svg, .png or .pdf.")]

MaybeCompletion = Annotated[
    str | None,
    typer.Argument(help="Text that it said. Default: the model's own continuation.", show_default=False),
]
QueriesOption = Annotated[
    Path | None,
    typer.Option(help='JSONL file of questions, one {"id", "prompt", "completion"} per line.', show_default=False),
]


@plot.command(
    epilog=examples(
        'headwater plot tail runs/stories "Once upon a time, Lily found a" " shiny key." -o tail.svg',
        "headwater plot tail scores.parquet --query q1 -o tail.png",
    )
)
@with_groups
def tail(
    source: Annotated[Path, typer.Argument(metavar="RUN|SCORES", help="A run, or a file that `scan` wrote.")],
    prompt: MaybePrompt = None,
    completion: MaybeCompletion = None,
    span: SpanOption = None,
    query: Annotated[str | None, typer.Option(help="Query to draw, from a file of scores.", show_default=False)] = None,
    damping: Damping = None,
    output: OutputOption = Path("tail.svg"),
) -> None:
    """How few examples hold most of the influence? Its size against its rank, at both ends, scored exactly."""
    from headwater.render import plots

    _check(output)
    if source.is_file():
        subject, scores = plots.scanned(source, query)
    else:
        with _opened(source) as run:
            question = _question(run, prompt, completion, span=span)
            subject, scores = question.text, plots.exact_scores(run, [question], damping)[:, 0]
    _save(plots.tail(scores, subject), output)


@plot.command(
    epilog=examples(
        'headwater plot layers runs/stories "Once upon a time, Lily found a" " shiny key."',
        "headwater plot layers runs/stories --queries queries.jsonl -o layers.pdf",
    )
)
def layers(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|ANSWER", help="A run, or an answer that `ask --json` printed.")
    ],
    prompt: MaybePrompt = None,
    completion: MaybeCompletion = None,
    span: SpanOption = None,
    queries: QueriesOption = None,
    k: Annotated[int, typer.Option("-k", help="Number of the strongest proponents to draw.", min=1)] = 10,
    output: OutputOption = Path("layers.svg"),
) -> None:
    """Through which layers did the strongest proponents act? Bars for one question, a row each for several."""
    from headwater.render import plots

    _check(output)
    if source.is_file():
        from headwater.attribution.answer import Answer

        answers = [Answer.from_json(_read(source))]
    else:
        with _opened(source) as run:
            answers = run.ask_all(_questions(run, prompt, completion, span=span, queries=queries), k=k)
    _save(plots.layers(answers, k), output)


@plot.command(
    epilog=examples('headwater plot tokens runs/stories "Once upon a time, Lily found a" " shiny key." --id story-17')
)
@with_groups
def tokens(
    run: RunPath,
    prompt: PromptArgument,
    completion: MaybeCompletion = None,
    span: SpanOption = None,
    id: Annotated[
        str | None, typer.Option(help="Id of a training example. Default: the strongest proponent.", show_default=False)
    ] = None,
    damping: Damping = None,
    output: OutputOption = Path("tokens.svg"),
) -> None:
    """Which token of a training example pushed which token of the completion?"""
    from headwater.render import plots

    _check(output)
    with _opened(run) as opened:
        question = _question(opened, prompt, completion, span=span)
        if id is None:
            proponents = opened.ask(question, k=1, damping=damping).proponents
            if not proponents:
                raise HeadwaterError("No example raised the completion. Choose an example with --id.")
            id = proponents[0].id
        token_map = opened.token_map(question, id, damping)
    _save(plots.tokens(token_map), output)


@plot.command(
    epilog=examples(
        "headwater verify runs/stories key.json --kind pbrf --json > pbrf.json",
        "headwater plot verified pbrf.json -o verified.svg",
    )
)
def verified(
    files: Annotated[list[Path], typer.Argument(metavar="VERIFICATION…", help="What `verify --json` printed.")],
    output: OutputOption = Path("verified.svg"),
) -> None:
    """Predicted against measured changes; several verifications side by side."""
    from headwater.render import plots
    from headwater.verify.verification import Verification

    _check(output)
    _save(plots.verified([Verification.from_json(_read(file)) for file in files]), output)


@plot.command(epilog=examples("headwater plot cost runs/demo -o cost.svg"))
def cost(
    results: Annotated[Path, typer.Argument(metavar="RUN|RESULTS", help="A run, or its evaluate/results.parquet.")],
    output: OutputOption = Path("cost.svg"),
) -> None:
    """Cost of attribution methods against how well they predict retraining, after `headwater evaluate`."""
    from headwater.render import plots

    _check(output)
    _save(plots.read_costs(results), output)


@plot.command(epilog=examples("headwater plot recall runs/stories --queries queries.jsonl -o recall.svg"))
def recall(
    run: RunPath,
    queries: QueriesOption = None,
    k: Annotated[int, typer.Option("-k", help="Examples at each end that the index should find.", min=1)] = 10,
    count: Annotated[
        int, typer.Option(help="Without --queries: number of texts from the corpus to ask about.", min=1)
    ] = 12,
    width: Annotated[
        list[int] | None,
        typer.Option("--bytes", help="Bytes of sketch per example; repeatable.", show_default="256 … 8192"),
    ] = None,
    seed: SeedOption = 0,
    output: OutputOption = Path("recall.svg"),
) -> None:
    """How many bytes of sketch does an index need? What several widths find of the exactly strongest examples.

    Measured here, in two passes over the corpus; RUN's own index is neither needed nor changed.
    """
    from headwater.render import plots

    _check(output)
    with _opened(run) as opened:
        questions = plots.own_questions(opened, count, seed) if queries is None else _questions(opened, queries=queries)
        found = plots.recall(opened, questions, k, widths=width or plots.WIDTHS)
    _save(found, output)


def _check(output: Path) -> None:
    """Raise before the work if the picture cannot be drawn or written."""
    from headwater.render.plots.sheet import picture_path, require_matplotlib

    require_matplotlib()
    picture_path(output)


@contextmanager
def _opened(path: Path) -> Iterator[Run]:
    """The run, with a progress bar."""
    from headwater.runs.run import Run

    run = Run.open(path)
    with progress_report() as report:
        yield run.using(report=report)


def _question(run: Run, prompt: str | None, completion: str | None, *, span: str | None) -> Question:
    if prompt is None:
        raise HeadwaterError('Give a question: a prompt and a completion, such as "Once upon a" " time".')
    return run.question(prompt, completion, span)


def _questions(
    run: Run,
    prompt: str | None = None,
    completion: str | None = None,
    *,
    span: str | None = None,
    queries: Path | None = None,
) -> list[Question]:
    if queries is None:
        return [_question(run, prompt, completion, span=span)]
    if prompt is not None:
        raise HeadwaterError(f"Give either a prompt or --queries {queries}, not both.")
    from headwater.attribution.query_file import read_queries

    return run.questions(read_queries(queries))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeadwaterError(f"{path} cannot be read: {error.strerror}.") from error


def _save(picture: Picture, output: Path) -> None:
    """Write the picture. Its meaning is printed on standard output, its path on standard error."""
    picture.save(output)
    typer.echo(picture.meaning)
    say(f"Wrote {output}")
