"""Messages on standard error, beside results: as text, as JSON, or none.

All messages go through Python's logging, under the name `headwater`. An application with its own logging gets the same
records, with `event` and `fields` beside the message. A user of the library without logging gets no messages.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from rich.console import Console

from headwater.base.progress import Report, Step
from headwater.errors import HeadwaterWarning

LOG = logging.getLogger("headwater")
DEBUG, ERROR = logging.DEBUG, logging.ERROR
Form = Literal["text", "json"]
PROGRESS_INTERVAL = 1.0
"""Seconds between two messages about the progress of one stage."""


@dataclass(frozen=True)
class Manner:
    """Which messages appear, and in which form."""

    form: Form = "text"
    quiet: bool = False
    """Only errors."""
    verbose: bool = False
    """Also requests to the server, and messages of other libraries."""


class _Handler(logging.Handler):
    """Writes to the current standard error."""

    def __init__(self, manner: Manner) -> None:
        super().__init__(logging.ERROR if manner.quiet else logging.DEBUG)
        self.manner = manner

    def filter(self, record: logging.LogRecord) -> bool:
        """Headwater's records from INFO on, and others from ERROR on. With `verbose`, all from DEBUG on."""
        own = record.name.partition(".")[0] == "headwater"
        least = logging.DEBUG if self.manner.verbose else logging.INFO if own else logging.ERROR
        return record.levelno >= least and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        screen = Console(stderr=True, highlight=False)
        if self.manner.form == "json":
            screen.file.write(_json(record) + "\n")
            screen.file.flush()
            return
        if record.levelno >= logging.WARNING:
            colour = "bold red" if record.levelno >= logging.ERROR else "bold yellow"
            screen.print(f"[{colour}]{record.levelname.lower()}[/]", end=" ")
        screen.print(record.getMessage() + _trace(record), markup=False, soft_wrap=True)


def set_up(manner: Manner = Manner()) -> None:
    """Set up the messages of the whole process."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler(manner))
    root.setLevel(logging.INFO if manner.verbose else logging.WARNING)
    LOG.setLevel(logging.DEBUG if manner.verbose else logging.INFO)
    warnings.showwarning = _warned
    if not manner.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical" if manner.form == "json" else "error")
    if manner.form == "json" or manner.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def set_up_by_default() -> None:
    """Set up messages as text, unless they or the application's own logging are set up already."""
    if not logging.getLogger().handlers:
        set_up()


def manner() -> Manner:
    """The present setting."""
    found = [handler for handler in logging.getLogger().handlers if isinstance(handler, _Handler)]
    return found[0].manner if found else Manner()


def tell(text: str, event: str = "message", level: int = logging.INFO, /, **fields: Any) -> None:
    """Log `text`. In JSON, the name of the `event` and its `fields` are beside it."""
    LOG.log(level, "%s", text, extra={"event": event, "fields": fields})


def progress(clock: Callable[[], float] = time.monotonic) -> Report:
    """A Report that logs the first and the last step of every stage, and at most one step a second between them."""
    began: dict[str, float] = {}
    told: dict[str, float] = {}
    tokens: dict[str, int] = {}

    def report(step: Step) -> None:
        now = clock()
        since = now - began.setdefault(step.stage, now)
        tokens[step.stage] = tokens.get(step.stage, 0) + step.tokens
        if step.stage in told and step.done < step.total and now - told[step.stage] < PROGRESS_INTERVAL:
            return
        told[step.stage] = now
        rate = round(tokens[step.stage] / since) if tokens[step.stage] and since > 0 else None
        tell(
            f"{step.stage} {step.done:,} of {step.total:,}",
            "progress",
            stage=step.stage,
            done=step.done,
            total=step.total,
            tokens=tokens[step.stage] or None,
            tokens_per_second=rate,
            note=step.note or None,
        )

    return report


def _json(record: logging.LogRecord) -> str:
    """One line: time, level, logger, event, message, and the fields of the event."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": getattr(record, "event", "message"),
        "message": record.getMessage(),
    }
    fields = {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
    trace = {"traceback": _trace(record).strip()} if record.exc_info else {}
    return json.dumps({**found, **fields, **trace}, ensure_ascii=False, default=str)


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log warnings: Headwater's under its own name, others as messages of other libraries."""
    name = "headwater" if issubclass(category, HeadwaterWarning) else "warnings"
    logging.getLogger(name).warning(
        "%s", message, extra={"event": "warning", "fields": {"category": category.__name__}}
    )
