"""Runpod serverless worker: opens the run named in HEADWATER_RUN once, then answers jobs.

HEADWATER_RUN_HUB names a hub repository to fetch the run from first. HEADWATER_STREAM=1 lets jobs ask for a stream. The
SDK then returns the parts of every job as a list: the output is `[{"influences": …}]` instead of `{"influences": …}`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from headwater import configure_process

configure_process()  # before anything imports torch

import runpod  # noqa: E402

from headwater.base.logs import Manner, set_up  # noqa: E402
from headwater.runpod.worker import Send, answer_event, open_worker, stream_event  # noqa: E402

LAST_WORDS = 2.0
"""Seconds that an answer waits for each progress update that is still being sent."""


def sender(job: dict[str, Any]) -> Send:
    """Send progress to the queue, or to the log when the worker runs locally."""
    if "RUNPOD_WEBHOOK_POST_OUTPUT" in os.environ:
        return lambda update: runpod.serverless.progress_update(job, update)
    return lambda update: sys.stderr.write(f"progress {update}\n")


def settle() -> None:
    """Wait for progress updates that the SDK still sends from its own threads.

    An update that arrives after the answer would set the finished job back to "in progress" for good.
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
                config["refresh_worker"] = True  # a generator cannot yield this key to the SDK
            yield part

    # The SDK checks the function, not the job, for streaming.
    config["handler"] = streaming_handler if os.environ.get("HEADWATER_STREAM") == "1" else handler
    runpod.serverless.start(config)


if __name__ == "__main__":
    main()
