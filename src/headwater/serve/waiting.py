"""Waiting for a job in the event loop, without holding it up; and telling its story as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.requests import Request

from headwater.serve.jobs import Job

HEARTBEAT = 10.0
"""Seconds of silence after which an event stream says that it is still there."""
SHORTEST = 0.05
"""Seconds between two events of a stream."""


@contextmanager
def watching(job: Job) -> Iterator[asyncio.Event]:
    """An event that is set whenever something about the job changes."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(changed.set)

    job.watch(wake)
    try:
        yield changed
    finally:
        job.unwatch(wake)


async def until_over(job: Job, request: Request, seconds: float | None = None) -> bool:
    """Wait until the job is over, at most `seconds`; False where the caller has gone away."""
    if job.status.over or seconds == 0:
        return True
    over, gone = asyncio.ensure_future(_over(job)), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((over, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return over.done() or not gone.done()
    finally:
        for task in (over, gone):
            task.cancel()


async def _over(job: Job) -> None:
    with watching(job) as changed:
        while not job.status.over:
            await changed.wait()
            changed.clear()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def events(job: Job, told: Callable[[Job], str]) -> AsyncIterator[str]:
    """`progress` events while the job goes on, each with what is `told` of it, then one `end`."""
    with watching(job) as changed:
        while not job.status.over:
            yield f"event: progress\ndata: {told(job)}\n\n"
            while not await _set_within(changed, HEARTBEAT):
                yield ": still here\n\n"
            changed.clear()
            if not job.status.over:
                await asyncio.sleep(SHORTEST)
    yield f"event: end\ndata: {told(job)}\n\n"


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
