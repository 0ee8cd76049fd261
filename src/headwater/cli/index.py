"""`headwater index`: sketch the corpus, so that questions need no pass over it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from headwater.base.plugins import SKETCHES
from headwater.cli import app
from headwater.cli.complete import complete_name, known
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import DirectionsOption, RunPath, SeedOption
from headwater.cli.progress import progress_report, say


@app.command(epilog=examples("headwater index runs/stories", "headwater index runs/stories --add more.jsonl"))
@with_groups
def index(
    run: RunPath,
    bytes_: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            help="Bytes of sketch an example: more find more. Default: what the index has, or else 8192.",
            show_default=False,
        ),
    ] = None,
    directions: DirectionsOption = None,
    sketch: Annotated[
        str | None,
        typer.Option(
            help="How gradients are sketched: planes, or what a plugin brings. Default: what the index has, or else "
            "planes.",
            show_default=False,
            autocompletion=complete_name(SKETCHES),
            callback=known(SKETCHES),
        ),
    ] = None,
    add: Annotated[
        str | None, typer.Option(help="Append the examples of a file to the corpus first. The curvature stays.")
    ] = None,
    remove: Annotated[
        Path | None, typer.Option(help="First take out the examples whose ids a file lists, one a line.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Keep the table at this URL (s3://…, gs://…, az://…) instead of in RUN.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Sketch every example's gradient, so that a question is answered in about a second.

    Stop it at any time; the same command goes on where it stopped. What is indexed already is not done again.
    """
    from headwater.corpus.changes import read_ids
    from headwater.corpus.sources import place_of
    from headwater.runs.run import Run

    opened = Run.open(run)
    if add is not None:
        say(f"Added {opened.add(place_of(add)):,} examples of {add} to the corpus.")
    if remove is not None:
        say(f"Took {opened.remove(read_ids(remove)):,} examples out of the corpus.")
    start = time.monotonic()
    with engine.start() as opened.engine, progress_report() as opened.report:
        changes = opened.build_index(bytes=bytes_, directions=directions, store=store, seed=seed, sketch=sketch)
    settings = opened.index.settings
    assert settings is not None
    if changes.replaced:
        say("The index that was there had other settings; it was made anew.")
    along = f" of the {settings.directions} strongest directions of every layer" if settings.directions else ""
    say(
        f"Indexed {changes.added:,} examples in {time.monotonic() - start:.0f} s, took out {changes.removed:,}: "
        f"{len(opened.corpus):,} examples, {settings.sketch.bytes:,} bytes of sketch each{along}."
    )
    say(f'Now ask: headwater ask {run} "Once upon a time" " there was a"')
