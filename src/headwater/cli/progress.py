"""What is said beside an answer, and the progress bar: on standard error, so that standard output stays clean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from headwater.base import logs
from headwater.base.progress import Report, Step, silent


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
        with _bars() as report:
            yield report


@contextmanager
def _bars() -> Iterator[Report]:
    """One bar a stage: examples done, tokens a second, time left."""
    bar = Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=32, complete_style="#67A9CF", finished_style="#67A9CF"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True, highlight=False),
    )
    stages: dict[str, _Stage] = {}

    def report(step: Step) -> None:
        if step.stage not in stages:
            task = bar.add_task(step.stage, total=step.total, rate="")
            stages[step.stage] = _Stage(task, time.monotonic())
        stage = stages[step.stage]
        stage.tokens += step.tokens
        seconds = time.monotonic() - stage.start
        rate = f"{stage.tokens / seconds:,.0f} tokens/s" if stage.tokens and seconds > 0 else step.note
        bar.update(stage.task, completed=step.done, total=step.total, rate=rate)

    with bar:
        yield report


class _Stage:
    def __init__(self, task: TaskID, start: float) -> None:
        self.task, self.start, self.tokens = task, start, 0
