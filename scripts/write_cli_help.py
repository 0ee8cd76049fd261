"""Write docs/cli.md from the commands' own --help; with --check, fail where it has drifted."""

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
    """A group and all commands below it, by name, without hidden ones."""
    yield path
    for name, command in sorted(getattr(group, "commands", {}).items()):
        if not command.hidden:
            yield from commands(command, (*path, name))


def page() -> str:
    parts = [
        "# Command line\n\nWritten from the commands themselves by `scripts/write_cli_help.py`; `make check` "
        "fails where it has drifted.\n"
    ]
    for command in commands(typer.main.get_command(app)):
        title = " ".join(["headwater", *command])
        text = CliRunner().invoke(app, [*command, "--help"], prog_name="headwater").output
        body = "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
        parts.append(f"## {title}\n\n```\n{body.strip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(keep("cli.md", page(), sys.argv[1:]))
