"""The command line: one module per command. None imports torch before its command runs."""

# pyright: reportUnusedImport=false

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from headwater.base import logs
from headwater.base.process import configure_process
from headwater.base.version import __version__
from headwater.cli.examples import examples
from headwater.errors import HeadwaterError

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


@app.callback(
    epilog=examples(
        "headwater demo",
        "headwater --quiet fit runs/stories --model roneneldan/TinyStories-1M --corpus stories.jsonl",
        "headwater --log json index runs/stories 2> index.log",
    )
)
def root(
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print only results and errors, no progress.", envvar="HEADWATER_QUIET"),
    ] = False,
    log: Annotated[
        logs.Form,
        typer.Option(
            help="Format of messages on standard error: text for people, or one JSON object per line.",
            envvar="HEADWATER_LOG",
        ),
    ] = "text",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print logs of other libraries and requests to the server.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Which training examples made this language model say that?"""
    logs.set_up(logs.Manner(log, quiet, verbose))


def main() -> None:
    """Run the command line. A HeadwaterError becomes one message and exit code 1, Ctrl-C exit code 130."""
    configure_process()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app()
    except HeadwaterError as mistake:
        _fail(str(mistake))
    except Exception as failure:
        from headwater.base.files import is_disk_full

        if not is_disk_full(failure):
            raise
        _fail(f"The disk is full ({failure}). Free some space and run the same command again: it resumes.")
    except KeyboardInterrupt:
        logs.tell("\nInterrupted. Run the same command again to resume.", "interrupted")
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    logs.set_up_by_default()
    logs.tell(message, "error", logs.ERROR)
    sys.exit(1)


from headwater.cli import (  # noqa: E402, F401
    ask,
    check,
    cloud,
    contamination,
    demo,
    doctor,
    estimate,
    evaluate,
    fit,
    index,
    info,
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
