"""What is said beside an answer, and the progress bar: on standard error, so that standard output stays clean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headwater.base import logs
from headwater.base.progress import Report, silent
from headwater.base.progress_bar import progress_bars


def say(text: str) -> None:
    """A plain line; the terminal breaks it where it must, a pipe nowhere."""
    logs.ready()
    logs.tell(text)


@contextmanager
def progress_report() -> Iterator[Report]:
    """A Report in the manner that was asked for: a bar, events, or nothing."""
    logs.ready()
    manner = logs.manner()
    if manner.quiet:
        yield silent
    elif manner.form == "json":
        yield logs.progress()
    else:
        with progress_bars() as report:
            yield report
