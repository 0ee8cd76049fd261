"""Messages and the progress bar on standard error; standard output has only results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headwater.base import logs
from headwater.base.progress import Report, silent
from headwater.base.progress_bar import progress_bars


def say(text: str) -> None:
    """Print a message. Long lines are wrapped in a terminal, not in a pipe."""
    logs.set_up_by_default()
    logs.tell(text)


@contextmanager
def progress_report() -> Iterator[Report]:
    """The Report of the chosen log form: a bar, JSON events, or nothing."""
    logs.set_up_by_default()
    manner = logs.manner()
    if manner.quiet:
        yield silent
    elif manner.form == "json":
        yield logs.progress()
    else:
        with progress_bars() as report:
            yield report
