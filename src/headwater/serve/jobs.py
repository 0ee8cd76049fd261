"""Jobs: what they are to do, how far they are, what came of them; and the book in which they are found again."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from headwater.base.progress import Step
from headwater.runs.run import Run
from headwater.serve.problems import Problem

State = Literal["queued", "running", "done", "failed", "cancelled"]
Ending = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    json: bytes = b""
    meaning: str | None = None
    """An answer's numbers in words."""
    made_with: str | None = None
    """Model, curvature, damping and how much was scored, on one line."""


Work = Callable[[Run], Result]
"""What a job does with the run."""

KEPT_BYTES = 256 << 20
"""Finished answers kept take no more than this, however few they then are."""


class Cancelled(Exception):
    """Raised between two batches of a job that is to stop."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is."""

    state: State = "queued"
    stage: str | None = None
    """What is being done, in words."""
    done: int = 0
    total: int = 0
    note: str = ""
    started: float | None = None
    """On the monotonic clock."""
    ended: float | None = None
    error: Problem | None = None

    @property
    def over(self) -> bool:
        return self.state not in ("queued", "running")

    @property
    def seconds(self) -> float | None:
        """That it has run so far, or ran in all; None where it never did."""
        if self.started is None:
            return None
        return (time.monotonic() if self.ended is None else self.ended) - self.started


class Job:
    """Work for the worker. Its `status` is replaced whole, so that any thread may read it."""

    def __init__(self, kind: str, work: Work, key: str | None = None) -> None:
        self.id = secrets.token_urlsafe(12)
        self.kind, self.work, self.key = kind, work, key
        self.status = Status()
        self.result = Result()
        """What `work` returned, once the job is done."""
        self._stopping = False
        self._lock = threading.Lock()
        self._watchers: set[Callable[[], None]] = set()

    @property
    def path(self) -> str:
        return f"/v1/jobs/{self.id}"

    # -- asked of it by anyone

    def stop(self) -> None:
        """Stop after the batch that is under way."""
        self._stopping = True

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher`, in whichever thread, whenever something about the job has changed."""
        with self._lock:
            self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.discard(watcher)

    # -- done by the worker

    def begin(self) -> None:
        """Raises Cancelled where it is to stop before it began."""
        self.check()
        self._set(replace(self.status, state="running", started=time.monotonic()))

    def report(self, step: Step) -> None:
        """Raises Cancelled where it is to stop."""
        self.check()
        self._set(replace(self.status, stage=step.stage, done=step.done, total=step.total, note=step.note))

    def check(self) -> None:
        if self._stopping:
            raise Cancelled

    def end(self, state: Ending, result: Result = Result(), error: Problem | None = None, *, note: str = "") -> bool:
        """End it, once: False where it had ended before. Tell the watchers afterwards."""
        with self._lock:
            if self.status.over:
                return False
            self.result = result
            self.status = replace(self.status, state=state, ended=time.monotonic(), error=error, note=note)
            return True

    def changed(self) -> None:
        """Tell the watchers."""
        with self._lock:
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher()

    def _set(self, status: Status) -> None:
        with self._lock:
            if self.status.over:  # given up on while it ran
                raise Cancelled
            self.status = status
        self.changed()


class Book:
    """Jobs by their ids: all that are under way, and the last ones that ended. Any thread may use it."""

    def __init__(self, kept: int, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept, self._kept_bytes = kept, kept_bytes
        self._lock = threading.Lock()
        self._under_way: dict[str, Job] = {}
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._by_key: dict[str, Job] = {}
        self._bytes = 0

    def enter(self, job: Job) -> None:
        with self._lock:
            self._under_way[job.id] = job

    def drop(self, job: Job) -> None:
        """Forget a job that was never queued."""
        with self._lock:
            self._under_way.pop(job.id, None)

    def ended(self, job: Job) -> None:
        """Keep a job that has ended, and forget the ones longest unasked for where there are too many."""
        with self._lock:
            if self._under_way.pop(job.id, None) is None:
                return
            self._ended[job.id] = job
            self._bytes += len(job.result.json)
            if job.key is not None and job.status.state == "done":
                self._by_key[job.key] = job
            while len(self._ended) > self._kept or (self._bytes > self._kept_bytes and len(self._ended) > 1):
                self._forget(next(iter(self._ended)))

    def _forget(self, id: str) -> None:
        job = self._ended.pop(id)
        self._bytes -= len(job.result.json)
        if job.key is not None and self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def find(self, id: str) -> Job | None:
        """The job of that id, or None where there is none, or none any more."""
        with self._lock:
            if id in self._ended:
                self._ended.move_to_end(id)
                return self._ended[id]
            return self._under_way.get(id)

    def answered(self, key: str) -> Job | None:
        """The finished job that did the same work, or None."""
        with self._lock:
            job = self._by_key.get(key)
            if job is not None:
                self._ended.move_to_end(job.id)
            return job
