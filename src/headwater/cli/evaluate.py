"""`headwater evaluate`: attribution methods held against retraining."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.cli import app
from headwater.cli.options import RunPath, SeedOption
from headwater.cli.progress import progress_report, say

DEFAULT = ("ekfac", "dot", "cosine", "relative", "overlap", "random")


@app.command()
def evaluate(
    run: RunPath,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method to evaluate; may be given several times: ekfac, kfac, diagonal, cg, relative, dot, cosine, "
            f"bm25, overlap, planted, random. Default: {', '.join(DEFAULT)}.",
            show_default=False,
        ),
    ] = None,
    subsets: Annotated[int, typer.Option(help="Models retrained, each on a random half of the corpus.")] = 64,
    work: Annotated[
        Path | None,
        typer.Option(help="Where retrainings and scores are kept. Default: RUN/evaluate.", show_default=False),
    ] = None,
    iterations: Annotated[int, typer.Option(help="Of the conjugate gradients of `cg`.")] = 5,
    subset: Annotated[int, typer.Option(help="Examples that `cg` takes the Gauss–Newton matrix over.")] = 256,
    seed: SeedOption = 0,
) -> None:
    """Retrain the demo's model on random halves of its stories, and see which method foretold what that does.

    LDS is the rank correlation of what a method foretells for a half and what its model then says, the mean over all
    facts of the world (Park et al. 2023). MRR and recall@10 tell whether the stories that state a fact are found.
    Stop it at any time; the same command goes on where it stopped, and more --subsets add to those that are there.

    [dim]headwater evaluate runs/demo --method ekfac --method bm25 --subsets 64[/]
    """
    # Imported here: what trains a model takes two seconds to load, which no other command should wait for.
    from headwater.evaluate.leaderboard import header, judge, row, score, write_results
    from headwater.evaluate.methods import CgOptions, choose
    from headwater.evaluate.retrain import ground_truth
    from headwater.evaluate.scene import open_scene

    chosen = choose(method or DEFAULT, CgOptions(iterations, subset))
    scene = open_scene(run, work or run / "evaluate", seed)
    with progress_report() as report:
        scene = replace(scene, report=report)
        truth = ground_truth(scene.recipe(), subsets, scene.work / "retrained", report)
        results = [judge(scene, one, score(scene, one), truth) for one in chosen]
    results.sort(key=lambda result: -result.lds.value)
    table, page = write_results(scene, results)
    drawn = Table(*header(results), title=f"{len(scene.facts)} facts, {subsets} retrainings on half the stories each")
    for result in results:
        drawn.add_row(*row(result))
    Console().print(drawn)
    say(f"Wrote {table} (one row a method and query) and {page}.")
