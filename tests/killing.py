"""Killing long work in its middle: by an exception in this process, or by SIGKILL in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headwater.base.progress import Step


class KilledError(Exception):
    pass


def kill_at(step: int) -> Callable[[Step], None]:
    """A report that stands for a kill at the given step."""
    left = [step]

    def report(_: Step) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    return report


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended."""

    status: int
    """Its exit code, or the signal that killed it as a negative number."""
    steps: Sequence[Step]
    """What it reported before."""
    output: str
    """What it printed, errors included."""
    seconds: float
    """Since its first step."""


class Host:
    """A process that runs command lines in children of its own (tests/killed.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *arguments: str | Path | int, **fate: float) -> Ended:
        """Run `headwater …` in a child. It is killed `at` a step or after some `seconds`, or has little `room`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": [str(argument) for argument in arguments], **fate}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(**answer | {"steps": [Step(**step) for step in answer["steps"]]})


@contextmanager
def killing_host() -> Iterator[Host]:
    command = [sys.executable, "-m", "tests.killed"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as host:
        assert host.stdin is not None
        try:
            yield Host(host)
        finally:
            host.stdin.close()
