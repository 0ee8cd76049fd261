"""`python -m tests.killed`: runs command lines in forked children, and has them killed or short of room.

It has loaded everything that can be shared, so that a child starts in milliseconds. Each request is one JSON line on
standard input:

    {"arguments": ["fit", …], "at": 5}         the child sends itself SIGKILL at its fifth step of progress
    {"arguments": ["fit", …], "seconds": 0.2}  it does so 0.2 s after its first step
    {"arguments": ["fit", …], "room": 2000}    it can write no file of more than 2,000 bytes

The answer is one JSON line: {"status": -9, "steps": [{"stage": …, "done": …, …}, …], "output": "…", "seconds": 0.2},
where the seconds are those since the first step.
A child that takes longer than TOO_LONG ends with a traceback and exit code 1.
"""

# pyright: reportUnusedImport=false

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import lance_namespace_urllib3_client.api  # noqa: F401  # the slowest part of lancedb, which itself starts a thread
import torch
import transformers.models.gpt_neo.modeling_gpt_neo  # noqa: F401

import headwater.evaluate.board
import headwater.evaluate.methods
import headwater.render.leaderboard
import headwater.runs.run  # noqa: F401
from headwater.base.progress import Report, Step
from headwater.cli import main as headwater_main

TOO_LONG = 120
"""Seconds."""


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _work(arguments: list[str], steps: int, *, at: int | None, seconds: float | None, room: int | None) -> None:
    """Run the command line. Each step goes to the pipe `steps` before the kill."""
    faulthandler.dump_traceback_later(TOO_LONG, exit=True)
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    seen = 0

    def report(step: Step) -> None:
        nonlocal seen
        seen += 1
        if seen == 1 and seconds is not None:
            threading.Timer(seconds, kill).start()
        os.write(steps, json.dumps(asdict(step)).encode() + b"\n")
        if seen == at:
            kill()

    @contextmanager
    def progress_report() -> Iterator[Report]:
        yield report

    for name, module in list(sys.modules.items()):
        if name.startswith("headwater.cli.") and hasattr(module, "progress_report"):
            vars(module)["progress_report"] = progress_report
    sys.argv = ["headwater", *arguments]
    headwater_main()


def _exit_code(arguments: list[str], steps: int, **fate: Any) -> int:
    """Run the command line; the exit code."""
    try:
        _work(arguments, steps, **fate)
    except SystemExit as ending:
        return int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _child(
    arguments: list[str], at: int | None = None, seconds: float | None = None, *, room: int | None = None
) -> dict[str, Any]:
    """How a child that runs the command line ended, the steps that it reported, and what it printed."""
    steps, steps_end = os.pipe()
    output, output_end = os.pipe()
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(output_end, stream)
        code = _exit_code(arguments, steps_end, at=at, seconds=seconds, room=room)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.close(steps_end)
    os.close(output_end)
    printed: list[str] = []
    with os.fdopen(steps) as reported, os.fdopen(output, errors="replace") as said:
        reader = threading.Thread(target=lambda: printed.append(said.read()))
        reader.start()
        found = [json.loads(line) for line in reported.readline().splitlines()]
        start = time.monotonic()
        found += [json.loads(line) for line in reported]
        reader.join()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds_taken = time.monotonic() - start
    return {"status": status, "steps": found, "output": "".join(printed), "seconds": seconds_taken}


def main() -> None:
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else is printed between the answers
    for line in sys.stdin:
        print(json.dumps(_child(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
