"""A progress bar on standard error: one line a stage, with the rate and the time left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from headwater.base.progress import Report, Step


@contextmanager
def progress_bars() -> Iterator[Report]:
    """A Report that draws a bar for each stage: examples done, tokens a second, time left."""
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


def somebody_watches() -> bool:
    """Whether a person sees standard error: in a terminal or a notebook, unless HEADWATER_PROGRESS is 0."""
    wanted = os.environ.get("HEADWATER_PROGRESS") != "0"
    return wanted and (sys.stderr.isatty() or _in_notebook())


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; a process that only started one is not."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
