"""Names on the command line: shell completion, and the check of names. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from glob import escape, glob
from pathlib import Path

import typer

from headwater.base.plugins import Group

DEEP = 2
"""Levels of folders below the typed one that are searched for runs."""


def complete_run(incomplete: str) -> list[str]:
    """Directories of runs that start with what is typed."""
    patterns = [f"{escape(incomplete)}*{'/*' * depth}/manifest.json" for depth in range(DEEP)]
    found = [path for pattern in patterns for path in glob(pattern)]  # noqa: PTH207 - what is typed may be absolute
    return sorted(str(Path(path).parent) for path in found)


def complete_name(group: Group) -> Callable[[str], list[str]]:
    """Completes names of a group."""
    return complete_among(group.names)


def known(group: Group) -> Callable[[str | None], str | None]:
    """The callback of an option that names one of a group: refuses an unknown name, and loads nothing."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in group.names():
            raise typer.BadParameter(f"there is no such {group.noun}. Choose among {', '.join(group.names())}.")
        return value

    return check


def complete_among(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Completes these names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete
