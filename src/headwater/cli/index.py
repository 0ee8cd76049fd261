"""`headwater index`: sketch the corpus, so that questions need no pass over it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from headwater.attribution.index.options import IndexOptions
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import RunPath
from headwater.cli.progress import progress_report, say


@app.command(epilog=examples("headwater index runs/stories", "headwater index runs/stories --add more.jsonl"))
@with_groups
def index(
    run: RunPath,
    options: IndexOptions = IndexOptions(),
    add: Annotated[
        str | None, typer.Option(help="First append the examples of a file to the corpus; the curvature stays.")
    ] = None,
    remove: Annotated[
        Path | None, typer.Option(help="First remove the examples whose ids a file lists, one per line.")
    ] = None,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Sketch every example's gradient, so that a question is answered in about a second.

    Stop it at any time; the same command resumes. Examples that are already indexed are not sketched again.
    """
    from headwater.corpus.changes import read_ids
    from headwater.corpus.sources import path_or_url
    from headwater.runs.run import Run

    with progress_report() as report, engine.start(report) as execution:
        opened = Run.open(run, execution=execution)
        if add is not None:
            say(f"Added {opened.add(path_or_url(add)):,} examples of {add} to the corpus.")
        if remove is not None:
            say(f"Removed {opened.remove(read_ids(remove)):,} examples from the corpus.")
        start = time.monotonic()
        changes = opened.build_index(options)
    settings = opened.index.settings
    assert settings is not None
    if changes.replaced:
        say("The old index had other settings. It was replaced.")
    kept = f", {settings.directions} eigenvectors kept on each side of a layer" if settings.directions else ""
    say(
        f"Indexed {changes.added:,} examples in {time.monotonic() - start:.0f} s, removed {changes.removed:,}: "
        f"{len(opened.corpus):,} examples, {settings.sketch.bytes:,} bytes of sketch per example{kept}."
    )
    say(f'Now ask: headwater ask {run} "Once upon a time" " there was a"')
