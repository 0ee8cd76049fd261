"""The command line: one small file a command."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from headwater.errors import HeadwaterError
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
    error = Console(stderr=True)
    try:
        app()
    except HeadwaterError as mistake:
        error.print("[bold red]error[/]", end=" ")
        error.print(str(mistake), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        error.print("\nInterrupted. Run the same command again to go on where it stopped.", highlight=False)
        sys.exit(130)


from headwater.cli import ask, cloud, demo, evaluate, fit, index, info, map, plan, scan, serve, train, verify, world  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
