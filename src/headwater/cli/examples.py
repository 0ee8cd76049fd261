"""Examples under the help of a command."""

from __future__ import annotations

from rich.markup import escape

TITLE = "Examples"


def examples(*commands: str) -> str:
    """The epilog of a command that shows these `commands`, one a line.

    What there is to them beside `headwater` and its arguments, variables before and redirections after, is read past by
    the test that holds every example against the command line.
    """
    return "\n".join([f"[bold]{TITLE}[/]", *(f"[dim]{escape(command)}[/]" for command in commands)])
