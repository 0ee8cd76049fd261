"""The one thread that owns the model: it loads the run, then does job after job from a bounded queue."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from statistics import fmean

from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.serve.jobs import Cancelled, Ending, Job, Result
from headwater.serve.problems import Problem, ProblemError, problem, unexpected

RECENT = 20
"""Jobs whose durations tell how long the next ones may take."""
FIRST_GUESS = 2.0
"""Seconds of a job, before any has ended."""
LONGEST_RETRY = 120
"""Seconds after which a caller is told to come again, at most."""
STOP_SECONDS = 10.0
"""That a running batch is waited for when the server stops."""
STOPPED = "The server stopped."


class Worker:
    """Every job given to it ends: done, failed or cancelled."""

    def __init__(self, open_run: Callable[[], Run], limit: int, on_end: Callable[[Job], None]) -> None:
        self.limit = limit
        self.run: Run | None = None
        """Once it is loaded."""
        self.failure: Problem | None = None
        """Why it could not be loaded."""
        self._open, self._on_end = open_run, on_end
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._thread = threading.Thread(target=self._live, name="headwater model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ProblemError where the queue is full, or nobody will ever do it."""
        with self._changed:
            if self.failure is not None:
                raise ProblemError(503, f"The run could not be loaded. {self.failure.detail}")
            if self._closing or not self._thread.is_alive():
                raise ProblemError(503, "The server is stopping.")
            if len(self._queue) >= self.limit:
                raise ProblemError(
                    429,
                    f"{len(self._queue)} jobs are waiting, and no more may. Ask again later.",
                    {"Retry-After": str(self._until_free())},
                )
            self._queue.append(job)
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """End a queued job at once, a running one after its batch; one that is over stays as it is."""
        with self._changed:
            queued = job in self._queue
            if queued:
                self._queue.remove(job)
        if queued:
            self._end(job, "cancelled")
            self._places_changed()
        else:
            job.stop()

    def place(self, job: Job) -> int:
        """How many jobs are ahead of it; 0 where it runs or is over."""
        with self._changed:
            if job not in self._queue:
                return 0
            return self._queue.index(job) + (self._running is not None)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    def close(self, seconds: float = STOP_SECONDS) -> None:
        """Stop: the running job after its batch, or after `seconds` whatever it does; the others are cancelled."""
        with self._changed:
            self._closing = True
            dropped, running = list(self._queue), self._running
            self._queue.clear()
            self._changed.notify_all()
        for job in dropped:
            self._end(job, "cancelled", note=STOPPED)
        if running is not None:
            running.stop()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if running is not None:
            self._end(running, "cancelled", note=STOPPED)

    def _until_free(self) -> int:
        """Seconds until all that wait may be done."""
        each = fmean(self._durations) if self._durations else FIRST_GUESS
        return max(1, min(LONGEST_RETRY, math.ceil(each * len(self._queue))))

    # -- in the thread

    def _live(self) -> None:
        try:
            self.run = self._open()
        except HeadwaterError as mistake:
            self._give_up(problem(503, str(mistake)))
            return
        except BaseException as error:
            self._give_up(unexpected(error, "loading the run"))
            return
        try:
            while (job := self._next()) is not None:
                self._do(job, self.run)
        except BaseException as error:  # nothing of a job's own comes this far
            self._give_up(unexpected(error, "the worker"))

    def _give_up(self, why: Problem) -> None:
        with self._changed:
            self.failure = why
            dropped = [*self._queue, *([self._running] if self._running else [])]
            self._queue.clear()
        for job in dropped:
            self._end(job, "failed", error=why)

    def _next(self) -> Job | None:
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._queue or self._closing)
            if self._closing:
                return None
            self._running = self._queue.popleft()
        self._places_changed()
        return self._running

    def _do(self, job: Job, run: Run) -> None:
        start = time.monotonic()
        try:
            job.begin()
            result = job.work(run.using(report=job.report))
        except Cancelled:
            self._end(job, "cancelled", note=STOPPED if self._closing else "")
        except HeadwaterError as mistake:
            self._end(job, "failed", error=problem(422, str(mistake), job.path))
        except BaseException as error:  # a panic in Rust is no Exception, and the next job needs this thread
            self._end(job, "failed", error=unexpected(error, f"job {job.id}", job.path))
        else:
            self._durations.append(time.monotonic() - start)
            self._end(job, "done", result)

    def _end(
        self, job: Job, state: Ending, result: Result = Result(), *, error: Problem | None = None, note: str = ""
    ) -> None:
        if job.end(state, result, error, note=note):
            self._on_end(job)
            job.changed()

    def _places_changed(self) -> None:
        with self._changed:
            waiting = list(self._queue)
        for job in waiting:
            job.changed()
