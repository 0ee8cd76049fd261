"""`headwater evaluate`: compare attribution methods with retraining."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.base.plugins import CURVATURES, METRICS, SOLVERS
from headwater.cli import app
from headwater.cli.complete import complete_among
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import (
    RunPath,
    SeedOption,
)
from headwater.cli.progress import progress_report, say
from headwater.evaluate.options import EvaluationPlan

if TYPE_CHECKING:
    from headwater.evaluate.board import Board

METHODS = (
    "ekfac",
    "kfac",
    "diagonal",
    "exact",
    "cg",
    "lissa",
    "relative",
    "dot",
    "cosine",
    "trackstar",
    "sketch",
    "tracin",
    "adam",
    "source",
    "bm25",
    "overlap",
    "planted",
    "random",
)
"""Names of the built-in methods, listed here so that help texts need not load them. Plugins can add more."""
DEFAULT = ("ekfac", "dot", "cosine", "relative", "overlap", "random")


def _methods() -> list[str]:
    return [*METHODS, *(name for group in (CURVATURES, SOLVERS) for name in group.names() if name not in group.builtin)]


@app.command(epilog=examples("headwater evaluate runs/demo --method ekfac --method bm25 --subsets 64"))
@with_groups
def evaluate(
    run: RunPath,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Method to evaluate, with its options if any (cg:iterations=20,damping=1*mean); repeatable: "
            f"{', '.join(METHODS)}, or a curvature or solver of a plugin. Default: {', '.join(DEFAULT)}.",
            show_default=False,
            autocompletion=complete_among(_methods),
        ),
    ] = None,
    plan: EvaluationPlan = EvaluationPlan(),
    queries: Annotated[
        Path | None,
        typer.Option(
            help='JSONL file of queries: {"id", "prompt", "completion"}, and "stories", the ids of examples known to '
            "state it, if any. Default: the facts of a demo's world.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="The model's training recipe. Default: train.json beside it.", show_default=False),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Folder of the training's checkpoints, for tracin, adam and source.", show_default=False),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps retrainings and scores. Default: RUN/evaluate.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Compare how well attribution methods predict what retraining the model on other data does.

    [b]lds[/]: rank correlation of what a method predicts for random halves of the corpus with what models trained on
    them say (Park et al. 2023). [b]trace[/]: are the examples that state a fact found? [b]qld[/]: how much more the
    loss rises without a method's top 1 % than without a random 1 %. [b]tail-patch[/]: does a step of training on what
    it found help? [b]brittleness[/]: how many removals flip the completion? Stop it at any time; the same command
    resumes, and a new method needs no retraining for lds.
    """
    # Imported here: training code takes two seconds to import, and other commands do not need it.
    from headwater.evaluate.board import evaluate_methods
    from headwater.evaluate.context import open_context
    from headwater.evaluate.measures import metric_of
    from headwater.evaluate.methods import parse_methods

    for name in plan.metrics:
        metric_of(name)
    methods = parse_methods(method or DEFAULT)
    context = replace(
        open_context(run, work or run / "evaluate", queries), recipe=recipe, checkpoints=checkpoints, seed=seed
    )
    plan = replace(plan, metrics=tuple(name for name in METRICS.names() if name in plan.metrics))
    with progress_report() as report, engine.start(report) as execution:
        working = replace(context, run=context.run.using(execution))
        board = evaluate_methods(working, methods, plan)
    _show(board)


def _show(board: Board) -> None:
    """Print the leaderboard, and write its files."""
    from headwater.render import leaderboard

    header, *rows = leaderboard.table(board)
    drawn = Table(*header, title=leaderboard.title(board))
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)
    for line in leaderboard.notes(board):
        say(line)
    say(f"Wrote {', '.join(map(str, leaderboard.write_leaderboard(board)))}.")
