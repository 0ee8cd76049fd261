"""The engine that is a Ray cluster: shards and other pieces of work are handed to actors that hold the model.

Every piece of work depends on nothing but itself, and what comes back is taken in order, so that any number of workers
gives the same bytes, as long as each has the same number of threads. A worker that dies loses the piece it was at,
which is given to another.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from headwater.base.progress import Report, Step, silent
from headwater.corpus.batches import TokenSequence
from headwater.errors import FingerprintMismatch, HeadwaterError, first_line
from headwater.gradients import aligned_rows
from headwater.gradients.reducer import R
from headwater.lm.capture import Capture
from headwater.lm.load import LanguageModel, Loading, load_model
from headwater.sweep.options import Workers
from headwater.sweep.sweep import LOCAL_ENGINE, Shard, Sweep, reduce_shard

T = TypeVar("T")
U = TypeVar("U")
AHEAD = 2
"""Pieces of work for each worker that may be under way or wait for an earlier one to be taken."""
MOST_DEATHS = 3
"""So many workers may die of one piece of work."""
PATIENCE = 60
"""Seconds without any worker after which the cluster is asked whether it can have one."""


def _ray() -> Any:
    """Ray, loaded when it is first needed."""
    import ray

    return ray


class RayEngine:
    """A cluster's workers, for the length of a `with`. `address` is the cluster's; None starts one on this machine.

    Raises HeadwaterError where Ray is not installed, no cluster answers, or it has no room for a single worker.
    """

    def __init__(self, workers: Workers = Workers(), address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise HeadwaterError("--engine ray needs Ray. Install it with: pip install 'headwater[ray]'")
        if workers.count < 1 or workers.cpus < 1 or workers.gpus < 0:
            raise HeadwaterError("Ray needs at least one worker, with at least one core.")
        self.workers = workers
        self.address = address
        self.idle: list[Any] = []
        self.starting: dict[Any, Any] = {}
        """What says that a worker has started -> the worker."""
        self.failed_starts = 0
        """How many died in a row before they had answered."""

    def __enter__(self) -> RayEngine:
        ray = _ray()
        self._joined = not ray.is_initialized()
        if self._joined:
            try:
                _check_port(self.address)
                # Without an address Ray would join whatever cluster was last started on this machine, whosever it is.
                ray.init(
                    address=self.address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise HeadwaterError(
                    f"No Ray cluster answers at {self.address or 'this machine'}: {first_line(error)}. Start one with "
                    "`ray start --head`, and name it with --address."
                ) from error
        _send_tensors_as_arrays()
        for _ in range(self.workers.count):
            self.hire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray = _ray()
        for worker in (*self.idle, *self.starting.values()):
            self.dismiss(worker)
        if self._joined:
            ray.shutdown()

    def reduce(
        self, sweep: Sweep, shards: Sequence[Shard], make: Callable[[], R], *, report: Report
    ) -> Iterator[tuple[Shard, R]]:
        """The shards' reducers; a worker sends the state of its own, and the sequences are sent to it."""
        bare = replace(sweep, lm=None, sequences=(), cache=None, engine=LOCAL_ENGINE)  # pyright: ignore[reportArgumentType]
        work = _ShardWork(bare, _Source.of(sweep.lm), make)
        done = shards[0].start if shards else len(sweep.sequences)
        report(Step(stage=sweep.stage, done=done, total=len(sweep.sequences), tokens=0))
        results = self.map(work, ((shard, sweep.sequences[shard.start : shard.stop]) for shard in shards))
        for shard, (state, tokens) in zip(shards, results, strict=True):
            reducer = make()
            reducer.load_state_dict({name: tensor.to(sweep.lm.device) for name, tensor in state.items()})
            done += shard.stop - shard.start
            report(Step(stage=sweep.stage, done=done, total=len(sweep.sequences), tokens=tokens))
            yield shard, reducer

    def map(self, work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        ray = _ray()
        return iter(_Ordered(self, ray.put(work), items))

    def greet(self, started: Any) -> None:
        """A worker has answered, or has died before it could; then another is asked for."""
        ray = _ray()
        worker = self.starting.pop(started)
        try:
            ray.get(started)
        except ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > MOST_DEATHS * self.workers.count:
                raise HeadwaterError(f"Workers of the Ray cluster do not start: {first_line(error)}") from error
            self.dismiss(worker)
            self.hire()
        else:
            self.failed_starts = 0
            self.idle.append(worker)

    def dismiss(self, worker: Any) -> None:
        """Let go of a worker, dead or alive."""
        with contextlib.suppress(Exception):  # it may be out of reach
            _ray().kill(worker)

    def health_check(self) -> None:
        """Ask all idle workers whether they live: where one has died, its machine may be lost with others."""
        self.starting |= {worker.ready.remote(): worker for worker in self.idle}
        self.idle.clear()

    def check_room(self) -> None:
        """Raises HeadwaterError where the cluster could not have even one of the workers."""
        ray = _ray()
        found = ray.cluster_resources()
        cpus, gpus = found.get("CPU", 0), found.get("GPU", 0)
        if cpus < self.workers.cpus or gpus < self.workers.gpus:
            raise HeadwaterError(
                f"The Ray cluster has no room for a worker of {self.workers.cpus} cores and {self.workers.gpus:g} "
                f"GPUs: all of it has {cpus:g} and {gpus:g}. Ask for less with --cpus-per-worker and --gpus-per-worker."
            )

    def hire(self) -> None:
        """Ask for one worker more; it is idle once it has started."""
        ray = _ray()
        worker = (
            ray.remote(_Worker)
            .options(num_cpus=self.workers.cpus, num_gpus=self.workers.gpus)
            .remote(self.workers.cpus)
        )
        self.starting[worker.ready.remote()] = worker


class _Worker:
    """The actor: it does what it is sent, and keeps the model that it has loaded."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        _send_tensors_as_arrays("cuda" if torch.cuda.is_available() else "cpu")

    def ready(self) -> None:
        """Answered once the worker has started."""

    def call(self, work: Callable[[Any], Any], item: Any) -> Any:
        return work(item)


class _Ordered:
    """The results of `work` on `items`, in their order. No item is taken long before its result is wanted."""

    def __init__(self, engine: RayEngine, work: Any, items: Iterable[Any]) -> None:
        self.engine = engine
        self.work = work
        self.items = enumerate(items)
        self.wanted = 0
        """Number of the next result."""
        self.next: tuple[int, Any] | None = next(self.items, None)
        self.again: list[tuple[int, Any]] = []
        """Those whose worker died."""
        self.running: dict[Any, tuple[int, Any, Any]] = {}
        """What stands for a result -> the item's number, the item, the worker."""
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
        finally:  # what is still under way is of no use, but the workers are
            self.engine.idle += [worker for _, _, worker in self.running.values()]

    def _hand_out(self) -> None:
        """Give every idle worker something to do."""
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
        """Until a result has come, or a worker has started or died."""
        ray = _ray()
        starting = self.engine.starting
        ready, _ = ray.wait([*self.running, *starting], num_returns=1, timeout=PATIENCE)
        for one in ready:
            if one in starting:
                self.engine.greet(one)
            else:
                self._receive(one)
        if not (ready or self.running):
            self.engine.check_room()

    def _receive(self, one: Any) -> None:
        """Note a result; where its worker died, hire another and do the item again."""
        ray = _ray()
        number, item, worker = self.running.pop(one)
        try:
            self.results[number] = ray.get(one)
            self.engine.idle.append(worker)
        except ray.exceptions.RayTaskError as error:
            self.engine.idle.append(worker)
            if isinstance(error.cause, HeadwaterError):
                raise HeadwaterError(str(error.cause)) from error
            raise
        except ray.exceptions.RayError as error:
            self.engine.dismiss(worker)
            self.engine.hire()
            self.engine.health_check()
            self.deaths[number] += 1
            if self.deaths[number] >= MOST_DEATHS:
                raise HeadwaterError(
                    f"{MOST_DEATHS} workers died one after the other of the same piece of work: {first_line(error)}. "
                    "Out of memory, most likely: give a node fewer workers, or make the batches smaller."
                ) from error
            heappush(self.again, (number, item))


@dataclass(frozen=True)
class _Source:
    """Where a worker has the model from."""

    name: str
    loading: Loading
    fingerprint: str

    @classmethod
    def of(cls, lm: LanguageModel) -> _Source:
        return cls(lm.name, lm.loading, lm.fingerprint)

    def load(self) -> LanguageModel:
        """The model, loaded once in a process. Raises FingerprintMismatch where it is another one on this machine."""
        global _loaded
        if _loaded is None or _loaded[0] != self:
            _loaded = None  # before another is loaded
            lm = load_model(self.name, self.loading)
            if lm.fingerprint != self.fingerprint:
                raise FingerprintMismatch(
                    f"The model {self.name} on {platform.node()}",
                    self.fingerprint,
                    lm.fingerprint,
                    fix="Every machine of the cluster must find the same model under this name.",
                )
            _loaded = (self, lm)
        return _loaded[1]


_loaded: tuple[_Source, LanguageModel] | None = None
"""In a worker: the model it holds."""


@dataclass(frozen=True)
class _ShardWork(Generic[R]):
    """Reducing one shard, as a worker does it."""

    sweep: Sweep
    """Without its model, sequences and engine."""
    source: _Source
    make: Callable[[], R]

    def __call__(self, item: tuple[Shard, Sequence[TokenSequence]]) -> tuple[dict[str, Tensor], int]:
        """The state of the shard's reducer, and how many tokens it took."""
        shard, sequences = item
        here = replace(self.sweep, lm=self.source.load(), sequences=_From(sequences, shard.start))
        with Capture(here.lm, here.layers) as capture:
            reducer = reduce_shard(here, capture, shard, reducer=self.make(), report=silent)
        return reducer.state_dict(), sum(len(one.input_ids) for one in sequences)


class _From(Sequence[TokenSequence]):
    """A part of the corpus under the numbers it has there."""

    def __init__(self, part: Sequence[TokenSequence], start: int) -> None:
        self.part, self.start = part, start

    def __len__(self) -> int:
        return self.start + len(self.part)

    def __getitem__(self, index: Any) -> Any:
        assert isinstance(index, slice), "a shard is read in one go"
        return self.part[index.start - self.start : index.stop - self.start]


def _send_tensors_as_arrays(device: str = "cpu") -> None:
    """Let this process send tensors as plain numbers, and put those it receives on `device`."""
    ray = _ray()

    def flat(tensor: Tensor) -> tuple[Any, torch.dtype, tuple[int, ...], bool]:
        whole = tensor.detach().cpu().contiguous()
        rows_aligned = tensor.dim() == 2 and tensor.stride() != whole.stride() and aligned_rows.copy(tensor) is tensor
        return whole.view(-1).view(torch.uint8).numpy(), whole.dtype, tuple(whole.shape), rows_aligned

    def tensor_of(parts: tuple[Any, torch.dtype, tuple[int, ...], bool]) -> Tensor:
        numbers, dtype, shape, rows_aligned = parts
        whole = torch.from_numpy(numbers.copy()).view(dtype).view(shape).to(device)
        return aligned_rows.copy(whole) if rows_aligned else whole

    ray.util.register_serializer(Tensor, serializer=flat, deserializer=tensor_of)


def _check_port(address: str | None) -> None:
    """Raises OSError where nothing listens at host:port; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()
