"""The results of many pieces of work on a Ray cluster, in order, whatever its workers do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError, first_line

if TYPE_CHECKING:
    from headwater.sweep.ray_engine import RayEngine

AHEAD = 2
"""Pieces of work per worker that may run, or wait for an earlier result to be taken."""
MOST_DEATHS = 3
"""Workers that may die of one piece of work."""
PATIENCE = 60
"""Seconds without any worker until the cluster is asked whether it has room for one."""


class OrderedResults:
    """The results of `work` on `items`, in their order. Items are taken only a little before their results are."""

    def __init__(self, engine: RayEngine, work: Any, items: Iterable[Any]) -> None:
        self.engine = engine
        self.work = work
        self.items = enumerate(items)
        self.wanted = 0
        """Number of the next result."""
        self.next: tuple[int, Any] | None = next(self.items, None)
        self.again: list[tuple[int, Any]] = []
        """Items whose worker died."""
        self.running: dict[Any, tuple[int, Any, Any]] = {}
        """Future of a result -> number of the item, the item, the worker."""
        self.results: dict[int, Any] = {}
        self.deaths: Counter[int] = Counter()

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                self._hand_out()
                if self.wanted in self.results:
                    yield self.results.pop(self.wanted)
                    self.wanted += 1
                elif self.running or self.again or self.next:
                    self._await()
                else:
                    return
        finally:  # running results are dropped, their workers are kept
            self.engine.idle += [worker for _, _, worker in self.running.values()]

    def _hand_out(self) -> None:
        """Give every idle worker an item."""
        furthest = self.wanted + AHEAD * self.engine.workers.count
        while self.engine.idle and (self.again or (self.next and self.next[0] < furthest)):
            if self.again:
                number, item = heappop(self.again)
            else:
                assert self.next is not None
                (number, item), self.next = self.next, next(self.items, None)
            worker = self.engine.idle.pop()
            self.running[worker.call.remote(self.work, item)] = (number, item, worker)

    def _await(self) -> None:
        """Wait until a result has come, or a worker has started or died."""
        import ray

        starting = self.engine.starting
        ready, _ = ray.wait([*self.running, *starting], num_returns=1, timeout=PATIENCE)
        for future in ready:
            if future in starting:
                self.engine.greet(future)
            else:
                self._receive(future)
        if not (ready or self.running):
            self.engine.check_room()

    def _receive(self, future: Any) -> None:
        """Keep a result. If its worker died, hire another and run the item again."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        number, item, worker = self.running.pop(future)
        try:
            self.results[number] = ray.get(future)
            self.engine.idle.append(worker)
        except RayTaskError as error:
            self.engine.idle.append(worker)
            if isinstance(error.cause, HeadwaterError):
                raise HeadwaterError(str(error.cause)) from error
            raise
        except RayError as error:
            self.engine.dismiss(worker)
            self.engine.hire()
            self.engine.health_check()
            self.deaths[number] += 1
            if self.deaths[number] >= MOST_DEATHS:
                raise HeadwaterError(
                    f"{MOST_DEATHS} workers died one after the other of the same piece of work: {first_line(error)}. "
                    "Most likely a node has too little memory. Start fewer workers on it, or cut long examples."
                ) from error
            heappush(self.again, (number, item))
