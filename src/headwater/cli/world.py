"""`headwater world`: write a tiny world of stories with planted facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import SeedOption
from headwater.cli.progress import say


@app.command(epilog=examples("headwater world --stories 50000 -o world.jsonl"))
def world(
    stories: Annotated[int, typer.Option(help="Number of stories to write.")] = 3000,
    output: Annotated[Path, typer.Option("-o", "--output", help="JSONL file to write.")] = Path("world.jsonl"),
    seed: SeedOption = 0,
) -> None:
    """Write a world of small stories with planted facts, and beside it the list of which story states which fact."""
    from headwater.demo.world import make_world, write_world

    made = make_world(stories, seed)
    write_world(made, output)
    facts = output.with_name(f"{output.stem}.facts.jsonl")
    say(f"Wrote {len(made.stories):,} stories to {output} and {len(made.facts):,} facts to {facts}.")
