"""Write docs/cli.md from the commands' --help; with --check, exit 1 if the file is out of date."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ["TERMINAL_WIDTH"] = "100"
os.environ["NO_COLOR"] = "1"
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"

import typer
from generated import keep
from typer.testing import CliRunner

from headwater.cli import app


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of a group and of all commands below it, sorted by name, without hidden ones."""
    yield path
    for name, command in sorted(getattr(group, "commands", {}).items()):
        if not command.hidden:
            yield from commands(command, (*path, name))


def page() -> str:
    parts = [
        "# Command line\n\nWritten from the commands by `scripts/write_cli_help.py`. `make check` "
        "fails if it is out of date.\n"
    ]
    for command in commands(typer.main.get_command(app)):
        title = " ".join(["headwater", *command])
        text = CliRunner().invoke(app, [*command, "--help"], prog_name="headwater").output
        body = "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
        parts.append(f"## {title}\n\n```\n{body.strip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(keep("cli.md", page(), sys.argv[1:]))
