"""What Prometheus may read of a server: requests, jobs, the queue."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater.base import logs
from headwater.base.version import __version__
from headwater.serve.jobs import Job
from headwater.serve.problems import path_of

METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
JOB_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Of one server, in a registry of its own."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "headwater_requests",
            "Requests by route, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "headwater_request_seconds", "Until the answer begins.", ["route"], registry=registry
        )
        self._jobs = Counter("headwater_jobs", "Jobs by kind and outcome.", ["kind", "outcome"], registry=registry)
        self._job_seconds = Histogram(
            "headwater_job_seconds", "That jobs ran.", ["kind"], buckets=JOB_BUCKETS, registry=registry
        )
        Gauge("headwater_queue_length", "Jobs that wait.", registry=registry).set_function(waiting)
        self._build = Info("headwater_build", "Version and model.", registry=registry)
        self.serves("")

    def serves(self, model: str) -> None:
        self._build.info({"version": __version__, "model": model})

    def request(self, route: str, method: str, status: int, *, seconds: float) -> None:
        self._requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def ended(self, job: Job) -> None:
        self._jobs.labels(job.kind, job.status.state).inc()
        if job.status.seconds is not None:
            self._job_seconds.labels(job.kind).observe(job.status.seconds)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware that counts and times every request by the template of its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                seconds = time.monotonic() - start
                self.metrics.request(route, scope["method"], message["status"], seconds=seconds)
                logs.tell(
                    f"{scope['method']} {path_of(scope)} {message['status']}",
                    "request",
                    logs.DEBUG,
                    method=scope["method"],
                    path=path_of(scope),
                    status=message["status"],
                    seconds=seconds,
                )
            await send(message)

        await self.app(scope, receive, counted)
