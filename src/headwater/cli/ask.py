"""`headwater ask`: which training examples made the model say that?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from rich.console import Console

from headwater.base.choices import DEFAULT_CANDIDATES, DEFAULT_SUBSET, RankBy
from headwater.base.plugins import SOLVERS
from headwater.cli import app
from headwater.cli.complete import complete_name, known
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import (
    DampingOption,
    HtmlOption,
    PromptArgument,
    QueryRankOption,
    RunPath,
    SeedOption,
    SpanOption,
)
from headwater.cli.progress import progress_report, say

if TYPE_CHECKING:
    from headwater.attribution.ask import AskOptions
    from headwater.attribution.question import Sampling


@dataclass(frozen=True, kw_only=True)
class AnswerFlags:
    """Which examples an answer names, and how it scores them."""

    panel: ClassVar = "Answer"
    k: Annotated[int, typer.Option("-k", help="How many examples to show at each end.", min=1)] = 10
    rank_by: Annotated[RankBy, typer.Option(help="relative divides by each example's own norm √I(z, z).")] = "influence"
    where: Annotated[
        str | None, typer.Option(help="Only examples that meet an SQL condition on the index's columns.")
    ] = None
    contains: Annotated[
        str | None, typer.Option(help="Only examples with these words in their text, one after the other.")
    ] = None
    exact: Annotated[bool, typer.Option("--exact", help="Score every example, even where there is an index.")] = False
    candidates: Annotated[int, typer.Option(help="Of those the index finds, score at most so many exactly.", min=1)] = (
        DEFAULT_CANDIDATES
    )
    fold: Annotated[bool, typer.Option(help="Show near-duplicates once, with a count.")] = True
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Count only the influence through layers of this name or glob; may be repeated."),
    ] = None
    damping: DampingOption = None
    query_rank: QueryRankOption = None
    solver: Annotated[
        str,
        typer.Option(
            help="cg goes on from the curvature by conjugate gradients: slower, and closer. lissa is for reference.",
            autocompletion=complete_name(SOLVERS),
            callback=known(SOLVERS),
        ),
    ] = "curvature"
    iterations: Annotated[
        int | None,
        typer.Option(help="Of the solver, at most. Default: as many as it sees fit.", show_default=False, min=1),
    ] = None
    subset: Annotated[int, typer.Option(help="Examples that the solver takes the curvature over; 0 is all.", min=0)] = (
        DEFAULT_SUBSET
    )

    def options(self) -> AskOptions:
        from headwater.attribution.ask import AskOptions

        return AskOptions(
            k=self.k,
            rank_by=self.rank_by,
            damping=self.damping,
            exact=self.exact,
            candidates=self.candidates,
            where=self.where,
            contains=self.contains,
            fold=self.fold,
            query_rank=self.query_rank,
            layers=tuple(self.layers) if self.layers else None,
            solver=self.solver,
            iterations=self.iterations,
            subset=self.subset or None,
        )


@dataclass(frozen=True)
class ContinuationFlags:
    """How the model continues a prompt that has no completion."""

    panel: ClassVar = "Continuation"
    max_new_tokens: Annotated[int, typer.Option(help="Longest continuation, when the model writes it.", min=1)] = 24
    temperature: Annotated[float, typer.Option(help="0 continues greedily; above it, samples.", min=0.0)] = 0.0
    seed: SeedOption = 0

    def sampling(self) -> Sampling:
        from headwater.attribution.question import Sampling

        return Sampling(self.max_new_tokens, self.temperature, self.seed)


@app.command(
    epilog=examples(
        'headwater ask runs/stories "Once upon a time, Lily found a" " shiny key in the garden." --span "shiny key"',
        'headwater ask runs/stories "Once upon a time" --contains "silver key" --where "tokens < 200"',
        'headwater ask runs/stories "Once upon a time" --exact --engine ray --workers 8',
    )
)
@with_groups
def ask(
    run: RunPath,
    prompt: PromptArgument,
    completion: Annotated[
        str | None, typer.Argument(help="What it said. Left out, the model continues the prompt itself.")
    ] = None,
    span: SpanOption = None,
    contrast: Annotated[
        str | None, typer.Option(help="Another completion: explain why the one rather than this one.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Score the texts of this file instead: what would they do if they were added?"),
    ] = None,
    shown: AnswerFlags = AnswerFlags(),
    continuation: ContinuationFlags = ContinuationFlags(),
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON (docs/answer.schema.json).")] = False,
    html: HtmlOption = None,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Rank the training examples that pushed COMPLETION up and down after PROMPT, with responsible tokens shaded."""
    from headwater.runs.run import Run

    opened = Run.open(run)
    question = opened.question(prompt, completion, span, sampling=continuation.sampling(), contrast=contrast)
    options = shown.options()
    with engine.start() as opened.engine, progress_report() as opened.report:
        answer = (
            opened.ask(question, options=options) if against is None else opened.ask_against(question, against, options)
        )
    if html is not None:
        say(f"Wrote {answer.save_html(html)}")
    if json:
        typer.echo(answer.to_json())
    else:
        Console().print(answer)
