"""The examples under the help of a command."""

from __future__ import annotations

from rich.markup import escape

TITLE = "Examples"


def examples(*commands: str) -> str:
    """The epilog of a command, with one of the `commands` per line.

    A test parses every example as a command line. It skips variables before `headwater` and redirections at the end.
    """
    return "\n".join([f"[bold]{TITLE}[/]", *(f"[dim]{escape(command)}[/]" for command in commands)])
