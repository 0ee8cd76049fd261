"""Names on the command line: what a shell is offered where Tab is pressed, and what is refused. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from glob import escape, glob
from pathlib import Path

import typer

from headwater.base.plugins import Group

DEEP = 2
"""Runs are looked for in folders up to so far below what is typed."""


def complete_run(incomplete: str) -> list[str]:
    """Directories of runs that begin so."""
    patterns = [f"{escape(incomplete)}*{'/*' * depth}/manifest.json" for depth in range(DEEP)]
    found = [path for pattern in patterns for path in glob(pattern)]  # noqa: PTH207 - what is typed may be absolute
    return sorted(str(Path(path).parent) for path in found)


def complete_name(group: Group) -> Callable[[str], list[str]]:
    """Names of a group that begin so."""
    return complete_among(group.names)


def known(group: Group) -> Callable[[str | None], str | None]:
    """The callback of an option that names one of a group: refuses a name that nobody has, and loads nothing."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in group.names():
            raise typer.BadParameter(f"there is no such {group.noun}. Choose among {', '.join(group.names())}.")
        return value

    return check


def complete_among(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Of these names, those that begin so."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete
