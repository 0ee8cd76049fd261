"""What the routes work with: the worker, the book of jobs, what is said of the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from headwater.base import logs
from headwater.runs.run import Run
from headwater.serve.about import about
from headwater.serve.jobs import Book, Job, Work
from headwater.serve.metrics import Metrics
from headwater.serve.problems import ProblemError, problem, problem_response
from headwater.serve.schemas import RunBody
from headwater.serve.settings import Settings
from headwater.serve.waiting import until_over
from headwater.serve.worker import Worker

LOADING = {"Retry-After": "1"}


class Service:
    """Everything a server holds; made once with the app."""

    def __init__(self, open_run: Callable[[], Run], settings: Settings) -> None:
        def load() -> Run:
            run = open_run()
            run.corpus.position  # noqa: B018  # looked up once, before requests do so in several threads
            self.about = about(run, settings.queue)
            self.metrics.serves(run.lm.name)
            return run

        def ended(job: Job) -> None:
            self.book.ended(job)
            self.metrics.ended(job)
            seconds = job.status.seconds
            took = "" if seconds is None else f" after {seconds:.1f} s"
            logs.tell(
                f"{job.kind} {job.id}: {job.status.state}{took}",
                "job",
                kind=job.kind,
                id=job.id,
                state=job.status.state,
                seconds=seconds,
                problem=None if job.status.error is None else job.status.error.detail,
            )

        self.settings = settings
        self.about: RunBody | None = None
        self.book = Book(settings.kept)
        self.worker = Worker(load, settings.queue, ended)
        self.metrics = Metrics(lambda: self.worker.waiting)
        self.reading = threading.Lock()
        """Held while the corpus is read outside the worker."""

    def ready(self) -> tuple[Run, RunBody]:
        """The run and what is said of it. Raises ProblemError while it is not loaded."""
        if self.worker.failure is not None:
            raise ProblemError(503, f"The run could not be loaded. {self.worker.failure.detail}")
        if self.worker.run is None or self.about is None:
            raise ProblemError(503, "The run is loading.", LOADING)
        return self.worker.run, self.about

    def enter(self, kind: str, work: Work, key: str) -> Job:
        """The finished job of that key, or a new one, queued. Raises ProblemError where the queue is full."""
        known = self.book.answered(key)
        if known is not None:
            return known
        job = Job(kind, work, key)
        self.book.enter(job)
        try:
            self.worker.submit(job)
        except ProblemError:
            self.book.drop(job)
            raise
        return job

    def kept(self, key: str) -> bytes | None:
        """What came of the finished job of that key, as JSON; None where there is none, or none any more."""
        known = self.book.answered(key)
        return None if known is None else known.result.json

    def job(self, id: str) -> Job:
        """Raises ProblemError where there is none of that id."""
        job = self.book.find(id)
        if job is None:
            raise ProblemError(404, "There is no such job, or its answer is no longer kept. Ask the question again.")
        return job

    async def now(self, kind: str, work: Work, request: Request) -> Response:
        """Have work done while the caller waits; it is dropped where the caller goes away."""
        job = Job(kind, work)
        self.worker.submit(job)
        here = await until_over(job, request)
        if not here:
            self.worker.cancel(job)
        if job.status.state == "done":
            return Response(job.result.json, media_type="application/json")
        error = job.status.error or problem(503, "The server is stopping.")
        return problem_response(error.at(request.url.path))

    def told(self, job: Job, *, with_answer: bool = True) -> str:
        """A job as JSON."""
        status = job.status
        seconds = status.seconds
        parts: dict[str, Any] = {
            "id": job.id,
            "state": status.state,
            "place": self.worker.place(job),
            "stage": status.stage,
            "done": status.done,
            "total": status.total,
            "note": status.note,
            "seconds": None if seconds is None else round(seconds, 3),
            "error": None if status.error is None else status.error.to_dict(),
            "meaning": job.result.meaning,
            "made_with": job.result.made_with,
        }
        # The answer is JSON already, and may be megabytes of it.
        answer = job.result.json.decode() if with_answer and status.state == "done" else "null"
        return f'{json.dumps(parts)[:-1]}, "answer": {answer}}}'


def service_of(request: Request) -> Service:
    """The service of the app that a request came to."""
    return request.app.state.service


TheService = Annotated[Service, Depends(service_of)]
