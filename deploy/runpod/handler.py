"""Headwater as a Runpod serverless worker: opens the run named in HEADWATER_RUN once, then answers jobs.

HEADWATER_RUN_HUB names a hub repository that the run is fetched from first. HEADWATER_STREAM=1 lets jobs ask for a
stream: the SDK then returns what a job yields as a list, so that its output is `[{"influences": …}]` where it is
otherwise `{"influences": …}`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import runpod

from headwater.base.logs import Manner, set_up
from headwater.runpod.worker import Send, answer_event, open_worker, stream_event

LAST_WORDS = 2.0
"""Seconds that an answer waits for progress updates still on their way."""


def sender(job: dict[str, Any]) -> Send:
    """Progress goes to the queue, where there is one, and to the log where the worker is tried out locally."""
    if "RUNPOD_WEBHOOK_POST_OUTPUT" in os.environ:
        return lambda update: runpod.serverless.progress_update(job, update)
    return lambda update: sys.stderr.write(f"progress {update}\n")


def settle() -> None:
    """Wait for progress updates that the SDK still sends in threads of their own.

    One that arrived after the answer would put the finished job back to "in progress" for good.
    """
    for thread in threading.enumerate():
        if "_thread_target" in thread.name:
            thread.join(LAST_WORDS)


def main() -> None:
    set_up(Manner("json" if os.environ.get("HEADWATER_LOG") == "json" else "text"))
    worker = open_worker(os.environ.get("HEADWATER_RUN", "/runpod-volume/run"), os.environ.get("HEADWATER_RUN_HUB"))
    config: dict[str, Any] = {"return_aggregate_stream": True}

    def handler(job: dict[str, Any]) -> dict[str, Any]:
        output = answer_event(worker, job, sender(job))
        settle()
        return output

    def streaming_handler(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for part in stream_event(worker, job, sender(job)):
            settle()
            if part.pop("refresh_worker", False):
                config["refresh_worker"] = True  # the SDK has no such key for what a generator yields
            yield part

    # The SDK asks of the function, not of the job, whether it streams.
    config["handler"] = streaming_handler if os.environ.get("HEADWATER_STREAM") == "1" else handler
    runpod.serverless.start(config)


if __name__ == "__main__":
    main()
