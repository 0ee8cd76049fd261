"""The command line: one small file a command."""

# pyright: reportUnusedImport=false

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer
from rich.console import Console

from headwater.errors import HeadwaterError
from headwater.files import is_disk_full
from headwater.version import __version__

app = typer.Typer(
    name="headwater",
    help="Which training examples made this language model say that?",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headwater {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_version, is_eager=True
    ),
) -> None:
    """Which training examples made this language model say that?"""


def main() -> None:
    """Run the command line; a HeadwaterError becomes one readable message and exit code 1, an interrupt 130."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app()
    except HeadwaterError as mistake:
        _fail(str(mistake))
    except Exception as failure:
        if not is_disk_full(failure):
            raise
        _fail(f"The disk is full ({failure}). What is finished is kept: make room, and run the same command again.")
    except KeyboardInterrupt:
        again = "\nInterrupted. Run the same command again to go on where it stopped."
        Console(stderr=True).print(again, highlight=False)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    error = Console(stderr=True)
    error.print("[bold red]error[/]", end=" ")
    error.print(message, markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


from headwater.cli import (  # noqa: E402, F401
    ask,
    check,
    cloud,
    demo,
    estimate,
    evaluate,
    fit,
    index,
    info,
    leaks,
    map,
    plan,
    plot,
    push,
    rank,
    scan,
    serve,
    train,
    verify,
    world,
)
