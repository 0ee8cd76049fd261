"""The peak memory of the process."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from types import TracebackType

import psutil

INTERVAL = 0.005
"""Seconds between two measurements."""


class Peak(AbstractContextManager["Peak"]):
    """The peak memory of the process during a `with`, in `bytes`."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = self._measure()

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.bytes = max(self.bytes, self._measure())

    def _measure(self) -> int:
        return int(self._process.memory_info().rss)
