"""`headwater check`: compare every file of a run with its checksum or fingerprint."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import RunPath
from headwater.cli.progress import say


@app.command(epilog=examples("headwater check runs/stories"))
def check(
    run: RunPath,
    repair: Annotated[bool, typer.Option(help="Delete damaged files that can be made again.")] = False,
) -> None:
    """Compare every file of a run with its checksum or fingerprint, and say how to fix damaged ones.

    Exits with code 1 if a file is damaged. Loads no model.
    """
    from headwater.runs.check import check_run

    grid = Table.grid(padding=(0, 2, 0, 0))
    wrong = 0
    for finding in check_run(run, repair=repair):
        bad = finding.fix is not None
        wrong += bad
        mark = Text("damaged", style="bold #B2182B") if bad else Text("whole", style="#67A9CF")
        grid.add_row(mark, Text(finding.part), Text(finding.detail))
        if finding.fix is not None:
            grid.add_row("", "", Text(finding.fix, style="bold"))
    Console().print(grid)
    if wrong:
        say(f"{wrong} damaged.")
        raise typer.Exit(1)
    say("Nothing is damaged.")
