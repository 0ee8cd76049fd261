"""The engine that is a Ray cluster: it sends shards and other pieces of work to actors that hold the model.

A piece of work depends on no other, and results are taken in order. So any number of workers gives the same bytes, if
each has the same number of threads. If a worker dies, another one gets the piece that it worked on.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Generic

from torch import Tensor

from headwater.base.progress import Report, Step, silent
from headwater.corpus.batches import TokenSequence
from headwater.errors import FingerprintMismatch, HeadwaterError, first_line
from headwater.gradients.reducer import R
from headwater.lm.capture import Capture
from headwater.lm.load import LanguageModel, load_model
from headwater.lm.options import Loading
from headwater.sweep.engine import LOCAL_ENGINE, Item, Result
from headwater.sweep.options import Workers
from headwater.sweep.ordered_results import MOST_DEATHS, OrderedResults
from headwater.sweep.ray_worker import Worker, send_tensors_as_arrays
from headwater.sweep.shard_gradients import reduce_shard
from headwater.sweep.shards import Shard
from headwater.sweep.sweep import Sweep


def _ray() -> Any:
    """Ray, imported at its first use."""
    import ray

    return ray


class RayEngine:
    """Workers of the cluster at `address`, for the length of a `with`. Without an address, a cluster on this machine.

    Raises HeadwaterError if Ray is not installed, no cluster answers, or it has no room for a single worker.
    """

    def __init__(self, workers: Workers = Workers(), address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise HeadwaterError("--engine ray needs Ray. Install it with: pip install 'headwater[ray]'")
        if workers.count < 1 or workers.cpus < 1 or workers.gpus < 0:
            raise HeadwaterError(
                "--workers and --cpus-per-worker must be at least 1, and --gpus-per-worker at least 0."
            )
        self.workers = workers
        self.address = address
        self.idle: list[Any] = []
        self.starting: dict[Any, Any] = {}
        """Future of a worker's start -> the worker."""
        self.failed_starts = 0
        """Workers that died one after the other before they had started."""

    def __enter__(self) -> RayEngine:
        ray = _ray()
        self._joined = not ray.is_initialized()
        if self._joined:
            try:
                _check_port(self.address)
                # Without an address, Ray would join the cluster that was last started on this machine by anybody.
                ray.init(
                    address=self.address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise HeadwaterError(
                    f"No Ray cluster answers at {self.address or 'this machine'}: {first_line(error)}. Start one with "
                    "`ray start --head`, and give its address with --address."
                ) from error
        send_tensors_as_arrays()
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
        """Each of `shards` with its reducer. A worker gets the sequences and returns the reducer's state."""
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

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        ray = _ray()
        return iter(OrderedResults(self, ray.put(work), items))

    def greet(self, started: Any) -> None:
        """Note that a worker has started. If it died instead, hire another."""
        ray = _ray()
        worker = self.starting.pop(started)
        try:
            ray.get(started)
        except ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > MOST_DEATHS * self.workers.count:
                raise HeadwaterError(
                    f"Workers of the Ray cluster do not start: {first_line(error)}. See Ray's logs on its nodes."
                ) from error
            self.dismiss(worker)
            self.hire()
        else:
            self.failed_starts = 0
            self.idle.append(worker)

    def dismiss(self, worker: Any) -> None:
        """Release a worker, dead or alive."""
        with contextlib.suppress(Exception):  # it may be unreachable
            _ray().kill(worker)

    def health_check(self) -> None:
        """Ask all idle workers whether they live. If one has died, its machine may be lost, with others on it."""
        self.starting |= {worker.ready.remote(): worker for worker in self.idle}
        self.idle.clear()

    def check_room(self) -> None:
        """Raises HeadwaterError if the whole cluster is too small for one worker."""
        ray = _ray()
        found = ray.cluster_resources()
        cpus, gpus = found.get("CPU", 0), found.get("GPU", 0)
        if cpus < self.workers.cpus or gpus < self.workers.gpus:
            raise HeadwaterError(
                f"The Ray cluster has no room for a worker of {self.workers.cpus} cores and {self.workers.gpus:g} "
                f"GPUs: it has {cpus:g} cores and {gpus:g} GPUs. Ask for less with --cpus-per-worker and "
                "--gpus-per-worker."
            )

    def hire(self) -> None:
        """Ask for one more worker. It is idle once it has started."""
        ray = _ray()
        worker = (
            ray.remote(Worker).options(num_cpus=self.workers.cpus, num_gpus=self.workers.gpus).remote(self.workers.cpus)
        )
        self.starting[worker.ready.remote()] = worker


@dataclass(frozen=True)
class _Source:
    """Where a worker loads the model from."""

    name: str
    loading: Loading
    fingerprint: str

    @classmethod
    def of(cls, lm: LanguageModel) -> _Source:
        if lm.in_memory:
            raise HeadwaterError(
                f"The workers of a cluster cannot load {lm.name}. Save it by save_pretrained(FOLDER), where every "
                "machine finds it, and give FOLDER as the model."
            )
        return cls(lm.name, lm.loading, lm.fingerprint)

    def load(self) -> LanguageModel:
        """The model, loaded once per process. Raises FingerprintMismatch if this machine has another model there."""
        global _loaded
        if _loaded is None or _loaded[0] != self:
            _loaded = None  # frees the one before
            lm = load_model(self.name, self.loading)
            if lm.fingerprint != self.fingerprint:
                raise FingerprintMismatch(
                    f"The model {self.name} on {platform.node()}",
                    self.fingerprint,
                    lm.fingerprint,
                    fix="Put the same model under this name on every machine of the cluster.",
                )
            _loaded = (self, lm)
        return _loaded[1]


_loaded: tuple[_Source, LanguageModel] | None = None
"""The model that this worker holds."""


@dataclass(frozen=True)
class _ShardWork(Generic[R]):
    """What a worker does for one shard."""

    sweep: Sweep
    """Without its model, sequences, cache and engine."""
    source: _Source
    make: Callable[[], R]

    def __call__(self, item: tuple[Shard, Sequence[TokenSequence]]) -> tuple[dict[str, Tensor], int]:
        """The state of the shard's reducer, and the number of tokens read."""
        shard, sequences = item
        here = replace(self.sweep, lm=self.source.load(), sequences=_PartOfCorpus(sequences, shard.start))
        with Capture(here.lm, here.layers) as capture:
            reducer = reduce_shard(here, capture, shard, reducer=self.make(), report=silent)
        return reducer.state_dict(), sum(len(one.input_ids) for one in sequences)


class _PartOfCorpus(Sequence[TokenSequence]):
    """A part of the corpus, indexed as in the whole corpus."""

    def __init__(self, part: Sequence[TokenSequence], start: int) -> None:
        self.part, self.start = part, start

    def __len__(self) -> int:
        return self.start + len(self.part)

    def __getitem__(self, index: Any) -> Any:
        assert isinstance(index, slice), "a shard is read as one slice"
        return self.part[index.start - self.start : index.stop - self.start]


def _check_port(address: str | None) -> None:
    """Raises OSError if nothing listens at host:port. Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()
