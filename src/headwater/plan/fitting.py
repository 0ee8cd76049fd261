"""Probes the fit: fits the curvature on a miniature and measures time, memory and disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from headwater.base.files import save_tensors
from headwater.base.memory_probe import Peak
from headwater.corpus.batches import make_batches
from headwater.curvature.base import Curvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenbases
from headwater.curvature.registry import kind_of
from headwater.curvature.sections import Section, sections_of
from headwater.curvature.store import save_curvature
from headwater.curvature.workbench import Workbench
from headwater.gradients.reducer import R
from headwater.lm.capture import Capture, Labels
from headwater.lm.layers import TrackedLayer
from headwater.plan.bases import probe_bases
from headwater.plan.layout import Layout
from headwater.plan.miniature import Miniature
from headwater.plan.timing import Clock, SweepCost, seconds_of
from headwater.sweep.sweep import Sweep, fold


@dataclass(frozen=True, kw_only=True)
class FitProbe:
    """Measurements of a fit on the miniature."""

    curvature: Curvature
    sweeps: Sequence[SweepCost]
    once: float
    """Seconds that do not grow with the corpus: decompositions, and writing the curvature."""
    memory: int
    """Peak bytes of the fit."""
    disk: int
    """Bytes of the curvature's file."""
    checkpoints: int
    """Bytes of temporary files until the fit is done."""
    state: int
    """Bytes of the largest sums of a sweep. The sums of a shard are held beside those of all earlier shards."""
    cached_per_token: float = 0.0
    """Bytes of gradients cached between two sweeps, per padded token; 0 if there is one sweep."""
    cache_limit: int = 0
    """Maximum bytes of the gradient cache."""
    parts: tuple[Section, ...] = ()
    """Groups of layers, if not all are fitted together."""
    per_pass: float = 0.0
    """Seconds of the model alone per padded token, if there are several parts."""

    def cached(self, layout: Layout) -> int:
        """Bytes of the gradient cache of a fit over `layout`."""
        return min(self.cache_limit, int(self.cached_per_token * layout.padded))

    def seconds(self, layout: Layout) -> float:
        """Seconds of a fit over `layout`. Batches that are not cached are computed twice, as in the first sweep."""
        swept = sum(sweep.seconds(layout) for sweep in self.sweeps)
        wanted = self.cached_per_token * layout.padded
        repeated = (1 - self.cached(layout) / wanted) * self.sweeps[0].seconds(layout) if wanted else 0.0
        return self.once + swept + repeated + max(0, len(self.parts) - 1) * self.per_pass * layout.padded


def probe_fit(mini: Miniature, binding: Mapping[str, str]) -> FitProbe:
    """Fit the curvature on the miniature. Raises HeadwaterError if its kind does not support that many parameters.

    The file has metadata like that of the real fit, so that its size is the same.
    """
    fit = mini.subject.fit
    clock = Clock()
    bench = Workbench(mini.folder / "curvature", "probe", clock)
    sweep = replace(mini.sweep, labels=Labels("sampled" if fit.fisher == "sampled" else "true", fit.seed))
    path = mini.folder / "curvature" / "curvature.safetensors"
    kind = kind_of(fit.curvature)
    parts = sections_of(sweep, fit.memory, fit.block_width) if kind.in_sections else []
    probing = _Probing(kind=fit.curvature, mini=mini, sweep=sweep, bench=bench, clock=clock)
    with Peak() as peak:
        curvature = kind.fit(probing)
        probing.once.append(seconds_of(lambda: save_curvature(path, curvature, binding)))
    checkpoints = [file.stat().st_size for file in bench.folder.glob("*.checkpoint.safetensors")]
    state = max(checkpoints, default=0)
    cache = probing.sweep.cache
    cached_per_token = cache.bytes / max(1, mini.layout.padded) if cache else 0.0
    bench.clear()
    return FitProbe(
        curvature=curvature,
        sweeps=probing.sweeps,
        once=sum(probing.once),
        memory=peak.bytes,
        disk=path.stat().st_size,
        checkpoints=sum(checkpoints),
        state=state,
        cached_per_token=cached_per_token,
        cache_limit=cache.limit if cache else 0,
        parts=tuple(parts),
        per_pass=_per_pass(mini) if len(parts) > 1 else 0.0,
    )


def _per_pass(mini: Miniature) -> float:
    """Seconds of the model alone per padded token."""
    batches = list(make_batches(mini.sweep.sequences[:], mini.sweep.token_budget))
    with Capture(mini.sweep.lm, mini.sweep.layers) as capture:
        return seconds_of(lambda: [capture(batch) for batch in batches]) / mini.layout.padded


@dataclass(kw_only=True)
class _Probing:
    """A Fitting that times each pass and does not decompose wide covariances."""

    kind: str
    mini: Miniature
    sweep: Sweep
    bench: Workbench
    clock: Clock
    sweeps: list[SweepCost] = field(default_factory=list[SweepCost])
    once: list[float] = field(default_factory=list[float])
    """Seconds that do not grow with the corpus."""

    @property
    def layers(self) -> tuple[TrackedLayer, ...]:
        return tuple(self.sweep.layers)

    @property
    def block_width(self) -> int | None:
        return self.mini.subject.fit.block_width

    @property
    def device(self) -> str:
        return str(self.sweep.lm.device)

    def fold(self, stage: str, make: Callable[[], R]) -> R:
        start = time.perf_counter()
        reducer = fold(replace(self.sweep, stage=stage), make, self.bench.checkpoint(stage), report=self.clock)
        self.sweeps.append(self.mini.cost_of_sweep(self.clock, stage, start, end=time.perf_counter()))
        return reducer

    def eigenbases(self, covariances: Covariances) -> Eigenbases:
        probed = probe_bases(covariances)
        covariances.sums.clear()
        checkpoint = self.bench.checkpoint("eigenbasis")
        written = seconds_of(lambda: save_tensors(checkpoint.path, probed.bases.tensors, {}))
        self.once.append(probed.seconds + written)
        return probed.bases

    def with_gradient_cache(self) -> Self:
        if self.sweep.lm.device.type == "cpu":  # as in a real fit
            self.sweep = replace(self.sweep, cache=self.bench.cache(self.sweep))
        return self
